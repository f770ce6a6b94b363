"""Pick: the named object is lifted and held."""

from __future__ import annotations

import numpy as np

from vla_ros.sim.tasks.layout import arm_scene, table_objects
from vla_ros.sim.world import Scene, WorldState

LIFT = 0.05  # [m]
NEAR = 0.05  # [m] the object has to be in the hand, not thrown up


class Pick:
    name = "pick"
    robot = "panda"
    time_limit = 10.0
    hold = 0.5

    def layout(self, rng: np.random.Generator) -> Scene:
        return arm_scene(rng, self.name, table_objects(rng))

    def progress(self, initial: WorldState, state: WorldState, scene: Scene) -> tuple[float, bool]:
        """Distance from the end effector to the object, plus what is still to be lifted."""
        lifted = state.objects[scene.target][2] - initial.objects[scene.target][2]
        away = float(np.linalg.norm(state.ee - state.objects[scene.target]))
        return away + max(0.0, LIFT - lifted), bool(lifted >= LIFT and away < NEAR)
