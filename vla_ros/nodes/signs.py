"""Which of the others still live, by when they were heard last. No ROS, no clock."""

from __future__ import annotations

from collections.abc import Mapping

from vla_ros.profile import RobotProfile

POLICY, TASK, ROBOT = "policy node", "task node", "robot's joint states"
REST = 0.55  # [s] from a fault to rest, and a little less than is promised
SHORTEST, LONGEST = 0.1, 0.4  # [s] of silence: the heartbeats come at 20 Hz
PAUSE = 1.0  # [s] without joint states: a simulator that is slow for a moment does not end a motion


def silence_limit(profile: RobotProfile) -> float:
    """[s] What is left of REST when a base has braked from its full speed; an arm holds at once."""
    limits = profile.limits
    braking = max(limits.v / limits.v_acceleration, limits.w / limits.w_acceleration) if limits else 0.0
    return min(max(REST - braking, SHORTEST), LONGEST)


class Signs:
    """limits: [s] steady that each may be silent, by name. Only who has been heard can be missed."""

    def __init__(self, limits: Mapping[str, float]):
        self.limits = dict(limits)
        self._heard: dict[str, float] = {}

    def heard(self, name: str, now: float) -> None:
        self._heard[name] = now

    def forget(self) -> None:
        """For a new instruction: who is not heard from now on has no part in it."""
        self._heard.clear()

    def silent(self, now: float) -> str:
        """The name of one that is silent for too long; empty when there is none."""
        return next((name for name, last in self._heard.items() if now - last > self.limits[name]), "")
