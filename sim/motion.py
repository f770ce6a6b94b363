"""What a perfectly tracking robot does to itself and to objects in one step: for label roll-outs and the mock world.

Vectorised: every array has the same leading dimensions (...). World frame, metres and radians.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from vla_ros.kinematics import ArmKinematics
from vla_ros.profile import BaseLimits, RobotProfile, load_profile
from vla_ros.sim.world import CONE_TOP, CONTAINERS, FLAT_TOPS, SHAPES, TALL, grip_width, half_height, support_height
from vla_ros.types import Pose, frozen

GAP_OPEN = 0.08  # [m] gap of the fully open gripper
GAP_STEP = 0.04  # [m] that the gap changes in one action step at most
TIP = 0.007  # [m] fingertips below the end-effector frame
FINGER = 0.0105  # [m] half the closed fingers' thickness
SHUT = 0.03  # [m] fingers nearer than this push as one
BUMPER = 0.50  # [m] from the Husky's base_link to its front bumper
BASE_HEIGHT = 0.145  # [m] of its base_link over the ground
GRIP_HEIGHT = 0.034  # [m] of the end effector at least: lower, the wide hand would meet the tall objects beside it
CARRIERS = np.array([shape in CONTAINERS + FLAT_TOPS for shape in SHAPES])
SLACK = 0.003  # [m] by which fingers that hold an object may be too narrow for it after it moved between them
STRADDLE = (0.016, 0.022)  # [m] horizontal and vertical error with which an object is still between the fingers


@dataclass(frozen=True)
class Solids:
    """What matters of upright objects (...) to fingers: size, width at the centre's height, half height, grip (height
    above the centre where fingers take it) and support (height above the centre where others rest) [m]; taper: how
    much narrower it gets per height; carries: whether others can rest on it."""

    size: np.ndarray
    width: np.ndarray
    taper: np.ndarray
    half_height: np.ndarray
    grip: np.ndarray
    support: np.ndarray
    carries: np.ndarray

    @classmethod
    def of(cls, shape: np.ndarray, size: np.ndarray) -> Solids:
        """shape: index into SHAPES (...); size (...) [m]."""
        shape, size = np.asarray(shape), np.asarray(size, float)
        half = half_height(shape, size)
        grip = np.where(shape == SHAPES.index("ball"), 0.0, np.clip(GRIP_HEIGHT - half, 0.0, 0.013))
        taper = np.where(shape == SHAPES.index("cone"), (1 - CONE_TOP) / TALL, 0.0)
        return cls(size, grip_width(shape, size), taper, half, grip, support_height(shape, size), CARRIERS[shape])

    def grip_point(self, centre: np.ndarray) -> np.ndarray:
        """(..., 3) where the end effector is to be when the fingers take objects at `centre` (..., 3)."""
        return centre + np.stack([0 * self.grip, 0 * self.grip, self.grip], axis=-1)

    def width_at(self, ee: np.ndarray, centre: np.ndarray) -> np.ndarray:
        """[m] (...) between fingers that hold objects at `centre` with the end effector at `ee` (..., 3): the tips
        meet what narrows upwards first."""
        return self.width - self.taper * (ee[..., 2] - TIP - centre[..., 2])

    def rest_height(self, centre: np.ndarray, below: np.ndarray, carrier: Solids) -> np.ndarray:
        """z (...) at which an object let go at `centre` comes to rest: on a carrier at `below` (..., 3), or the table.
        """
        aside = np.hypot(*np.moveaxis(centre[..., :2] - below[..., :2], -1, 0))
        top = below[..., 2] + carrier.support
        over = carrier.carries & (aside < carrier.size / 2) & (centre[..., 2] > top)
        return np.where(over, top, 0.0) + self.half_height


def straddles(ee: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Whether the fingers are around an object's grip point; ee, point (..., 3) -> bool (...)."""
    offset = ee - point
    return (np.hypot(offset[..., 0], offset[..., 1]) < STRADDLE[0]) & (np.abs(offset[..., 2]) < STRADDLE[1])


def grasps(ee: np.ndarray, gap: np.ndarray, centre: np.ndarray, solids: Solids) -> np.ndarray:
    """Whether the fingers hold an object; bool (...)."""
    return straddles(ee, solids.grip_point(centre)) & (np.abs(gap - solids.width_at(ee, centre)) < 1e-3)


def close_fingers(gap: np.ndarray, goal: np.ndarray, ee: np.ndarray, centre: np.ndarray, solids: Solids,
                  step: float = GAP_STEP) -> np.ndarray:
    """The gap (...) after one step towards `goal`, stopped by an object between the fingers; ee before the step."""
    moved, width = gap + np.clip(goal - gap, -step, step), solids.width_at(ee, centre)
    stopped = straddles(ee, solids.grip_point(centre)) & (moved < width) & (gap > width - SLACK)
    return np.where(stopped, width, moved)


def carry(before: np.ndarray, after: np.ndarray, gap: np.ndarray, centre: np.ndarray, solids: Solids) -> np.ndarray:
    """Object centres (..., 3) after the end effector moved: grasped ones go along, those in the way are pushed."""
    grasped = grasps(before, gap, centre, solids)
    carried = np.where(grasped[..., None], centre + after - before, centre)
    offset = after[..., :2] - carried[..., :2]
    distance = np.maximum(np.hypot(offset[..., 0], offset[..., 1]), 1e-9)
    overlap = np.maximum(solids.size / 2 + FINGER - distance, 0.0)
    low = after[..., 2] - TIP < carried[..., 2] + solids.half_height - 0.005  # else the fingers are on top, not beside
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


@cache
def home_position(robot: str = "panda") -> np.ndarray:
    """(3,) [m] the end effector at the profile's home, base frame."""
    profile = load_profile(robot)
    return frozen(ArmKinematics(profile).forward(np.array(profile.home)).position)
