"""The guard: the last thing before the wire. Nothing passes that is not finite; what it clamps, it says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from vla_ros.errors import ActionError
from vla_ros.kinematics import ArmKinematics
from vla_ros.profile import RobotProfile
from vla_ros.types import JointCommand, TwistCommand

ROUNDING = 1e-9  # differences below this are arithmetic, not interventions


@dataclass(frozen=True)
class Guarded:
    """A command that may go out, and what was changed to make it so."""

    command: JointCommand | TwistCommand
    interventions: tuple[str, ...]


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


class ArmGuard:
    """Position and velocity limits of the URDF, per joint, against the target that went out before."""

    def __init__(self, profile: RobotProfile, kinematics: ArmKinematics):
        names = profile.joints
        self.low = dict(zip(names, kinematics.lower, strict=True))
        self.high = dict(zip(names, kinematics.upper, strict=True))
        self.step = dict(zip(names, kinematics.max_velocity / profile.control_rate, strict=True))  # [rad] a tick
        for name in profile.gripper.joints if profile.gripper else ():
            self.low[name], self.high[name] = profile.gripper.closed / 2, profile.gripper.open / 2

    def check(self, command: JointCommand, before: dict[str, float]) -> Guarded:
        """before: the previous targets, or the measured positions [rad]. Raises ActionError when not finite."""
        unknown = [n for n in command.positions if n not in self.low]
        if unknown:
            raise ActionError("joints", f"command names unknown joints {unknown}; known: {', '.join(self.low)}")
        require_finite(command.positions.values(), "command holds positions that are not finite")
        require_finite(before.values(), "the positions before are not finite: nothing bounds the step")
        said, out = [], {}
        for name, value in command.positions.items():
            value = clamp(value, self.low[name], self.high[name], f"{name} position", said)
            if name in self.step and name in before:
                reach = self.step[name] + ROUNDING
                value = clamp(value, before[name] - reach, before[name] + reach, f"{name} step", said)
            out[name] = value
        return Guarded(JointCommand(out), tuple(said))


class BaseGuard:
    """Speed and acceleration limits of the profile, against the velocity that went out before."""

    def __init__(self, profile: RobotProfile):
        self.limits = profile.limits
        self.dt = 1 / profile.control_rate

    def check(self, command: TwistCommand, before: TwistCommand) -> Guarded:
        """Raises ActionError when not finite."""
        require_finite((command.v, command.w), "command holds velocities that are not finite")
        require_finite((before.v, before.w), "the velocities before are not finite: nothing bounds the change")
        said: list[str] = []
        limits, dt = self.limits, self.dt
        v = clamp(command.v, -limits.v, limits.v, "v", said)
        w = clamp(command.w, -limits.w, limits.w, "w", said)
        # A bounded rate of change is how every step is executed, not a mistake of the policy: it is not counted.
        v = float(np.clip(v, before.v - limits.v_acceleration * dt, before.v + limits.v_acceleration * dt))
        w = float(np.clip(w, before.w - limits.w_acceleration * dt, before.w + limits.w_acceleration * dt))
        return Guarded(TwistCommand(v, w), tuple(said))
