"""The guard: the last thing before the wire. In this order: finite, names, joint limits, speed, workspace.

Every command goes on from the one before, and a motion begins where the robot is measured. Where the profile has limits
of acceleration and jerk, an arm moves by plans that keep them (motion.py). What the guard changes, it says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from vla_ros.errors import ActionError
from vla_ros.kinematics import ArmKinematics
from vla_ros.motion import Motion
from vla_ros.profile import RobotProfile, Workspace
from vla_ros.types import JointCommand, TwistCommand

ROUNDING = 1e-9  # differences below this are arithmetic, not interventions
BEHIND = 1e-3  # [rad] between a target and what goes out, from which limits of motion are spoken of
SETTLED = 0.2  # [s] of commands of rest, after which an arm has come to where it was told
ASTRAY = 0.5  # [rad] beyond its limits no joint can be: whoever measured it is wrong
SLACK = 0.05  # [m] outside the workspace, sideways and above: at full speed joint limits bend the hand's way by as much
CLEARANCE = 0.01  # [m] below it, where the table is
AXES = "xyz"


@dataclass(frozen=True)
class Guarded:
    """A command that may go out, and what was changed to make it so."""

    command: JointCommand | TwistCommand
    interventions: tuple[str, ...] = ()


def require_finite(values: Iterable[float], text: str) -> None:
    """Raises ActionError unless every value is finite: comparisons with NaN are false, so a clamp would let it pass."""
    if not np.isfinite(list(values)).all():
        raise ActionError("finite", text)


def clamp(value: float, low: float, high: float, name: str, said: list[str]) -> float:
    """`value` inside [low, high]; a change is written to `said`."""
    inside = min(max(value, low), high)
    if abs(inside - value) > ROUNDING:
        said.append(f"{name} {value:.4g} to {inside:.4g}")
    return inside


def clamp_place(place: np.ndarray, box: Workspace, said: list[str]) -> np.ndarray:
    """A place (3,) [m] inside the workspace; a change is written to `said`. Raises ActionError when not finite."""
    require_finite(place, "the way leads to a place that is not finite")
    return np.array([clamp(float(value), low, high, f"workspace {axis}", said)
                     for axis, value, low, high in zip(AXES, place, box.min, box.max, strict=True)])


def further(outside: np.ndarray, before: np.ndarray) -> bool:
    """Whether a place is further outside along any axis: one that comes back from a side must not dip into a table."""
    return bool((outside > np.maximum(before, ROUNDING)).any())


class ArmGuard:
    """Positions inside the URDF's limits less a margin, no faster than its velocity limits, hand in the workspace.

    With `motion` in the profile also within its limits of acceleration and jerk, in braking too. Fingers are told to be
    open or closed, and go there at their own controller's speed; where velocities are commanded there is none, so that
    the URDF's limit holds for them too.
    """

    def __init__(self, profile: RobotProfile, kinematics: ArmKinematics):
        self.profile, self.kinematics, names = profile, kinematics, profile.joints
        low, high = kinematics.lower + profile.position_margin, kinematics.upper - profile.position_margin  # [rad]
        self.low, self.high = dict(zip(names, low, strict=True)), dict(zip(names, high, strict=True))
        box = profile.workspace
        self.room = Workspace(tuple(np.array(box.min) - (SLACK, SLACK, CLEARANCE)), tuple(np.array(box.max) + SLACK))
        self.step = dict(zip(names, kinematics.max_velocity / profile.control_rate, strict=True))  # [rad] a period
        for name in profile.gripper.joints if profile.gripper else ():
            self.low[name], self.high[name] = profile.gripper.closed / 2, profile.gripper.open / 2
        speeds = kinematics.finger_speed if profile.command.interface == "velocity" else {}
        self.finger_step = {name: speed / profile.control_rate for name, speed in speeds.items()}  # [m] a period
        limits = profile.motion
        self.motion = limits and Motion(1 / profile.control_rate, low, high, kinematics.max_velocity,
                                        limits.acceleration, limits.jerk)
        self.forget()

    def begin(self, measured: np.ndarray, fingers: Mapping[str, float] | None = None) -> None:
        """Motion starts from `measured` joint positions (N,) [rad], and `fingers` [m] unless those were commanded by
        position: what holds a thing is told to close further than it can. Raises ActionError where no such joint can
        be, or none at all: NaN lies in no limits."""
        for name, value in zip(self.profile.joints, measured, strict=True):
            if not self.low[name] - ASTRAY <= value <= self.high[name] + ASTRAY:
                raise ActionError("astray", f"{name} is measured at {value:.3g} rad, its limits are "
                                            f"{self.low[name]:.3g} to {self.high[name]:.3g}: nothing moves from there")
        inside = {name: min(max(value, self.low[name]), self.high[name]) for name, value in (fingers or {}).items()
                  if np.isfinite(value)}
        self._before = inside | (self._before or {}) | (inside if self.finger_step else {}) | self._joints(measured)
        if self.motion:
            self.motion.begin(measured)

    def forget(self) -> None:
        """Nothing was commanded."""
        self._before: dict[str, float] | None = None  # [rad, m] the targets that went out last
        self._held = 0  # periods since the last motion
        self._sent = False  # a command, of all joints

    @property
    def before(self) -> Mapping[str, float]:
        """[rad, m] from where the next command goes on."""
        return self._before or {}

    @property
    def braking(self) -> float:
        """[s] from full speed to rest: without limits of motion the arm is told to stay at once."""
        return self.motion.braking if self.motion else 0.0

    @property
    def ahead(self) -> int:
        """Periods to come whose targets the guard makes use of."""
        return self.motion.horizon - 1 if self.motion else 0

    @property
    def resting(self) -> bool:
        """Whether no motion is being commanded, for long enough that there is none."""
        return self._before is None or self._held >= SETTLED * self.profile.control_rate

    def check(self, command: JointCommand, ahead: np.ndarray | None = None) -> Guarded:
        """The next command on the way to `command` [rad]. Raises ActionError for one that is not to be obeyed.

        ahead: (any, N) [rad] the targets of the periods after it, as far as they are known.
        """
        unknown = [n for n in command.positions if n not in self.low]
        missing = [n for n in self.profile.joints if n not in command.positions]
        if unknown or missing:
            raise ActionError("joints", f"command names unknown joints {unknown} and lacks {missing}; "
                                        f"known: {', '.join(self.low)}")
        require_finite(command.positions.values(), "command holds positions that are not finite")
        if ahead is not None:
            require_finite(ahead.flat, "the way ahead holds positions that are not finite")
        if self._before is None:
            raise ActionError("begin", "no measured positions to begin from")
        said: list[str] = []
        out = {name: clamp(value, self.low[name], self.high[name], f"{name} position", said)
               for name, value in command.positions.items()}
        out |= self._fingers(out, said)
        out |= self._planned(out, ahead, said) if self.motion else self._stepped(out, said)
        self._held, self._sent, self._before = 0, True, self._before | out
        return Guarded(JointCommand(dict(self._before)), tuple(said))

    def brake(self) -> JointCommand | None:
        """The last targets: a controller of positions comes to rest there. With limits of motion the next on the way to
        rest. None before any command."""
        if self.motion and self._sent:
            self.motion.brake(self._stays_inside)
            self._before = self._before | self._joints(self.motion.position)
        self._held = self._held + 1 if self.motion is None or self.motion.resting else 0
        return JointCommand(dict(self._before)) if self._sent else None

    def _joints(self, q: np.ndarray) -> dict[str, float]:
        return dict(zip(self.profile.joints, q.tolist(), strict=True))

    def _fingers(self, out: dict[str, float], said: list[str]) -> dict[str, float]:
        """At most one period of their highest speed away."""
        return {name: clamp(out[name], self._before[name] - step, self._before[name] + step, f"{name} step", said)
                for name, step in self.finger_step.items() if name in out and name in self._before}

    def _stepped(self, out: dict[str, float], said: list[str]) -> dict[str, float]:
        """The arm's part of `out`, at most one period of the highest speed away; or where it was, if that leads the
        hand out of the workspace, or further out."""
        before = {name: self._before[name] for name in self.profile.joints}
        reach = {name: step + ROUNDING for name, step in self.step.items()}
        next_ = {name: clamp(out[name], value - reach[name], value + reach[name], f"{name} step", said)
                 for name, value in before.items()}
        outside = self._outside(next_.values())
        if further(outside, self._outside(before.values())):
            said.append(f"workspace and its margin left by {outside.max():.3f} m: holding")
            return before
        return next_

    def _planned(self, out: dict[str, float], ahead: np.ndarray | None, said: list[str]) -> dict[str, float]:
        """The arm's part of `out`, as near as the limits of motion allow; braking, where no way leads on."""
        wanted = np.array([[out[name] for name in self.profile.joints]])
        if ahead is not None and len(ahead):
            wanted = np.vstack([wanted, ahead])
        if not self.motion.follow(wanted, self._stays_inside):
            said.append("workspace and limits leave no way on: braking")
        made = self._joints(self.motion.position)
        said += [f"{name} motion {out[name]:.4g} to {value:.4g}" for name, value in made.items()
                 if abs(out[name] - value) > BEHIND]
        return made

    def _stays_inside(self, plan: np.ndarray) -> bool:
        """Whether a plan (H, N) nowhere leads the hand out of the workspace, or further out than it was just before."""
        way = [self._outside(q) for q in (self.motion.position, *plan)]
        return not any(further(after, before) for before, after in zip(way, way[1:], strict=False))

    def _outside(self, q: Iterable[float]) -> np.ndarray:
        """(3,) [m] that the end effector is outside of the room that it has around the workspace, along each axis; 0
        inside."""
        place = self.kinematics.forward(np.array([*q])).position
        return np.abs(place - np.clip(place, self.room.min, self.room.max))


class BaseGuard:
    """Speed and acceleration limits of the profile."""

    ahead, before = 0, MappingProxyType({})  # as of ArmGuard

    def __init__(self, profile: RobotProfile):
        self.limits, self.dt = profile.limits, 1 / profile.control_rate
        self.braking = max(self.limits.v / self.limits.v_acceleration, self.limits.w / self.limits.w_acceleration)
        self._before: TwistCommand | None = None

    def begin(self) -> None:
        """Motion starts at rest."""
        self._before = TwistCommand(0.0, 0.0)

    def forget(self) -> None:
        """Nothing was commanded."""
        self._before = None

    @property
    def resting(self) -> bool:
        return self._before in (None, TwistCommand(0.0, 0.0))

    def check(self, command: TwistCommand) -> Guarded:
        """The next command on the way to `command`. Raises ActionError when not finite."""
        require_finite((command.v, command.w), "command holds velocities that are not finite")
        said: list[str] = []
        limits, dt, before = self.limits, self.dt, self._before or TwistCommand(0.0, 0.0)
        v = clamp(command.v, -limits.v, limits.v, "v", said)
        w = clamp(command.w, -limits.w, limits.w, "w", said)
        v = clamp(v, before.v - limits.v_acceleration * dt, before.v + limits.v_acceleration * dt, "v step", said)
        w = clamp(w, before.w - limits.w_acceleration * dt, before.w + limits.w_acceleration * dt, "w step", said)
        self._before = TwistCommand(v, w)
        return Guarded(self._before, tuple(said))

    def brake(self) -> TwistCommand | None:
        """The next command on the way to rest. None before any motion."""
        return None if self._before is None else self.check(TwistCommand(0.0, 0.0)).command
