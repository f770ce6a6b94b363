"""What a task is: an instruction family, how it is laid out, and when it is done."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from vla_ros.sim.world import SHAPES, Scene, WorldState, grip_width

DIRECTION_VECTORS = {"left": (0.0, 1.0), "right": (0.0, -1.0), "forward": (1.0, 0.0), "back": (-1.0, 0.0)}
RELATION_VECTORS = {"left of": (0.0, 1.0), "right of": (0.0, -1.0), "in front of": (-1.0, 0.0), "behind": (1.0, 0.0)}
WIDE = 0.010  # [m] that the fingers are further open than an object is wide when it is let go
AWAY = 0.06  # [m] from an object: it is not in the hand


class Task(Protocol):
    """name: also the key of its wordings; robot: profile name; time_limit, hold: [s] the predicate has to hold."""

    name: str
    robot: str
    time_limit: float
    hold: float

    def layout(self, rng: np.random.Generator) -> Scene:
        """A random episode."""
        ...

    def progress(self, initial: WorldState, state: WorldState, scene: Scene) -> tuple[float, bool]:
        """Distance left to do [m], and whether the predicate holds now."""
        ...


def direction_vector(direction: str) -> np.ndarray:
    """(2,) unit vector in the table plane, in the arm's base frame; zero for no direction."""
    return np.array(DIRECTION_VECTORS.get(direction, (0.0, 0.0)))


def released(state: WorldState, scene: Scene) -> bool:
    """Whether the target is not in the hand."""
    thing = scene.objects[scene.target]
    width = float(grip_width(SHAPES.index(thing.shape), thing.size))
    return state.gap > width + WIDE or float(np.linalg.norm(state.ee - state.objects[scene.target])) > AWAY


def transported(state: WorldState, scene: Scene, left: float, lies: bool) -> tuple[float, bool]:
    """Progress of a task that puts the target elsewhere. left: distance from its goal [m]; lies: it is there."""
    if lies:
        return 0.0, released(state, scene)
    return left + float(np.linalg.norm(state.ee - state.objects[scene.target])), False
