"""Place: the named object lies in the tray, or on the plate, and the hand has let it go."""

from __future__ import annotations

import numpy as np

from vla_ros.sim.tasks.layout import arm_scene, table_objects
from vla_ros.sim.tasks.task import transported
from vla_ros.sim.world import CONTAINERS, Scene, WorldState

INSIDE = 0.045  # [m] from the container's centre to the object's: farther out it would lie on the rim
HEIGHT = 0.006  # [m] at most over its height at rest


class Place:
    name = "place"
    robot = "panda"
    time_limit = 15.0
    hold = 0.3

    def layout(self, rng: np.random.Generator) -> Scene:
        objects = table_objects(rng, container=CONTAINERS[rng.integers(len(CONTAINERS))])
        return arm_scene(rng, self.name, objects, named=2, relation="in")

    def progress(self, initial: WorldState, state: WorldState, scene: Scene) -> tuple[float, bool]:
        offset = offset_on(state, scene)
        lies = np.hypot(*offset[:2]) < INSIDE and abs(offset[2]) < HEIGHT
        return transported(state, scene, float(np.linalg.norm(offset)), bool(lies))


def offset_on(state: WorldState, scene: Scene) -> np.ndarray:
    """(3,) [m] from where the target would lie in the middle of its reference to where it is."""
    rest = scene.objects[scene.reference].support_height + scene.objects[scene.target].half_height
    return state.objects[scene.target] - state.objects[scene.reference] - [0.0, 0.0, rest]
