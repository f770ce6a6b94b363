"""The base's expert: turn to the object, drive up to it, stop in front of it."""

from __future__ import annotations

import numpy as np

from vla_ros.profile import load_profile
from vla_ros.sim import motion

BASE_GAP = 0.17  # [m] between bumper and surface at rest


def base_action(offset: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """(N, 2): v [m/s], w [rad/s] wanted for targets at `offset` (N, 2) [m] in the base frame: turn, then drive up."""
    left = np.linalg.norm(offset, axis=1) - radius - motion.BUMPER - BASE_GAP
    bearing = np.arctan2(offset[:, 1], offset[:, 0])
    facing = np.maximum(0.0, np.cos(bearing)) ** 6
    return np.stack([np.maximum(1.8 * left, -0.2) * facing, 2.0 * bearing], axis=1)


def base_chunk(pose_to_target, radius, twist, horizon: int, robot: str = "husky") -> np.ndarray:
    """(N, T, 2): v [m/s], w [rad/s] inside the robot's limits of speed and acceleration.

    pose_to_target (N, 2) target position in the base frame [m]; radius (N,) [m]; twist (N, 2) v, w now.
    """
    profile = load_profile(robot)
    target, radius, twist = (np.array(a, dtype=float) for a in (pose_to_target, radius, twist))
    pose, actions = np.zeros((len(target), 3)), []
    for _ in range(horizon):
        offset = target - pose[:, :2]
        c, s = np.cos(pose[:, 2]), np.sin(pose[:, 2])
        seen = np.stack([c * offset[:, 0] + s * offset[:, 1], c * offset[:, 1] - s * offset[:, 0]], axis=1)
        twist = motion.limit_twist(base_action(seen, radius), twist, profile.limits, profile.action.period)
        pose = motion.drive(pose, twist, profile.action.period)
        actions.append(twist)
    return np.stack(actions, axis=1)
