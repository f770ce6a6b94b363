"""Random scenes: which objects, and where. Everything is drawn from the generator that is passed in."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vla_ros.errors import SimulationError
from vla_ros.sim.world import COLOURS, SHAPES, SceneObject, half_height

TABLE_BOX = ((0.38, -0.165), (0.64, 0.165))  # [m] x, y: object centres on the table
TABLE_SIZES = (0.042, 0.050)  # [m] graspable by an 8 cm gripper with room to miss
START_BOX = ((0.34, -0.20, 0.12), (0.62, 0.20, 0.32))  # [m] where the end effector begins
HAND_CLEARANCE = (0.06, 0.14)  # [m] x, y half extents: the hand is 20 cm wide along y and must fit between objects
SPACING = 0.11  # [m]
TRIES = 300  # positions for one object before the scene is begun anew

Kind = tuple[str, str]  # shape, colour


def kinds(rng: np.random.Generator, count: int) -> list[Kind]:
    """`count` distinct kinds, the first one the target; the others mostly share its shape or its colour."""
    chosen = [random_kind(rng)]
    while len(chosen) < count:
        kind, share = random_kind(rng), rng.random()
        if share < 0.4:
            kind = (chosen[0][0], kind[1])
        elif share < 0.8:
            kind = (kind[0], chosen[0][1])
        if kind not in chosen:
            chosen.append(kind)
    return chosen


def random_kind(rng: np.random.Generator) -> Kind:
    return SHAPES[rng.integers(len(SHAPES))], tuple(COLOURS)[rng.integers(len(COLOURS))]


def crowded(a, b) -> bool:
    """Whether the hand cannot come down on one of two table objects without meeting the other."""
    x, y = abs(a[0] - b[0]), abs(a[1] - b[1])
    return np.hypot(x, y) < SPACING or (x < HAND_CLEARANCE[0] and y < HAND_CLEARANCE[1])


def positions(rng: np.random.Generator, draws: list[Callable], collides: Callable) -> list[np.ndarray]:
    """One (2,) position from each draw(rng), such that none collides(position, those placed before it)."""
    for _ in range(TRIES):
        placed: list[np.ndarray] = []
        for draw in draws:
            tries = (draw(rng) for _ in range(TRIES))
            free = next((p for p in tries if not collides(p, placed)), None)
            if free is None:
                break
            placed.append(free)
        if len(placed) == len(draws):
            return placed
    raise SimulationError(f"no room for {len(draws)} objects")


def box_draw(low, high) -> Callable:
    """A draw from a box: rng -> (2,)."""
    return lambda rng: rng.uniform(low, high)


def table_objects(rng: np.random.Generator, target_box=TABLE_BOX, blocked: Callable | None = None) -> list[SceneObject]:
    """2 to 5 objects on the table, the target first; `blocked(p, target)` keeps the others out of the target's way."""
    chosen = kinds(rng, int(rng.integers(2, 6)))

    def collides(p, placed):
        return any(crowded(p, q) for q in placed) or bool(blocked and placed and blocked(p, placed[0]))

    boxes = [target_box] + [TABLE_BOX] * (len(chosen) - 1)
    places = positions(rng, [box_draw(*box) for box in boxes], collides)
    return [table_object(rng, kind, place) for kind, place in zip(chosen, places, strict=True)]


def table_object(rng: np.random.Generator, kind: Kind, place: np.ndarray) -> SceneObject:
    """Turned a little only: the hand keeps its orientation and has to grasp it."""
    shape, colour = kind
    size = float(rng.uniform(*TABLE_SIZES))
    z = float(half_height(SHAPES.index(shape), size))
    return SceneObject(shape, colour, size, (float(place[0]), float(place[1]), z), float(rng.uniform(-0.25, 0.25)))


def shuffled(rng: np.random.Generator, objects: list[SceneObject]) -> tuple[tuple[SceneObject, ...], int]:
    """The objects in random order, and where the first one went: an index must not give the target away."""
    order = rng.permutation(len(objects))
    return tuple(objects[i] for i in order), int(np.flatnonzero(order == 0)[0])


def arm_start(rng: np.random.Generator, gap: float) -> tuple[float, ...]:
    """A random end-effector position above the table and a random opening up to `gap` [m]."""
    return (*(float(v) for v in rng.uniform(*START_BOX)), float(rng.uniform(0.0, gap)))
