"""Cheap images for the mock world: a coloured blob for each object, where the camera would see it. Pure numpy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vla_ros.profile import Camera
from vla_ros.sim.cameras import intrinsics, project
from vla_ros.sim.world import COLOURS, SceneObject

GROUND, TOOL = (190, 180, 165), (60, 60, 65)  # RGB
TOOL_RADIUS = 0.012  # [m]


def draw_scene(camera: Camera, world_from_parent: np.ndarray, objects: tuple[SceneObject, ...], centres: np.ndarray,
               tool: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3). centres (M, 3): where the objects are now; tool (K, 3): points of the robot [m]."""
    image = np.empty((camera.height, camera.width, 3), np.uint8)
    image[:] = GROUND
    blobs = [object_blob(thing, centre, camera, world_from_parent)
             for thing, centre in zip(objects, centres, strict=True)]
    blobs += [point_blob(point, camera, world_from_parent) for point in tool]
    for depth, low, high, colour, is_round in sorted(blobs, key=lambda blob: -blob[0]):
        if depth > 0.01:
            fill(image, low, high, colour, is_round)
    return image


def object_blob(thing: SceneObject, centre: np.ndarray, camera: Camera, pose: np.ndarray) -> tuple:
    """Depth [m], least and greatest pixel, colour, and whether it looks round."""
    pixels, depth = project(replace(thing, position=tuple(centre)).corners(), camera, pose)
    colour = tuple(int(255 * c) for c in COLOURS[thing.colour])
    return float(depth.min()), pixels.min(axis=0), pixels.max(axis=0), colour, thing.shape == "ball"


def point_blob(point: np.ndarray, camera: Camera, pose: np.ndarray) -> tuple:
    pixel, depth = project(point, camera, pose)
    radius = intrinsics(camera)[0, 0] * TOOL_RADIUS / max(float(depth), 0.01)
    return float(depth), pixel - radius, pixel + radius, TOOL, True


def fill(image: np.ndarray, low: np.ndarray, high: np.ndarray, colour: tuple, is_round: bool) -> None:
    """Paints the box between two pixels (2,) as (u, v), or the ellipse in it, darker towards the bottom."""
    height, width, _ = image.shape
    u, v = np.arange(width), np.arange(height)[:, None]
    middle, half = (low + high) / 2, np.maximum((high - low) / 2, 0.5)
    du, dv = (u - middle[0]) / half[0], (v - middle[1]) / half[1]
    mask = du**2 + dv**2 <= 1 if is_round else (np.abs(du) <= 1) & (np.abs(dv) <= 1)
    shade = np.broadcast_to(0.85 - 0.15 * np.clip(dv, -1, 1), (height, width))
    image[mask] = (np.array(colour) * shade[mask][:, None]).astype(np.uint8)
