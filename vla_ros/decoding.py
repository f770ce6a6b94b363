"""The decoder: from the steps of a chunk to what the robot is told, joint targets or a base velocity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pinocchio as pin

from vla_ros.chunking import Step
from vla_ros.guard import clamp_place
from vla_ros.kinematics import ArmKinematics
from vla_ros.profile import RobotProfile
from vla_ros.spec import ActionSpec
from vla_ros.types import ActionChunk, JointCommand, JointState, Pose, TwistCommand

TRANSLATION = ("dx", "dy", "dz")
ROTATION = ("droll", "dpitch", "dyaw")


@dataclass(frozen=True)
class Waypoints:
    """The end effector's way through a chunk: T + 1 poses, the first where it was observed; gripper (T,) or None."""

    positions: np.ndarray  # (T + 1, 3) [m]
    rotations: np.ndarray  # (T + 1, 3, 3)
    gripper: np.ndarray | None  # (T,) fraction, 1 open

    def pose(self, step: Step) -> Pose:
        """The pose a fraction into a step, on a straight line and the shortest rotation."""
        a, b = step.index, step.index + 1
        turn = pin.log3(self.rotations[a].T @ self.rotations[b])
        return Pose(self.positions[a] + step.fraction * (self.positions[b] - self.positions[a]),
                    self.rotations[a] @ pin.exp3(step.fraction * turn))


def columns(values: np.ndarray, spec: ActionSpec, names: tuple[str, ...]) -> np.ndarray:
    """The named columns (T, len(names)) of a chunk's values; a dimension that the spec lacks stays still: zero."""
    return np.stack([values[:, spec.names.index(n)] if n in spec.names else np.zeros(len(values)) for n in names], 1)


def waypoints(chunk: ActionChunk, observed: Pose, level: np.ndarray | None = None) -> Waypoints:
    """Poses of a delta chunk, cumulated on the pose at its observation.

    level: rotation (3, 3) to start from instead of the observed one when the spec has no rotation, so that
    small tracking errors of the orientation do not add up.
    """
    values, spec = np.asarray(chunk.values, float), chunk.spec
    moves, turns = columns(values, spec, TRANSLATION), columns(values, spec, ROTATION)
    positions = observed.position + np.concatenate([np.zeros((1, 3)), np.cumsum(moves, axis=0)])
    turning = any(name in spec.names for name in ROTATION)
    rotations = [observed.rotation if turning or level is None else level]
    for turn in turns:  # roll, pitch, yaw about the axes of the spec's frame
        rotations.append(pin.exp3(turn) @ rotations[-1])
    gripper = values[:, spec.names.index("gripper")] if "gripper" in spec.names else None
    return Waypoints(positions, np.stack(rotations), gripper)


class ArmDecoder:
    """End-effector steps to joint position targets by differential IK, from the last target on."""

    def __init__(self, profile: RobotProfile, kinematics: ArmKinematics):
        self.profile, self.kinematics = profile, kinematics
        self.level = kinematics.forward(np.array(profile.home)).rotation
        self.reset()

    def reset(self) -> None:
        self._target: np.ndarray | None = None  # (N,) [rad] last joint target
        self._chunk: ActionChunk | None = None
        self._way: Waypoints | None = None

    def decode(self, step: Step, observed: JointState, current: JointState, said: list[str]) -> JointCommand:
        """observed: the joints at the chunk's observation; current: now, where the first target starts from. A place
        outside the workspace is brought inside, and that is written to `said`."""
        if self._chunk is not step.chunk:
            pose = self.kinematics.forward(self.kinematics.vector(observed))
            self._way, self._chunk = waypoints(step.chunk, pose, self.level), step.chunk
        if self._target is None:
            self._target = self.kinematics.vector(current)
        goal = self._way.pose(step)
        goal = Pose(clamp_place(goal.position, self.profile.workspace, said), goal.rotation)
        self._target = self.kinematics.step(self._target, goal, 1 / self.profile.control_rate)
        positions = dict(zip(self.profile.joints, self._target.tolist(), strict=True))
        return JointCommand(positions | self._fingers(step.index))

    def _fingers(self, index: int) -> dict[str, float]:
        gripper = self.profile.gripper
        if gripper is None or self._way.gripper is None:
            return {}
        fraction = float(np.clip(self._way.gripper[index], 0.0, 1.0))
        half = (gripper.closed + fraction * (gripper.open - gripper.closed)) / 2
        return dict.fromkeys(gripper.joints, half)


class BaseDecoder:
    """Velocity steps to a base velocity; each holds for its period."""

    def reset(self) -> None:
        """Nothing to forget."""

    def decode(self, step: Step, observed: JointState, current: JointState, said: list[str]) -> TwistCommand:
        row, names = step.chunk.values[step.index], step.chunk.spec.names
        return TwistCommand(v=float(row[names.index("v")]), w=float(row[names.index("w")]))
