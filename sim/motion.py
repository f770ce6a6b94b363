"""What a perfectly tracking robot does to itself and to objects in one step: for label roll-outs and the mock world.

Vectorised: every array has the same leading dimensions (...). World frame, metres and radians.
"""

from __future__ import annotations

import numpy as np

from vla_ros.kinematics import ArmKinematics
from vla_ros.profile import BaseLimits, RobotProfile
from vla_ros.types import Pose

GAP_OPEN = 0.08  # [m] gap of the fully open gripper
GAP_STEP = 0.04  # [m] that the gap changes in one action step at most
TIP = 0.007  # [m] fingertips below the end-effector frame
FINGER = 0.0105  # [m] half the closed fingers' thickness
SHUT = 0.03  # [m] fingers nearer than this push as one
BUMPER = 0.50  # [m] from the Husky's base_link to its front bumper
BASE_HEIGHT = 0.145  # [m] of its base_link over the ground
STRADDLE = (0.016, 0.022)  # [m] horizontal and vertical error with which an object is still between the fingers


def straddles(ee: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Whether an object is between the fingers; ee, centre (..., 3) -> bool (...)."""
    offset = ee - centre
    return (np.hypot(offset[..., 0], offset[..., 1]) < STRADDLE[0]) & (np.abs(offset[..., 2]) < STRADDLE[1])


def close_fingers(gap: np.ndarray, goal: np.ndarray, ee: np.ndarray, centre: np.ndarray, size: np.ndarray,
                  step: float = GAP_STEP) -> np.ndarray:
    """The gap (...) after one step towards `goal`, stopped by an object between the fingers; ee before the step."""
    moved = gap + np.clip(goal - gap, -step, step)
    return np.where(straddles(ee, centre) & (moved < size) & (gap >= size - 1e-9), size, moved)


def carry(before: np.ndarray, after: np.ndarray, gap: np.ndarray, centre: np.ndarray, size: np.ndarray,
          half_height: np.ndarray) -> np.ndarray:
    """Object centres (..., 3) after the end effector moved: grasped ones go along, those in the way are pushed."""
    grasped = straddles(before, centre) & (np.abs(gap - size) < 1e-3)
    carried = np.where(grasped[..., None], centre + after - before, centre)
    offset = after[..., :2] - carried[..., :2]
    distance = np.maximum(np.hypot(offset[..., 0], offset[..., 1]), 1e-9)
    overlap = np.maximum(size / 2 + FINGER - distance, 0.0)
    low = after[..., 2] - TIP < carried[..., 2] + half_height - 0.005  # else the fingers are on top, not beside
    pushed = low & ~grasped & (gap < SHUT)
    carried[..., :2] -= np.where(pushed, overlap / distance, 0.0)[..., None] * offset
    return carried


def drive(pose: np.ndarray, twist: np.ndarray, dt: float) -> np.ndarray:
    """Poses (..., 3) as x, y, yaw after `dt` [s] at a constant twist (..., 2) as v, w: on an arc, exactly."""
    v, w = twist[..., 0], twist[..., 1]
    half = w * dt / 2
    chord = v * dt * np.sinc(half / np.pi)
    heading = pose[..., 2] + half
    step = np.stack([chord * np.cos(heading), chord * np.sin(heading), w * dt], axis=-1)
    return pose + step


def limit_twist(goal: np.ndarray, twist: np.ndarray, limits: BaseLimits, dt: float) -> np.ndarray:
    """A twist (..., 2) towards `goal`, inside the limits of speed and of acceleration."""
    speed, change = np.array([limits.v, limits.w]), np.array([limits.v_acceleration, limits.w_acceleration]) * dt
    return twist + np.clip(np.clip(goal, -speed, speed) - twist, -change, change)


def start_joints(profile: RobotProfile, kinematics: ArmKinematics, start: tuple[float, ...]) -> dict[str, float]:
    """Joint positions by name for a Scene's start: the end effector there, oriented as at home, the gripper so open."""
    home = np.array(profile.home)
    pose = Pose(np.array(start[:3]), kinematics.forward(home).rotation)
    joints = dict(zip(profile.joints, kinematics.inverse(pose, home).tolist(), strict=True))
    return joints | dict.fromkeys(profile.gripper.joints if profile.gripper else (), start[3] / 2)
