"""A world without physics: commands are obeyed at once and exactly, objects are carried and pushed by simple rules.

It lets the whole stack run in milliseconds, and tells errors of a policy from those of tracking.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from vla_ros.kinematics import wheel_speeds
from vla_ros.observing import Observer
from vla_ros.profile import Camera, RobotProfile
from vla_ros.sim import motion
from vla_ros.sim.cameras import rigid
from vla_ros.sim.drawing import draw_scene
from vla_ros.sim.episode import EpisodeWorld
from vla_ros.sim.motion import Solids
from vla_ros.sim.tasks import Task
from vla_ros.sim.world import CONTAINERS, SHAPES, Scene, WorldState
from vla_ros.types import Command, JointCommand, JointState, Observation, TwistCommand

FINGER_SPEED = 0.4  # [m/s] of the gap
TOUCH = 0.001  # [m]
BASE_SIDE = 0.34  # [m] half the Husky's width


class MockWorld(EpisodeWorld):
    """A World with perfect tracking; its images are coloured blobs where the objects would be seen."""

    def __init__(self, profile: RobotProfile, task: Task | None = None, cameras: tuple[str, ...] | None = None):
        super().__init__(profile, task, cameras)
        self._observer = Observer(profile)
        self._robot = MockArm(profile, self._observer) if profile.kind == "arm" else MockBase(profile)

    def _build(self, scene: Scene) -> None:
        shapes = np.array([SHAPES.index(o.shape) for o in scene.objects], dtype=int)
        sizes = np.array([o.size for o in scene.objects])
        self._things = Things(np.array([o.position for o in scene.objects]), Solids.of(shapes, sizes),
                              np.array([o.yaw for o in scene.objects]),
                              np.array([o.shape in CONTAINERS for o in scene.objects]))
        self._robot.place(scene.start)

    def step(self, command: Command | None) -> None:
        self._robot.move(command, self._things, 1 / self._profile.control_rate)
        self._advance()

    def link_pose(self, frame: str) -> np.ndarray:
        return self._robot.link_pose(frame)

    def _measure(self) -> WorldState:
        things = self._things
        zero = np.zeros_like(things.yaws)
        quaternions = np.stack([zero, zero, np.sin(things.yaws / 2), np.cos(things.yaws / 2)], axis=1)
        return WorldState(stamp=self.stamp, objects=things.centres.copy(), quaternions=quaternions,
                          touched=self._robot.touched(things), **self._robot.measures())

    def joints(self) -> JointState:
        return JointState(dict(self._robot.positions), dict(self._robot.velocities), self.stamp)

    def observe(self) -> Observation:
        images = {name: self._image(camera) for name, camera in self._cameras.items()}
        stamps = dict.fromkeys(images, self.stamp)
        return self._observer.observation(images, stamps, self.joints(), self.scene.instruction)

    def _image(self, camera: Camera) -> np.ndarray:
        return draw_scene(camera, self.mounting(camera), self.scene.objects, self._things.centres, self._robot.tool())

    def close(self) -> None:
        """Nothing is open."""


@dataclass
class Things:
    """The objects: centres (M, 3) [m], what they are (M), yaws (M,) [rad], fixed (M,) bool: they do not move."""

    centres: np.ndarray
    solids: Solids
    yaws: np.ndarray
    fixed: np.ndarray

    def rest_heights(self) -> np.ndarray:
        """(M,) [m] heights of the centres on the highest thing that each is over, a carrier or the table."""
        rows = Solids(**{name: value[:, None] for name, value in vars(self.solids).items()})
        on_each = rows.rest_height(self.centres[:, None], self.centres[None], self.solids)  # (M, M)
        np.fill_diagonal(on_each, self.solids.half_height)
        return on_each.max(axis=1)


@dataclass
class MockArm:
    """An arm whose joints are where they were told to be."""

    profile: RobotProfile
    observer: Observer
    positions: dict[str, float] = field(default_factory=dict)
    velocities: dict[str, float] = field(default_factory=dict)

    def place(self, start: tuple[float, ...]) -> None:
        self._set(motion.start_joints(self.profile, self.observer.kinematics, start))
        self.velocities = dict.fromkeys(self.positions, 0.0)
        self._wanted = start[3]  # [m] gap that the gripper was last told to have

    def _set(self, positions: dict[str, float]) -> None:
        self.positions = positions
        q = np.array([positions[j] for j in self.profile.joints])
        self.ee = self.observer.kinematics.forward(q).position
        self.gap = sum(positions[j] for j in self.profile.gripper.joints)

    def move(self, command: Command | None, things: Things, dt: float) -> None:
        """None keeps the targets; the fingers go on closing."""
        before, ee, targets = self.positions, self.ee, self._targets(command, dt)
        fingers = self.profile.gripper.joints
        if any(f in targets for f in fingers):
            self._wanted = sum(targets.get(f, before[f]) for f in fingers)
        gap = motion.close_fingers(self.gap, self._wanted, ee, things.centres, things.solids, FINGER_SPEED * dt)
        gap = float(np.max(gap))
        self._set(before | targets | dict.fromkeys(fingers, gap / 2))
        self.velocities = {j: (self.positions[j] - before[j]) / dt for j in self.positions}
        moved = motion.carry(ee, self.ee, np.array(gap), things.centres, things.solids)
        things.centres = np.where(things.fixed[:, None], things.centres, moved)
        self._settle(things)

    def _targets(self, command: Command | None, dt: float) -> dict[str, float]:
        if not isinstance(command, JointCommand):
            return {}
        return dict(command.positions) or {j: self.positions[j] + v * dt for j, v in command.velocities.items()}

    def _settle(self, things: Things) -> None:
        """What is not held lies on what is below it."""
        held = motion.grasps(self.ee, np.array(self.gap), things.centres, things.solids)
        rest, z = things.rest_heights(), things.centres[:, 2]
        things.centres[:, 2] = np.where(things.fixed, z, np.where(held, np.maximum(z, rest), rest))

    def touched(self, things: Things) -> np.ndarray:
        """(M,) closed fingertips on or in an object, or open fingers closed around it."""
        offset, solids = self.ee - things.centres, things.solids
        beside = np.hypot(offset[:, 0], offset[:, 1]) < solids.size / 2 + motion.FINGER + TOUCH
        low = offset[:, 2] - motion.TIP < solids.half_height + TOUCH
        held = motion.grasps(self.ee, np.array(self.gap), things.centres, solids)
        return held | (beside & low & (self.gap < motion.SHUT))

    def measures(self) -> dict:
        return {"ee": self.ee.copy(), "gap": float(self.gap)}

    def link_pose(self, frame: str) -> np.ndarray:
        """world_from_frame (4, 4)."""
        kinematics = self.observer.kinematics
        kinematics.forward(np.array([self.positions[j] for j in self.profile.joints]))
        placement = kinematics.data.oMf[kinematics.model.getFrameId(frame)]
        return rigid(placement.rotation, placement.translation)

    def tool(self) -> np.ndarray:
        """(K, 3) points of the robot to draw: both fingertips and the hand."""
        half = [0.0, self.gap / 2 + motion.FINGER, 0.0]
        return np.stack([self.ee - half, self.ee + half, self.ee + [0.0, 0.0, 0.08]])


@dataclass
class MockBase:
    """A base that moves exactly as it is told."""

    profile: RobotProfile
    positions: dict[str, float] = field(default_factory=dict)
    velocities: dict[str, float] = field(default_factory=dict)

    def place(self, start: tuple[float, ...]) -> None:
        self.pose, self.twist = np.array(start), np.zeros(2)
        self.positions = dict.fromkeys(self.profile.joints, 0.0)
        self.velocities = dict(self.positions)

    def move(self, command: Command | None, things: Things, dt: float) -> None:
        """None stands still."""
        self.twist = np.array([command.v, command.w]) if isinstance(command, TwistCommand) else np.zeros(2)
        self.pose = motion.drive(self.pose, self.twist, dt)
        speeds = wheel_speeds(self.profile, *self.twist.tolist())
        self.velocities = {j: speeds[j] for j in self.profile.joints}
        self.positions = {j: self.positions[j] + self.velocities[j] * dt for j in self.profile.joints}

    def touched(self, things: Things) -> np.ndarray:
        """(M,) whether an object's circle meets the base's rectangle."""
        offset = things.centres[:, :2] - self.pose[:2]
        c, s = np.cos(self.pose[2]), np.sin(self.pose[2])
        local = np.abs(np.stack([c * offset[:, 0] + s * offset[:, 1], c * offset[:, 1] - s * offset[:, 0]], axis=1))
        outside = np.maximum(local - [motion.BUMPER, BASE_SIDE], 0.0)
        return np.hypot(outside[:, 0], outside[:, 1]) < things.solids.size / 2 + TOUCH

    def measures(self) -> dict:
        return {"base": self.pose.copy(), "twist": self.twist.copy()}

    def link_pose(self, frame: str) -> np.ndarray:
        """world_from_base_link (4, 4)."""
        x, y, yaw = self.pose
        c, s = np.cos(yaw), np.sin(yaw)
        return rigid([[c, -s, 0], [s, c, 0], [0, 0, 1]], [x, y, motion.BASE_HEIGHT])

    def tool(self) -> np.ndarray:
        """Nothing of the base is in its own view."""
        return np.zeros((0, 3))
