"""Stack: the named object rests on top of another one."""

from __future__ import annotations

import numpy as np

from vla_ros.sim.tasks.layout import arm_scene, table_objects
from vla_ros.sim.tasks.place import offset_on
from vla_ros.sim.tasks.task import transported
from vla_ros.sim.world import FLAT_TOPS, Scene, WorldState

OFF_CENTRE = 0.020  # [m] horizontally, at most
HEIGHT = 0.008  # [m] at most from its height at rest


class Stack:
    name = "stack"
    robot = "panda"
    time_limit = 15.0
    hold = 0.5

    def layout(self, rng: np.random.Generator) -> Scene:
        objects = table_objects(rng, suits=stackable)
        return arm_scene(rng, self.name, objects, named=2, relation="on top of")

    def progress(self, initial: WorldState, state: WorldState, scene: Scene) -> tuple[float, bool]:
        offset = offset_on(state, scene)
        lies = np.hypot(*offset[:2]) < OFF_CENTRE and abs(offset[2]) < HEIGHT
        return transported(state, scene, float(np.linalg.norm(offset)), bool(lies))


def stackable(kinds) -> bool:
    """Whether the first can lie on the second: no ball, and on a flat top."""
    return kinds[0][0] != "ball" and kinds[1][0] in FLAT_TOPS
