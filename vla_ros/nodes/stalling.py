"""Whether a robot that is told to move does, and gets anywhere. No ROS, no clock of its own.

A joint in working order follows its target within tenths of a second. Where every joint stays where it is while some
target is well away from it, for seconds, the drives are off, the robot is blocked, or nobody listens to the commands.
"""

from __future__ import annotations

from dataclasses import dataclass

from vla_ros.kinematics import wheel_speeds
from vla_ros.profile import RobotProfile
from vla_ros.types import Command, JointState, TwistCommand


@dataclass(frozen=True)
class Tolerances:
    """band: [rad or m] a joint that stays within it of where it was did not move: above the noise of an encoder.
    gap: [rad or m] a target that is further than this from a joint tells it to move: ten bands, more than any error of
    tracking, and less than a second of slow motion."""

    band: float
    gap: float


ARM = Tolerances(0.003, 0.03)  # 0.03 rad is 1.5 cm at half a metre
WHEELS = Tolerances(0.02, 0.2)  # of a wheel of 18 cm: 3.6 mm and 3.6 cm
PLACE = {"arm": 0.05, "fingers": 0.005}  # [rad], [m] a joint within it is where it was: 2.5 cm at half a metre
AHEAD = 1.0  # [s] a velocity tells a wheel to be where it takes it in this time


class Stalling:
    """patience: [s] that the joints may stay where they are while they are told to move; 0: for ever.

    The fingers do not count: to close on a thing and move no further is what they are for.
    """

    def __init__(self, profile: RobotProfile, patience: float):
        self.profile, self._patience = profile, round(patience * 1e9)
        self.tolerances = ARM if profile.kind == "arm" else WHEELS
        self.forget()

    def forget(self) -> None:
        """Begins anew: with other words, after a stop, when nothing is known of what was before."""
        self.reason = ""  # for how long no joint has moved, and which has furthest to go; empty: the robot is well
        self._rest: dict[str, float] | None = None  # [rad or m] where the joints were when they moved last
        self._since: int | None = None  # [ns] when those that rest there were told to move, first
        self._told = 0  # [ns] and last

    def add(self, now: int, command: Command, measured: JointState) -> None:
        """A command of a chunk, that goes out at `now` [ns], and the newest joint states."""
        joints = {name: measured.positions[name] for name in self.profile.joints}
        if self._rest is None or any(abs(joints[n] - self._rest[n]) > self.tolerances.band for n in joints):
            self.forget()
            self._rest = joints
        elif now - self._told > self._patience:
            self._since, self.reason = None, ""
        gaps = self._gaps(command, joints)
        name = max(gaps, key=gaps.get)
        if gaps[name] <= self.tolerances.gap:
            return
        self._since, self._told = now if self._since is None else self._since, now
        if 0 < self._patience <= now - self._since:
            self.reason = (f"told to move for {(now - self._since) / 1e9:.1f} s, but no joint does; "
                           + self._furthest(name, gaps[name]))

    def _gaps(self, command: Command, joints: dict[str, float]) -> dict[str, float]:
        """By joint, how far it is from where the command wants it [rad or m]."""
        if isinstance(command, TwistCommand):
            speeds = wheel_speeds(self.profile, command.v, command.w)
            return {name: abs(speed) * AHEAD for name, speed in speeds.items()}
        return {name: abs(command.positions[name] - joints[name]) for name in joints}

    def _furthest(self, name: str, gap: float) -> str:
        if self.profile.kind == "base":
            return f"{name} should turn at {gap / AHEAD:.2f} rad/s"
        return f"{name} is {gap:.3f} rad (or m) from its target"


class Staying:
    """patience: [s] that an arm may stay in one place while chunks are executed, however it moves there; 0: for ever.

    As Nav2's progress checker asks of a base. A base of ours is not asked: its wheels turn also in a circle.
    """

    def __init__(self, profile: RobotProfile, patience: float):
        self._patience = round(patience * 1e9) if profile.kind == "arm" else 0
        self._room = dict.fromkeys(profile.joints, PLACE["arm"]) | dict.fromkeys(
            profile.gripper.joints if profile.gripper else (), PLACE["fingers"])
        self.forget()

    def forget(self) -> None:
        """Begins anew: with other words, after a stop, when nothing is known of what was before."""
        self.reason = ""
        self._place: dict[str, float] = {}  # [rad or m] where the joints were
        self._since = self._told = 0  # [ns] since when they are there, and when they were told to move last

    def add(self, now: int, measured: JointState) -> None:
        """The newest joint states when a command of a chunk goes out at `now` [ns]."""
        if not self._patience:
            return
        joints = measured.positions
        left = any(abs(joints.get(name, place) - place) > self._room[name] for name, place in self._place.items())
        if not self._place or left or now - self._told > self._patience:
            self.forget()
            self._place, self._since = {name: joints[name] for name in self._room if name in joints}, now
        self._told = now
        if now - self._since >= self._patience:
            self.reason = f"the arm has stayed within {PLACE['arm']:g} rad for {(now - self._since) / 1e9:.1f} s"
