"""What a task is: an instruction family, how it is laid out, and when it is done."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from vla_ros.sim.world import Scene, WorldState

DIRECTION_VECTORS = {"left": (0.0, 1.0), "right": (0.0, -1.0), "forward": (1.0, 0.0), "back": (-1.0, 0.0)}


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
