"""Stop: the end effector stays where it is."""

from __future__ import annotations

import numpy as np

from vla_ros.sim.tasks.layout import arm_scene, table_objects
from vla_ros.sim.world import Scene, WorldState

DRIFT = 0.02  # [m] at most from where it was in the beginning


class Stop:
    name = "stop"
    robot = "panda"
    time_limit = 2.5  # too short to move, to come back and then to stay for long enough
    hold = 2.0

    def layout(self, rng: np.random.Generator) -> Scene:
        return arm_scene(rng, self.name, table_objects(rng), named=0)

    def progress(self, initial: WorldState, state: WorldState, scene: Scene) -> tuple[float, bool]:
        """Distance from where it was."""
        drift = float(np.linalg.norm(state.ee - initial.ee))
        return drift, drift < DRIFT
