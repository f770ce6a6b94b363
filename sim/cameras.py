"""Pinhole camera maths, shared by the renderers, the layouts and the training labels. Pure numpy.

The optical frame is that of ROS: x right, y down, z forward. Pixel (0, 0) has its centre at u = 0, v = 0,
so the principal point of a W x H image lies at ((W - 1) / 2, (H - 1) / 2). Transforms are 4x4 and are called
a_from_b: they take coordinates in b to coordinates in a.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from vla_ros.profile import Camera
from vla_ros.types import frozen


@cache
def intrinsics(camera: Camera) -> np.ndarray:
    """K, (3, 3) [pixels], with square pixels."""
    focal = camera.height / 2 / np.tan(np.radians(camera.fov_deg) / 2)
    return frozen([[focal, 0.0, (camera.width - 1) / 2], [0.0, focal, (camera.height - 1) / 2], [0.0, 0.0, 1.0]])


def look_at(eye, target) -> np.ndarray:
    """camera_from_world (4, 4) of a camera at `eye` that looks at `target` [m], upright along z."""
    eye, target = np.asarray(eye, float), np.asarray(target, float)
    forward = (target - eye) / np.linalg.norm(target - eye)
    up = np.array([0.0, 0.0, 1.0]) if abs(forward[2]) < 0.9999 else np.array([1.0, 0.0, 0.0])
    right = np.cross(forward, up)
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    return rigid(rotation, -rotation @ eye)


@cache
def camera_from_parent(camera: Camera) -> np.ndarray:
    """(4, 4) from the frame that the camera is mounted on to its optical frame."""
    return frozen(look_at(camera.position, camera.look_at))


def rigid(rotation, translation) -> np.ndarray:
    """(4, 4) from a rotation (3, 3) and a translation (3,)."""
    out = np.eye(4)
    out[:3, :3], out[:3, 3] = rotation, translation
    return out


def inverse(transform: np.ndarray) -> np.ndarray:
    """The inverse of a rigid transform (4, 4)."""
    return rigid(transform[:3, :3].T, -transform[:3, :3].T @ transform[:3, 3])


def project(points, camera: Camera, world_from_parent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points (..., 3) [m] in the world to pixels (..., 2) as (u, v), and depth (...) [m], negative when behind."""
    camera_from_world = camera_from_parent(camera) @ inverse(world_from_parent)
    optical = np.asarray(points, float) @ camera_from_world[:3, :3].T + camera_from_world[:3, 3]
    depth = optical[..., 2]
    homogeneous = optical @ intrinsics(camera).T
    return homogeneous[..., :2] / np.where(np.abs(depth) < 1e-9, 1e-9, depth)[..., None], depth


def inside(pixels: np.ndarray, depth: np.ndarray, camera: Camera) -> np.ndarray:
    """Which pixels (..., 2) lie on the image, in front of the camera; bool (...)."""
    u, v = pixels[..., 0], pixels[..., 1]
    return (depth > 0) & (u >= -0.5) & (u <= camera.width - 0.5) & (v >= -0.5) & (v <= camera.height - 0.5)
