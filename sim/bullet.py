"""The world in PyBullet."""

from __future__ import annotations

import numpy as np

from vla_ros.errors import SimulationError, UnknownNameError
from vla_ros.observing import Observer
from vla_ros.profile import Camera, RobotProfile
from vla_ros.sim.appearance import dress
from vla_ros.sim.cameras import camera_from_parent, inverse, look_at, project
from vla_ros.sim.engine import PHYSICS_RATE, Engine
from vla_ros.sim.episode import EpisodeWorld
from vla_ros.sim.objects import add_ground, add_object, add_table
from vla_ros.sim.robots.arm import ArmBody
from vla_ros.sim.robots.base import BaseBody
from vla_ros.sim.tasks import Task
from vla_ros.sim.world import Scene, WorldState
from vla_ros.types import Command, JointState, Observation

VISUALS = ("fast", "detailed")
SETTLE = 12  # physics steps before the clock starts: contacts form, nothing moves
TOUCH = 0.001  # [m] contact points further apart than this do not touch
NEAR, FAR = 0.02, 12.0  # [m] clipping planes


class BulletWorld(EpisodeWorld):
    """A World with physics and rendered cameras.

    cameras: names to render, None for all of the profile; visuals: 'fast' draws the robot by its collision meshes,
    'detailed' as it looks.
    """

    def __init__(self, profile: RobotProfile, task: Task | None = None, cameras: tuple[str, ...] | None = None,
                 visuals: str = "fast"):
        super().__init__(profile, task, cameras)
        if visuals not in VISUALS:
            raise UnknownNameError("visuals", visuals, VISUALS)
        self._visuals = visuals
        self._substeps = round(PHYSICS_RATE / profile.control_rate)
        if self._substeps * profile.control_rate != PHYSICS_RATE:
            raise SimulationError(f"control_rate {profile.control_rate} Hz does not divide {PHYSICS_RATE} Hz")
        self._observer = Observer(profile)
        self._engine = Engine()
        if profile.kind == "arm":
            self._robot = ArmBody(self._engine, profile, self._observer.kinematics, visuals)
        else:
            self._robot = BaseBody(self._engine, profile, visuals)

    def joints(self) -> JointState:
        return self._robot.joints(self.stamp)

    def _build(self, scene: Scene) -> None:
        self._engine.restart()
        surface = (add_table if self._profile.kind == "arm" else add_ground)(self._engine, self._visuals)
        dress(self._engine, surface, self._appearance)
        self._robot.load(scene)
        self._bodies = [add_object(self._engine, thing) for thing in scene.objects]
        self._robot.apply(None)
        for _ in range(SETTLE):
            self._engine.stepSimulation()

    def step(self, command: Command | None) -> None:
        self._robot.apply(command)
        for _ in range(self._substeps):
            self._engine.stepSimulation()
        self._advance()

    def link_pose(self, frame: str) -> np.ndarray:
        return self._robot.link_pose(frame)

    def _measure(self) -> WorldState:
        poses = [self._engine.getBasePositionAndOrientation(body) for body in self._bodies]
        return WorldState(stamp=self.stamp, objects=np.array([p for p, _ in poses]),
                          quaternions=np.array([q for _, q in poses]),
                          touched=np.array([self._touches(body) for body in self._bodies]), **self._robot.measures())

    def _touches(self, body: int) -> bool:
        contacts = self._engine.getContactPoints(bodyA=self._robot.body, bodyB=body)
        return any(c[8] < TOUCH and self._robot.touches(c) for c in contacts)

    def observe(self) -> Observation:
        images = {name: self._sensed(self._camera_image(camera)) for name, camera in self._cameras.items()}
        return self._observer.observation(images, dict.fromkeys(images, self.stamp), self.joints(),
                                          self.scene.instruction)

    def _camera_image(self, camera: Camera) -> np.ndarray:
        view = camera_from_parent(camera) @ inverse(self.mounting(camera))
        return self._image(view, camera.width, camera.height, camera.fov_deg)[0]

    def _sensed(self, image: np.ndarray) -> np.ndarray:
        """With a sensor's noise of one grey level, the same at the same moment of an episode: no camera delivers the
        same picture twice, so one that does has stopped."""
        noise = np.random.default_rng([self.scene.seed, self._tick]).integers(0, 2, image.shape, np.uint8)
        return image ^ noise

    def render(self, width: int, height: int, eye, target, fov: float) -> np.ndarray:
        """uint8 (height, width, 3) seen from `eye` towards `target` [m], world frame; fov vertical [deg]."""
        return self._image(look_at(eye, target), width, height, fov)[0]

    def mask(self, camera: str) -> np.ndarray:
        """(H, W) int: index of the object that each pixel of a camera shows, -1 elsewhere."""
        spec = self._profile.cameras[camera]
        view = camera_from_parent(spec) @ inverse(self.mounting(spec))
        bodies = self._image(view, spec.width, spec.height, spec.fov_deg, flags=0)[1]
        return sum((i + 1) * (bodies == body) for i, body in enumerate(self._bodies)) - 1

    def pixels(self, camera: str, points: np.ndarray) -> np.ndarray:
        """Where points (M, 3) of the world frame [m] lie in a camera's image, (M, 2) [px]."""
        spec = self._profile.cameras[camera]
        return project(points, spec, self.mounting(spec))[0]

    def _image(self, camera_from_world: np.ndarray, width: int, height: int, fov: float, flags: int | None = None):
        """RGB (height, width, 3) and body ids (height, width); OpenGL's camera looks along -z, with y up."""
        view = np.diag([1.0, -1.0, -1.0, 1.0]) @ camera_from_world
        projection = list(self._engine.computeProjectionMatrixFOV(fov, width / height, NEAR, FAR))
        # The renderer samples pixels at their lower left corners; moved by half a pixel, image centre is image centre.
        projection[8:10] = 1 / width, 1 / height
        look = self._appearance
        _, _, rgba, _, bodies = self._engine.getCameraImage(
            width, height, view.T.ravel().tolist(), projection, shadow=0, lightDirection=look.light,
            lightColor=look.light_colour, lightAmbientCoeff=look.ambient, lightDiffuseCoeff=look.diffuse,
            renderer=self._engine.ER_TINY_RENDERER,
            flags=self._engine.ER_NO_SEGMENTATION_MASK if flags is None else flags)
        return np.ascontiguousarray(rgba[..., :3], dtype=np.uint8), bodies

    def close(self) -> None:
        self._engine.close()
