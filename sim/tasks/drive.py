"""Drive: the base stops in front of the named object."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from vla_ros.errors import SimulationError
from vla_ros.profile import Camera, load_profile
from vla_ros.sim.cameras import project, rigid
from vla_ros.sim.motion import BASE_HEIGHT, BUMPER
from vla_ros.sim.tasks.layout import TRIES, Kind, kinds, shuffled
from vla_ros.sim.tasks.wordings import wording
from vla_ros.sim.world import MOVABLE, OBJECT_COLOURS, Scene, SceneObject, WorldState, half_height

GAP = 0.30  # [m] bumper to surface, at most
HEADING = 0.25  # [rad]
REST = (0.03, 0.05)  # [m/s], [rad/s] slower than this is at rest
NEAREST, FARTHEST = 1.3, 2.5  # [m] ahead of base_link: where objects may stand
ASIDE = 0.65  # to either side, in distances ahead
CANDIDATES = 25  # places tried for one object
COLOURS = OBJECT_COLOURS[:6]
SIZES = {"cube": (0.30, 0.36), "cylinder": (0.24, 0.27), "ball": (0.30, 0.38)}  # [m]
SHAPES = tuple(SIZES)
LANE = 0.62  # [m] half the robot's width and an object's, with air: kept free on the way to the target
SPACING = 0.5  # [m]


Placed = tuple[SceneObject, np.ndarray, np.ndarray]  # with its least and greatest pixel (2,)


class Drive:
    name = "drive"
    robot = "husky"
    time_limit = 15.0
    hold = 0.5

    def layout(self, rng: np.random.Generator) -> Scene:
        yaw = float(rng.uniform(-np.pi, np.pi))
        chosen = kinds(rng, int(rng.integers(2, 6)), SHAPES, COLOURS)
        placed = place(rng, chosen, load_profile(self.robot).cameras["front"])
        objects, places = shuffled(rng, [turned(thing, yaw) for thing in placed])
        words = wording(rng, self.name, objects, places[0])
        return Scene(objects, places[0], "", words, (0.0, 0.0, yaw))

    def progress(self, initial: WorldState, state: WorldState, scene: Scene) -> tuple[float, bool]:
        """Distance from the bumper to the object's surface."""
        away, bearing = polar(state.base, state.objects[scene.target])
        gap = away - scene.objects[scene.target].size / 2 - BUMPER
        still = abs(state.twist[0]) < REST[0] and abs(state.twist[1]) < REST[1]
        near = gap < GAP and abs(bearing) < HEADING and not state.touched[scene.target]
        return max(0.0, float(gap)), bool(near and still)


def polar(base: np.ndarray, point: np.ndarray) -> tuple[float, float]:
    """Distance [m] and bearing [rad] of a point from the base (x, y, yaw)."""
    offset = point[:2] - base[:2]
    bearing = np.arctan2(offset[1], offset[0]) - base[2]
    return float(np.hypot(*offset)), float((bearing + np.pi) % (2 * np.pi) - np.pi)


def place(rng: np.random.Generator, chosen: list[Kind], camera: Camera) -> list[SceneObject]:
    """Objects ahead of a robot at the origin with yaw 0, the first one and at least one more of `chosen`.

    Each is seen whole, none hides another, and the way to the first one is free; what finds no room is left out.
    """
    for _ in range(TRIES):
        placed: list[Placed] = []
        for kind in chosen:
            tries = (ground_object(rng, kind) for _ in range(CANDIDATES))
            fitting = (fit(thing, placed, camera) for thing in tries)
            free = next((p for p in fitting if p is not None), None)
            if free is not None:
                placed.append(free)
            elif not placed:
                break
        if len(placed) >= 2:
            return [thing for thing, *_ in placed]
    raise SimulationError("no room for two objects")


def ground_object(rng: np.random.Generator, kind: Kind) -> SceneObject:
    shape, colour = kind
    size = float(rng.uniform(*SIZES[shape]))
    x, yaw = rng.uniform([NEAREST, -np.pi], [FARTHEST, np.pi])
    y, z = ASIDE * x * rng.uniform(-1, 1), half_height(MOVABLE.index(shape), size)
    return SceneObject(shape, colour, size, (float(x), float(y), float(z)), float(yaw))


def fit(thing: SceneObject, placed: list[Placed], camera: Camera) -> Placed | None:
    """The object with its image box, or None where it cannot stand."""
    if any(math.dist(thing.position[:2], other.position[:2]) < SPACING for other, *_ in placed):
        return None
    if placed and lane_distance(thing.position, placed[0][0].position) < LANE:
        return None
    low, high = image_box(thing, camera)
    if (low < 0).any() or (high > [camera.width - 1, camera.height - 1]).any():
        return None
    if any((low < b + 1).all() and (a < high + 1).all() for _, a, b in placed):  # a pixel of air between them
        return None
    return thing, low, high


def image_box(thing: SceneObject, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest pixel (2,) of an object, seen by a robot at the origin with yaw 0."""
    pixels, _ = project(thing.corners(), camera, rigid(np.eye(3), [0.0, 0.0, BASE_HEIGHT]))
    return pixels.min(axis=0), pixels.max(axis=0)


def lane_distance(point: tuple[float, ...], target: tuple[float, ...]) -> float:
    """[m] in the plane, of a point from the straight way between the origin and the target."""
    length = math.hypot(*target[:2])
    ahead = (target[0] / length, target[1] / length)
    along = min(max(point[0] * ahead[0] + point[1] * ahead[1], 0.0), length)
    return math.hypot(point[0] - along * ahead[0], point[1] - along * ahead[1])


def turned(thing: SceneObject, yaw: float) -> SceneObject:
    """The object after the scene was turned about the origin."""
    (x, y, z), c, s = thing.position, np.cos(yaw), np.sin(yaw)
    return replace(thing, position=(float(c * x - s * y), float(s * x + c * y), z), yaw=thing.yaw + yaw)
