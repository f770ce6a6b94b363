"""The decoder: from the steps of a chunk to what the robot is told, joint targets or a base velocity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pinocchio as pin

from vla_ros.chunking import Step
from vla_ros.guard import clamp, clamp_place
from vla_ros.kinematics import ArmKinematics
from vla_ros.profile import RobotProfile
from vla_ros.spec import ActionSpec
from vla_ros.types import ActionChunk, JointCommand, JointState, Pose, TwistCommand

Observed = Callable[[int], JointState]  # the measured joints of a moment [ns]

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
        return between(Pose(self.positions[a], self.rotations[a]), Pose(self.positions[b], self.rotations[b]),
                       step.fraction)


def between(a: Pose, b: Pose, fraction: float) -> Pose:
    """From a (0) to b (1), on a straight line and the shortest rotation."""
    turn = pin.log3(a.rotation.T @ b.rotation)
    return Pose(a.position + fraction * (b.position - a.position), a.rotation @ pin.exp3(fraction * turn))


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
        self._ways: list[tuple[ActionChunk, Waypoints]] = []  # of the chunks in force

    def decode(self, step: Step, observed: Observed, current: JointState, said: list[str]) -> JointCommand:
        """observed: the joints at a chunk's observation; current: now, where the first target starts from. A place
        outside the workspace is brought inside, and that is written to `said`."""
        command = self.preview(step, observed, current, said)
        self._target = np.array([command.positions[joint] for joint in self.profile.joints])
        self._ways = [(chunk, way) for chunk, way in self._ways if any(chunk is part.chunk for part in step.parts)]
        return command

    def ahead(self, now: int, later: Sequence[tuple[int, Step]], observed: Observed, periods: int) -> np.ndarray:
        """Joint targets (periods, N) [rad] of the control periods after `now` [ns], which was decoded last. later:
        moments [ns] and what is in force then; after the last the arm stays. One step of IK from each to the next, and
        straight lines between."""
        moments, places = [0], [self._target]  # [ns] from now: as floats, those of an epoch would be rounded
        for moment, step in later:
            goal = self.goal(step, observed, [])
            places.append(self.kinematics.step(places[-1], goal, (moment - now - moments[-1]) / 1e9))
            moments.append(moment - now)
        wanted = np.arange(1, periods + 1) * 1e9 / self.profile.control_rate
        return np.array([np.interp(wanted, moments, joint) for joint in zip(*places, strict=True)]).T

    def preview(self, step: Step, observed: Observed, current: JointState, said: list[str]) -> JointCommand:
        """What decode() would return, without going on from it."""
        start = self.kinematics.vector(current) if self._target is None else self._target
        goal = self.goal(step, observed, said)
        target = self.kinematics.step(start, goal, 1 / self.profile.control_rate)
        positions = dict(zip(self.profile.joints, target.tolist(), strict=True))
        return JointCommand(positions | self._fingers(step, self._way(step.chunk, observed), said))

    def goal(self, step: Step, observed: Observed, said: list[str]) -> Pose:
        """Where the hand is to be: between the poses of the chunks in force, by their shares."""
        goal, shares = None, 0.0
        for part in step.parts:
            pose = self._way(part.chunk, observed).pose(part)
            pose = Pose(clamp_place(pose.position, self.profile.workspace, said), pose.rotation)
            shares += part.share
            goal = pose if goal is None else between(goal, pose, part.share / shares)
        return goal

    def _way(self, chunk: ActionChunk, observed: Observed) -> Waypoints:
        way = next((way for known, way in self._ways if known is chunk), None)
        if way is None:
            pose = self.kinematics.forward(self.kinematics.vector(observed(chunk.stamp)))
            way = waypoints(chunk, pose, self.level)
            self._ways.append((chunk, way))
        return way

    def _fingers(self, step: Step, way: Waypoints, said: list[str]) -> dict[str, float]:
        """As the newest chunk says: half open is no way between open and closed. Beyond either is written to `said`."""
        gripper = self.profile.gripper
        if gripper is None or way.gripper is None:
            return {}
        fraction = clamp(float(way.gripper[step.index]), 0.0, 1.0, "gripper", said)
        half = (gripper.closed + fraction * (gripper.open - gripper.closed)) / 2
        return dict.fromkeys(gripper.joints, half)


class BaseDecoder:
    """Velocity steps to a base velocity; each holds for its period."""

    def reset(self) -> None:
        """Nothing to forget."""

    def decode(self, step: Step, observed: Observed, current: JointState, said: list[str]) -> TwistCommand:
        row, names = sum(part.share * part.chunk.values[part.index] for part in step.parts), step.chunk.spec.names
        return TwistCommand(v=float(row[names.index("v")]), w=float(row[names.index("w")]))

    preview = decode
