"""Reach: the fingertips touch the named object."""

from __future__ import annotations

import numpy as np

from vla_ros.sim.tasks.layout import arm_scene, table_objects
from vla_ros.sim.world import Scene, WorldState


class Reach:
    name = "reach"
    robot = "panda"
    time_limit = 8.0
    hold = 0.2

    def layout(self, rng: np.random.Generator) -> Scene:
        return arm_scene(rng, self.name, table_objects(rng))

    def progress(self, initial: WorldState, state: WorldState, scene: Scene) -> tuple[float, bool]:
        """Distance from the fingertips to the top of the object."""
        top = state.objects[scene.target] + [0.0, 0.0, scene.objects[scene.target].half_height]
        return float(np.linalg.norm(state.ee - top)), bool(state.touched[scene.target])
