"""Which of the others still live, by when they were heard last. No ROS, no clock."""

from __future__ import annotations

from collections.abc import Mapping

from vla_ros.types import JointState

POLICY, TASK, ROBOT = "policy node", "task node", "robot's joint states"
REST = 0.55  # [s] from a fault to rest, and a little less than is promised
SHORTEST, LONGEST = 0.1, 0.4  # [s] of silence: the heartbeats come at 20 Hz
PAUSE = 1.0  # [s] without joint states, or of a clock that stands: a simulator that is slow for a moment ends no motion


def silence_limit(braking: float) -> float:
    """[s] What is left of REST by a robot that has braked from its full speed within `braking` [s]."""
    return min(max(REST - braking, SHORTEST), LONGEST)


def age_fault(joints: JointState | None, now: int, limit: float) -> str:
    """Why joint states do not say where the robot is at `now` [ns]; empty when they are at most `limit` [s] old."""
    if joints is None:
        return "nothing received from joint_states"
    age = (now - joints.stamp) / 1e9
    if age < -limit:
        return f"joint states are stamped {-age:.3f} s ahead of the clock"
    return f"joint states are {age:.3f} s old, at most {limit} s" if age > limit else ""


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
