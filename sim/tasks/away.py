"""Away: the end effector leaves the named object."""

from __future__ import annotations

import numpy as np

from vla_ros.sim.tasks.layout import START_GAP, arm_scene, draw_until, table_objects
from vla_ros.sim.world import Scene, SceneObject, WorldState

DISTANCE = 0.18  # [m]
NEAR = 0.08  # [m] from its centre, at most, in the beginning
ABOVE = 0.012  # [m] over the top of what is below, at least, in the beginning
FINGERS = (0.020, 0.065)  # [m] x, y half extents of the open fingers, with air


class Away:
    name = "away"
    robot = "panda"
    time_limit = 6.0
    hold = 0.3

    def layout(self, rng: np.random.Generator) -> Scene:
        objects = table_objects(rng)
        return arm_scene(rng, self.name, objects, start=start_near(rng, objects))

    def progress(self, initial: WorldState, state: WorldState, scene: Scene) -> tuple[float, bool]:
        left = DISTANCE - float(np.linalg.norm(state.ee - state.objects[scene.target]))
        return max(0.0, left), left <= 0


def start_near(rng: np.random.Generator, objects: list[SceneObject]) -> tuple[float, ...]:
    """A start over the first object, not farther than NEAR from its centre, and not in another one."""
    place = draw_until(lambda: place_over(rng, objects[0]), lambda p: not any(meets(p, o) for o in objects))
    return (*place.tolist(), float(rng.uniform(0.0, START_GAP)))


def place_over(rng: np.random.Generator, thing: SceneObject) -> np.ndarray:
    """(3,)"""
    up = float(rng.uniform(thing.half_height + ABOVE, 0.95 * NEAR))
    aside = np.sqrt(NEAR**2 - up**2) * np.sqrt(rng.random())
    angle = rng.uniform(-np.pi, np.pi)
    return np.array(thing.position) + [aside * np.cos(angle), aside * np.sin(angle), up]


def meets(ee: np.ndarray, thing: SceneObject) -> bool:
    """Whether open fingers at `ee` would be in an object."""
    offset = np.abs(ee[:2] - thing.position[:2]) - thing.size / 2
    return bool((offset < FINGERS).all()) and ee[2] < thing.position[2] + thing.half_height + ABOVE
