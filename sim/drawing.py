"""Cheap images for the mock world: a coloured blob for each object, where the camera would see it. Pure numpy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vla_ros.profile import Camera
from vla_ros.sim.cameras import intrinsics, project
from vla_ros.sim.world import COLOURS, CONE_TOP, CONTAINERS, SceneObject

GROUND, TOOL = (190, 180, 165), (60, 60, 65)  # RGB
OUTLINES = {"ball": "ellipse", "plate": "ellipse", "cone": "cone"}  # of the others: box
TOOL_RADIUS = 0.012  # [m]


def draw_scene(camera: Camera, world_from_parent: np.ndarray, objects: tuple[SceneObject, ...], centres: np.ndarray,
               tool: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3). centres (M, 3): where the objects are now; tool (K, 3): points of the robot [m]."""
    image = np.empty((camera.height, camera.width, 3), np.uint8)
    image[:] = GROUND
    blobs = [object_blob(thing, centre, camera, world_from_parent)
             for thing, centre in zip(objects, centres, strict=True)]
    blobs += [point_blob(point, camera, world_from_parent) for point in tool]
    for depth, low, high, colour, outline in sorted(blobs, key=lambda blob: -blob[0]):
        if depth > 0.01:
            fill(image, low, high, colour, outline)
    return image


def object_blob(thing: SceneObject, centre: np.ndarray, camera: Camera, pose: np.ndarray) -> tuple:
    """Depth [m], least and greatest pixel, colour, and outline. What may lie in a container is drawn after it."""
    pixels, depth = project(replace(thing, position=tuple(centre)).corners(), camera, pose)
    colour = tuple(int(255 * c) for c in COLOURS[thing.colour])
    drawn = depth.max() if thing.shape in CONTAINERS else depth.min()
    return float(drawn), pixels.min(axis=0), pixels.max(axis=0), colour, OUTLINES.get(thing.shape, "box")


def point_blob(point: np.ndarray, camera: Camera, pose: np.ndarray) -> tuple:
    pixel, depth = project(point, camera, pose)
    radius = intrinsics(camera)[0, 0] * TOOL_RADIUS / max(float(depth), 0.01)
    return float(depth), pixel - radius, pixel + radius, TOOL, "ellipse"


def fill(image: np.ndarray, low: np.ndarray, high: np.ndarray, colour: tuple, outline: str) -> None:
    """Paints an outline in the box between two pixels (2,) as (u, v), darker towards the bottom."""
    height, width, _ = image.shape
    u, v = np.arange(width), np.arange(height)[:, None]
    middle, half = (low + high) / 2, np.maximum((high - low) / 2, 0.5)
    du, dv = (u - middle[0]) / half[0], (v - middle[1]) / half[1]
    if outline == "ellipse":
        mask = du**2 + dv**2 <= 1
    else:
        reach = 1.0 if outline == "box" else (1 + CONE_TOP) / 2 + (1 - CONE_TOP) / 2 * dv
        mask = (np.abs(du) <= reach) & (np.abs(dv) <= 1)
    shade = np.broadcast_to(0.85 - 0.15 * np.clip(dv, -1, 1), (height, width))
    image[mask] = (np.array(colour) * shade[mask][:, None]).astype(np.uint8)
