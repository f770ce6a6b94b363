"""The guard: the last thing before the wire. In this order: finite, names, workspace, joint limits, motion limits.

Motion limits are kept by a trajectory generator (Ruckig, Berscheid and Kroeger 2021, arXiv:2105.04830) and not by a
clip: every command goes on from position, velocity and acceleration of the one before, on a way that can come to rest
inside the limits. What the guard changes, it says.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from ruckig import ControlInterface, InputParameter, OutputParameter, Result, Ruckig, RuckigError, Synchronization

from vla_ros.errors import ActionError
from vla_ros.kinematics import ArmKinematics
from vla_ros.profile import RobotProfile, Workspace
from vla_ros.types import JointCommand, TwistCommand

ROUNDING = 1e-9  # differences below this are arithmetic, not interventions
LAG = 0.1  # [rad] behind its target, from which a joint that the motion limits hold back is spoken of
SLACK = 0.01  # [m] outside the workspace: a straight line between joint positions is none for the hand
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


class Motion:
    """N coordinates that move within limits of velocity, acceleration and jerk, one control period at a time.

    velocity, acceleration, jerk: (N,) [/s, /s^2, /s^3] the most, either way.
    """

    def __init__(self, period: float, velocity, acceleration, jerk):
        count = len(velocity)
        self._generator, self._output = Ruckig(count, period), OutputParameter(count)
        self._state = InputParameter(count)
        self._state.max_velocity, self._state.max_acceleration = list(velocity), list(acceleration)
        self._state.max_jerk = list(jerk)
        self._state.synchronization = Synchronization.No  # each as fast as it may: waiting for another is no safer
        self.begin(np.zeros(count))

    def begin(self, position) -> None:
        """At rest at `position` (N,)."""
        self.state = list(position), [0.0] * len(position), [0.0] * len(position)

    @property
    def position(self) -> np.ndarray:
        return np.array(self._state.current_position)

    @property
    def velocity(self) -> np.ndarray:
        return np.array(self._state.current_velocity)

    @property
    def acceleration(self) -> np.ndarray:
        return np.array(self._state.current_acceleration)

    @property
    def resting(self) -> bool:
        return not (self.velocity.any() or self.acceleration.any())

    @property
    def state(self) -> tuple[list[float], ...]:
        """Position, velocity and acceleration; may be set."""
        return self._state.current_position, self._state.current_velocity, self._state.current_acceleration

    @state.setter
    def state(self, state: tuple[list[float], ...]) -> None:
        self._state.current_position, self._state.current_velocity, self._state.current_acceleration = state

    def toward(self, position) -> None:
        """One period on the quickest way to rest at `position` (N,)."""
        self._state.control_interface = ControlInterface.Position
        self._state.target_position, self._state.target_velocity = list(position), [0.0] * len(position)
        self._go()

    def at(self, velocity) -> None:
        """One period on the quickest way to `velocity` (N,); zero brakes."""
        self._state.control_interface = ControlInterface.Velocity
        self._state.target_velocity = list(velocity)
        self._go()

    def _go(self) -> None:
        try:
            done = self._generator.update(self._state, self._output) in (Result.Working, Result.Finished)
        except RuckigError:
            done = False
        if not done:
            raise ActionError("limits", "no motion inside the limits leads from the last command to this one")
        self._output.pass_to_input(self._state)
        for name in ("current_velocity", "current_acceleration"):  # rest is rest, not rounding
            values = getattr(self._state, name)
            setattr(self._state, name, [value if abs(value) > ROUNDING else 0.0 for value in values])


class ArmGuard:
    """Positions inside the URDF's limits less a margin; velocity of the URDF, acceleration and jerk of the profile."""

    def __init__(self, profile: RobotProfile, kinematics: ArmKinematics):
        self.profile, self.kinematics, names = profile, kinematics, profile.joints
        self.low = dict(zip(names, kinematics.lower + profile.position_margin, strict=True))
        self.high = dict(zip(names, kinematics.upper - profile.position_margin, strict=True))
        for name in profile.gripper.joints if profile.gripper else ():
            self.low[name], self.high[name] = profile.gripper.closed / 2, profile.gripper.open / 2
        self.motion = Motion(1 / profile.control_rate, kinematics.max_velocity, profile.max_acceleration,
                             profile.max_jerk)
        self._fingers: dict[str, float] = {}
        self._begun = False

    def begin(self, measured: np.ndarray) -> None:
        """Motion starts at rest from `measured` joint positions (N,) [rad]. Raises ActionError when not finite."""
        require_finite(measured, "the measured positions are not finite: nothing bounds the first step")
        self.motion.begin(measured)
        self._begun = True

    def forget(self) -> None:
        """Nothing was commanded."""
        self._begun, self._fingers = False, {}

    @property
    def resting(self) -> bool:
        """Whether no motion is being commanded."""
        return not self._begun or self.motion.resting

    def check(self, command: JointCommand) -> Guarded:
        """The next command on the way to `command` [rad]. Raises ActionError for one that is not to be obeyed."""
        unknown = [n for n in command.positions if n not in self.low]
        missing = [n for n in self.profile.joints if n not in command.positions]
        if unknown or missing:
            raise ActionError("joints", f"command names unknown joints {unknown} and lacks {missing}; "
                                        f"known: {', '.join(self.low)}")
        require_finite(command.positions.values(), "command holds positions that are not finite")
        if not self._begun:
            raise ActionError("begin", "no measured positions to begin from")
        said: list[str] = []
        inside = {name: clamp(value, self.low[name], self.high[name], f"{name} position", said)
                  for name, value in command.positions.items()}
        self._advance([inside[name] for name in self.profile.joints], said)
        out = dict(zip(self.profile.joints, self.motion.position.tolist(), strict=True))
        said += [f"{name} {abs(inside[name] - value):.2g} rad behind" for name, value in out.items()
                 if abs(inside[name] - value) > LAG]
        self._fingers |= {name: value for name, value in inside.items() if name not in out}
        return Guarded(JointCommand(out | self._fingers), tuple(said))

    def brake(self) -> JointCommand | None:
        """The next command on the quickest way to rest; the fingers stay. None before any motion."""
        if not self._begun:
            return None
        self.motion.at(np.zeros(len(self.profile.joints)))
        return JointCommand(dict(zip(self.profile.joints, self.motion.position.tolist(), strict=True)) | self._fingers)

    def _advance(self, target: list[float], said: list[str]) -> None:
        """One period towards `target`; or of braking, where that would lead the hand out of the workspace, or further
        out."""
        before, was = self.motion.state, self._outside(self.motion.position)
        self.motion.toward(target)
        outside = self._outside(self.motion.position)
        if outside > SLACK and outside > was:
            said.append(f"workspace left by {outside:.3f} m: braking")
            self.motion.state = before  # it is not sent
            self.motion.at(np.zeros(len(target)))

    def _outside(self, q: np.ndarray) -> float:
        """[m] that the end effector is outside of the workspace; 0 inside."""
        place, box = self.kinematics.forward(q).position, self.profile.workspace
        return float(np.linalg.norm(place - np.clip(place, box.min, box.max)))


class BaseGuard:
    """Speed, acceleration and jerk limits of the profile."""

    def __init__(self, profile: RobotProfile):
        self.limits = limits = profile.limits
        self.motion = Motion(1 / profile.control_rate, (limits.v, limits.w),
                             (limits.v_acceleration, limits.w_acceleration), (limits.v_jerk, limits.w_jerk))
        self._begun = False

    def begin(self) -> None:
        """Motion starts at rest."""
        self.motion.begin(np.zeros(2))
        self._begun = True

    def forget(self) -> None:
        """Nothing was commanded."""
        self._begun = False

    @property
    def resting(self) -> bool:
        return not self._begun or self.motion.resting

    def check(self, command: TwistCommand) -> Guarded:
        """The next command on the way to `command`. Raises ActionError when not finite. A bounded rate of change is how
        every step is executed, and nothing to be spoken of."""
        require_finite((command.v, command.w), "command holds velocities that are not finite")
        said: list[str] = []
        self.motion.at((clamp(command.v, -self.limits.v, self.limits.v, "v", said),
                        clamp(command.w, -self.limits.w, self.limits.w, "w", said)))
        return Guarded(TwistCommand(*self.motion.velocity.tolist()), tuple(said))

    def brake(self) -> TwistCommand | None:
        """The next command on the quickest way to rest. None before any motion."""
        if not self._begun:
            return None
        self.motion.at((0.0, 0.0))
        return TwistCommand(*self.motion.velocity.tolist())
