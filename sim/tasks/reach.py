"""Reach: the fingertips touch the named object."""

from __future__ import annotations

import numpy as np

from vla_ros.profile import load_profile
from vla_ros.sim.tasks.layout import arm_start, shuffled, table_objects
from vla_ros.sim.tasks.wordings import instruction
from vla_ros.sim.world import Scene, WorldState


class Reach:
    name = "reach"
    robot = "panda"
    time_limit = 8.0
    hold = 0.2

    def layout(self, rng: np.random.Generator) -> Scene:
        objects, target = shuffled(rng, table_objects(rng))
        words = instruction(self.name, objects[target].words, "", rng)
        return Scene(objects, target, "", words, arm_start(rng, load_profile(self.robot).gripper.open))

    def progress(self, initial: WorldState, state: WorldState, scene: Scene) -> tuple[float, bool]:
        """Distance from the fingertips to the top of the object."""
        top = state.objects[scene.target] + [0.0, 0.0, scene.objects[scene.target].half_height]
        return float(np.linalg.norm(state.ee - top)), bool(state.touched[scene.target])
