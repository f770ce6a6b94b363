"""Push: the named object moves along the table in the named direction."""

from __future__ import annotations

import numpy as np

from vla_ros.sim.tasks.layout import TABLE_BOX, arm_scene, spacing, table_objects
from vla_ros.sim.tasks.task import DIRECTION_VECTORS, direction_vector
from vla_ros.sim.world import Scene, WorldState

DISPLACEMENT = 0.08  # [m] along the direction
SIDEWAYS = 0.05  # [m] at most, across it
BEHIND, AHEAD = 0.07, 0.12  # [m] kept free before and after the object


class Push:
    name = "push"
    robot = "panda"
    time_limit = 10.0
    hold = 0.2

    def layout(self, rng: np.random.Generator) -> Scene:
        direction = tuple(DIRECTION_VECTORS)[rng.integers(len(DIRECTION_VECTORS))]
        vector = direction_vector(direction)

        def blocked(kind, place, placed):
            if not placed:
                return False
            first, target = placed[0]
            along = np.clip((place - target) @ vector, -BEHIND, AHEAD)
            return np.linalg.norm(place - target - along * vector) < spacing(kind, first)

        return arm_scene(rng, self.name, table_objects(rng, room_for(vector), blocked), direction=direction)

    def progress(self, initial: WorldState, state: WorldState, scene: Scene) -> tuple[float, bool]:
        """Distance still to be pushed."""
        vector = direction_vector(scene.direction)
        moved = state.objects[scene.target] - initial.objects[scene.target]
        along, across = moved[:2] @ vector, abs(moved[0] * vector[1] - moved[1] * vector[0])
        on_table = moved[2] > -0.01
        return max(0.0, DISPLACEMENT - along), bool(along >= DISPLACEMENT and across < SIDEWAYS and on_table)


def room_for(vector: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The part of the table from which an object, pushed, stays in the box."""
    low, high = np.array(TABLE_BOX)
    return low + np.maximum(-vector, 0) * DISPLACEMENT, high - np.maximum(vector, 0) * DISPLACEMENT
