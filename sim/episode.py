"""What every world keeps of an episode: its scene, its clock and its score."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace

import numpy as np

from vla_ros.errors import SimulationError, UnknownNameError
from vla_ros.profile import Camera, RobotProfile
from vla_ros.sim.appearance import PLAIN, Appearance
from vla_ros.sim.tasks import TASKS, Task
from vla_ros.sim.world import Progress, Scene, Score, WorldState


class EpisodeWorld(ABC):
    """A world lays out a scene and measures its state; this part counts ticks and judges progress."""

    def __init__(self, profile: RobotProfile, task: Task | None, cameras: tuple[str, ...] | None):
        """task None: any that the robot can do; cameras: names to render, None for all of the profile."""
        for name in cameras or ():
            if name not in profile.cameras:
                raise UnknownNameError("camera", name, profile.cameras)
        able = [t for t in TASKS.values() if t.robot == profile.name]
        if task is None and not able:
            raise SimulationError(f"no task is for robot '{profile.name}'")
        self._profile, self._task = profile, task or able[0]
        self._cameras = {n: c for n, c in profile.cameras.items() if cameras is None or n in cameras}
        self._scene: Scene | None = None
        self._appearance = PLAIN
        self._tick = 0

    @property
    def profile(self) -> RobotProfile:
        return self._profile

    @property
    def task(self) -> Task:
        return self._task

    @property
    def scene(self) -> Scene:
        if self._scene is None:
            raise SimulationError("reset the world first: it has no scene yet")
        return self._scene

    @property
    def stamp(self) -> int:
        return round(self._tick * 1e9 / self._profile.control_rate)

    @property
    def state(self) -> WorldState:
        return self._state

    @property
    def progress(self) -> Progress:
        return self._score.progress

    def reset(self, seed: int, task: Task | None = None) -> None:
        wanted = task or self._task
        self._require(wanted)
        self.lay_out(replace(wanted.layout(np.random.default_rng(seed)), seed=seed), wanted)

    def lay_out(self, scene: Scene, task: Task | None = None, appearance: Appearance = PLAIN) -> None:
        self._require(task or self._task)
        self._appearance = appearance
        self._build(scene)
        self._tick = 0
        self._state = self._measure()
        self.instruct(scene, task)

    def instruct(self, scene: Scene, task: Task | None = None) -> None:
        self._require(task or self._task)
        self._scene, self._task = scene, task or self._task
        self._score = Score(self._task, scene, self._state, self._profile.control_rate)

    def _require(self, task: Task) -> None:
        if task.robot != self._profile.name:
            raise SimulationError(f"task '{task.name}' is for robot '{task.robot}', not '{self._profile.name}'")

    def mounting(self, camera: Camera) -> np.ndarray:
        """world_from_parent (4, 4) of a camera, displaced as the episode's appearance says."""
        return self._appearance.mounting(camera, self.link_pose(camera.parent))

    def _advance(self) -> None:
        """One control period is over."""
        self._tick += 1
        self._state = self._measure()
        self._score.update(self._state)

    @abstractmethod
    def link_pose(self, frame: str) -> np.ndarray:
        """world_from_frame (4, 4) of a frame of the robot: where its cameras are mounted."""

    @abstractmethod
    def _build(self, scene: Scene) -> None:
        """Puts the robot and the objects where the scene says."""

    @abstractmethod
    def _measure(self) -> WorldState:
        """The truth at this moment."""
