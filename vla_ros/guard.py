"""The guard: the last thing before the wire. In this order: finite, names, joint limits, speed, workspace.

Every command goes on from the one before, and a motion begins where the robot is measured. What the guard changes, it
says.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from vla_ros.errors import ActionError
from vla_ros.kinematics import ArmKinematics
from vla_ros.profile import RobotProfile, Workspace
from vla_ros.types import JointCommand, TwistCommand

ROUNDING = 1e-9  # differences below this are arithmetic, not interventions
SETTLED = 0.2  # [s] of commands of rest, after which an arm has come to where it was told
SLACK = 0.05  # [m] outside the workspace: at full speed joint limits bend the way of the hand by as much
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


class ArmGuard:
    """Positions inside the URDF's limits less a margin, no faster than its velocity limits, hand in the workspace."""

    def __init__(self, profile: RobotProfile, kinematics: ArmKinematics):
        self.profile, self.kinematics, names = profile, kinematics, profile.joints
        self.low = dict(zip(names, kinematics.lower + profile.position_margin, strict=True))
        self.high = dict(zip(names, kinematics.upper - profile.position_margin, strict=True))
        self.step = dict(zip(names, kinematics.max_velocity / profile.control_rate, strict=True))  # [rad] a period
        for name in profile.gripper.joints if profile.gripper else ():
            self.low[name], self.high[name] = profile.gripper.closed / 2, profile.gripper.open / 2
        self.forget()

    def begin(self, measured: np.ndarray) -> None:
        """Motion starts from `measured` joint positions (N,) [rad]. Raises ActionError when not finite."""
        require_finite(measured, "the measured positions are not finite: nothing bounds the first step")
        self._before = (self._before or {}) | dict(zip(self.profile.joints, measured.tolist(), strict=True))

    def forget(self) -> None:
        """Nothing was commanded."""
        self._before: dict[str, float] | None = None  # [rad, m] the targets that went out last
        self._held = 0  # periods since the last motion
        self._sent = False  # a command, of all joints

    @property
    def resting(self) -> bool:
        """Whether no motion is being commanded, for long enough that there is none."""
        return self._before is None or self._held >= SETTLED * self.profile.control_rate

    def check(self, command: JointCommand) -> Guarded:
        """The next command on the way to `command` [rad]. Raises ActionError for one that is not to be obeyed."""
        unknown = [n for n in command.positions if n not in self.low]
        missing = [n for n in self.profile.joints if n not in command.positions]
        if unknown or missing:
            raise ActionError("joints", f"command names unknown joints {unknown} and lacks {missing}; "
                                        f"known: {', '.join(self.low)}")
        require_finite(command.positions.values(), "command holds positions that are not finite")
        if self._before is None:
            raise ActionError("begin", "no measured positions to begin from")
        said: list[str] = []
        out = {name: self._inside(name, value, said) for name, value in command.positions.items()}
        self._held, self._sent, self._before = 0, True, self._before | self._cleared(out, said)
        return Guarded(JointCommand(dict(self._before)), tuple(said))

    def brake(self) -> JointCommand | None:
        """The last targets: a controller of positions comes to rest there. None before any command."""
        self._held += 1
        return JointCommand(dict(self._before)) if self._sent else None

    def _inside(self, name: str, value: float, said: list[str]) -> float:
        value = clamp(value, self.low[name], self.high[name], f"{name} position", said)
        if name not in self.step:
            return value
        reach, before = self.step[name] + ROUNDING, self._before[name]
        return clamp(value, before - reach, before + reach, f"{name} step", said)

    def _cleared(self, out: dict[str, float], said: list[str]) -> dict[str, float]:
        """`out`; or nothing new for the arm where it leads the hand out of the workspace, or further out."""
        was, outside = self._outside(self._before), self._outside(out)
        if outside <= max(SLACK, was):
            return out
        said.append(f"workspace left by {outside:.3f} m: holding")
        return {name: value for name, value in out.items() if name not in self.step}

    def _outside(self, positions: dict[str, float]) -> float:
        """[m] that the end effector is outside of the workspace; 0 inside."""
        place = self.kinematics.forward(np.array([positions[name] for name in self.profile.joints])).position
        box = self.profile.workspace
        return float(np.linalg.norm(place - np.clip(place, box.min, box.max)))


class BaseGuard:
    """Speed and acceleration limits of the profile."""

    def __init__(self, profile: RobotProfile):
        self.limits, self.dt = profile.limits, 1 / profile.control_rate
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
        """The next command on the way to `command`. Raises ActionError when not finite. A bounded rate of change is how
        every step is executed, and nothing to be spoken of."""
        require_finite((command.v, command.w), "command holds velocities that are not finite")
        said: list[str] = []
        limits, dt, before = self.limits, self.dt, self._before or TwistCommand(0.0, 0.0)
        v = clamp(command.v, -limits.v, limits.v, "v", said)
        w = clamp(command.w, -limits.w, limits.w, "w", said)
        v = float(np.clip(v, before.v - limits.v_acceleration * dt, before.v + limits.v_acceleration * dt))
        w = float(np.clip(w, before.w - limits.w_acceleration * dt, before.w + limits.w_acceleration * dt))
        self._before = TwistCommand(v, w)
        return Guarded(self._before, tuple(said))

    def brake(self) -> TwistCommand | None:
        """The next command on the way to rest. None before any motion."""
        return None if self._before is None else self.check(TwistCommand(0.0, 0.0)).command
