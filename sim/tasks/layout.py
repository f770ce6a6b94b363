"""Random scenes: which objects, and where. Everything is drawn from the generator that is passed in."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vla_ros.errors import SimulationError
from vla_ros.sim.tasks.held_out import HELD_OUT_PAIRS
from vla_ros.sim.tasks.wordings import wording
from vla_ros.sim.world import CONTAINERS, MOVABLE, OBJECT_COLOURS, SHAPES, Scene, SceneObject, half_height

TABLE_BOX = ((0.37, -0.19), (0.65, 0.19))  # [m] x, y: centres of objects on the table
CONTAINER_BOX = ((0.42, -0.14), (0.62, 0.14))  # [m] x, y: centres of containers
TABLE_SIZES = (0.042, 0.050)  # [m] graspable by an 8 cm gripper with room to miss
CONTAINER_KINDS = {"tray": ("grey", 0.13), "plate": ("white", 0.12)}  # colour, size [m]
CONTAINER_SHARE = 0.3  # of the scenes have a container that the instruction does not name
START_BOX = ((0.34, -0.23, 0.12), (0.64, 0.23, 0.34))  # [m] where the end effector begins
START_GAP = 0.08  # [m] widest opening to begin with
HAND_CLEARANCE = (0.06, 0.14)  # [m] x, y half extents: the hand is 20 cm wide along y and must fit between objects
SPACING = (0.11, 0.125, 0.155)  # [m] between two objects of which 0, 1 or 2 are containers
TRIES = 300  # positions for one object before the scene is begun anew

Kind = tuple[str, str]  # shape, colour
Placed = list[tuple[Kind, np.ndarray]]  # with positions (2,) [m]


def kinds(rng: np.random.Generator, count: int, shapes=MOVABLE, colours=OBJECT_COLOURS) -> list[Kind]:
    """`count` distinct kinds, the first one the target; the others mostly share its shape or its colour."""
    chosen: list[Kind] = []
    while len(chosen) < count:
        kind, share = random_kind(rng, shapes, colours), rng.random()
        if chosen and share < 0.4:
            kind = (chosen[0][0], kind[1])
        elif chosen and share < 0.8:
            kind = (kind[0], chosen[0][1])
        if kind not in chosen and kind not in HELD_OUT_PAIRS:
            chosen.append(kind)
    return chosen


def random_kind(rng: np.random.Generator, shapes, colours) -> Kind:
    return shapes[rng.integers(len(shapes))], colours[rng.integers(len(colours))]


def draw_until(draw: Callable, suits: Callable):
    """The first thing from draw() that suits."""
    while not suits(drawn := draw()):
        pass
    return drawn


def spacing(a: Kind, b: Kind) -> float:
    """[m] that the centres of two objects are to lie apart."""
    return SPACING[(a[0] in CONTAINERS) + (b[0] in CONTAINERS)]


def crowded(a, b, apart: float = SPACING[0]) -> bool:
    """Whether the hand cannot come down on one of two table objects without meeting the other."""
    x, y = abs(a[0] - b[0]), abs(a[1] - b[1])
    return np.hypot(x, y) < apart or (x < HAND_CLEARANCE[0] and y < HAND_CLEARANCE[1])


def positions(rng: np.random.Generator, chosen: list[Kind], boxes: list, blocked: Callable, needed: int) -> Placed:
    """Places for the first `needed` kinds, and for those of the rest that find room.

    boxes: least and greatest (2,) of each; blocked(kind, position, placed before) keeps positions out.
    """
    for _ in range(TRIES):
        placed: Placed = []
        for i, (kind, box) in enumerate(zip(chosen, boxes, strict=True)):
            tries = (rng.uniform(*box) for _ in range(TRIES))
            place = next((p for p in tries if free(kind, p, placed) and not blocked(kind, p, placed)), None)
            if place is not None:
                placed.append((kind, place))
            elif i < needed:
                break
        else:
            return placed
    raise SimulationError(f"no room for {needed} objects")


def free(kind: Kind, place: np.ndarray, placed: Placed) -> bool:
    return not any(crowded(place, p, spacing(kind, k)) for k, p in placed)


def table_objects(rng: np.random.Generator, target_box=TABLE_BOX, blocked: Callable = lambda *_: False,
                  suits: Callable = lambda _: True, container: str = "") -> list[SceneObject]:
    """2 to 6 objects on the table, the target first; sometimes a container, and fewer objects where it takes the room.

    blocked: as for positions(); suits(kinds): whether these may be; container: one that is to be there, as the second.
    """
    chosen = draw_until(lambda: kinds(rng, int(rng.integers(2, 7))), suits)
    containers = [container] if container else []
    if rng.random() < CONTAINER_SHARE:
        containers += [c for c in rng.permutation(CONTAINERS).tolist() if c != container][:1]
    at = 1 if container else 2
    chosen[at:at] = [(c, CONTAINER_KINDS[c][0]) for c in containers]
    boxes = [CONTAINER_BOX if kind[0] in CONTAINERS else TABLE_BOX for kind in chosen]
    placed = positions(rng, chosen, [target_box, *boxes[1:]], blocked, needed=2)
    return [table_object(rng, kind, place) for kind, place in placed]


def table_object(rng: np.random.Generator, kind: Kind, place: np.ndarray) -> SceneObject:
    """Turned a little only: the hand keeps its orientation and has to grasp it."""
    shape, colour = kind
    size = CONTAINER_KINDS[shape][1] if shape in CONTAINERS else float(rng.uniform(*TABLE_SIZES))
    z = float(half_height(SHAPES.index(shape), size))
    return SceneObject(shape, colour, size, (float(place[0]), float(place[1]), z), float(rng.uniform(-0.25, 0.25)))


def shuffled(rng: np.random.Generator, objects: list[SceneObject]) -> tuple[tuple[SceneObject, ...], list[int]]:
    """The objects in random order, and where each went: an index must not give the target away."""
    order = rng.permutation(len(objects))
    return tuple(objects[i] for i in order), np.argsort(order).tolist()


def arm_start(rng: np.random.Generator) -> tuple[float, ...]:
    """A random end-effector position above the table and a random opening [m]."""
    return (*(float(v) for v in rng.uniform(*START_BOX)), float(rng.uniform(0.0, START_GAP)))


def arm_scene(rng: np.random.Generator, family: str, objects: list[SceneObject], named: int = 1, direction: str = "",
              relation: str = "", start: tuple[float, ...] = ()) -> Scene:
    """A worded scene. named: how many objects the instruction names: the first is the target, the second the reference;
    start: where the arm begins, empty for a random place."""
    mixed, places = shuffled(rng, objects)
    target, reference = [*places[:named], -1, -1][:2]
    words = wording(rng, family, mixed, target, reference, direction or relation)
    return Scene(mixed, target, direction, words, start or arm_start(rng), reference=reference, relation=relation)
