"""A view of the whole scene, for people; policies do not read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vla_ros.sim.cameras import rigid

if TYPE_CHECKING:
    from vla_ros.sim.bullet import BulletWorld

FOV = 45.0  # [deg]
ARM = (1.25, -0.85, 0.80), (0.40, 0.0, 0.12)  # [m] eye and target, aside of the arm's table
BASE = (-2.2, 1.2, 2.2), (1.2, 0.0, 0.2)  # behind the place where a base began, in its frame there


def overview(world: BulletWorld, width: int, height: int) -> np.ndarray:
    """uint8 (height, width, 3)"""
    if world.profile.kind == "arm":
        return world.render(width, height, *ARM, FOV)
    x, y, yaw = world.scene.start
    c, s = np.cos(yaw), np.sin(yaw)
    start = rigid([[c, -s, 0], [s, c, 0], [0, 0, 1]], [x, y, 0.0])
    eye, target = ((start @ [*point, 1.0])[:3] for point in BASE)
    return world.render(width, height, eye, target, FOV)
