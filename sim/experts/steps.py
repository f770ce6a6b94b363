"""Steps of the end effector that the rules are made of. N states; positions [m]."""

from __future__ import annotations

import numpy as np

TRAVEL = 0.115  # [m] end-effector height at which the fingertips pass over every object
LIFT = 0.16  # [m] end-effector height with an object in hand, which then passes over the others
STEP = 0.032  # [m] longest move in one action step
GAIN = 0.55  # share of the error that is moved in one step


def ramp(x: np.ndarray, low, high) -> np.ndarray:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3 - 2 * t)


def blend(weight: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`a` (N, D) where weight (N,) is 1, `b` where it is 0."""
    return weight[:, None] * a + (1 - weight[:, None]) * b


def point(xy: np.ndarray, z: np.ndarray) -> np.ndarray:
    """(N, 3) from (N, 2) and (N,)."""
    return np.concatenate([xy, z[:, None]], axis=1)


def limited(step: np.ndarray) -> np.ndarray:
    """(N, 3) no longer than STEP."""
    length = np.linalg.norm(step, axis=1, keepdims=True)
    return step * np.minimum(1.0, STEP / np.maximum(length, 1e-9))


def towards(ee: np.ndarray, goal: np.ndarray, near: np.ndarray, travel: float = TRAVEL, move=0.0) -> np.ndarray:
    """(N, 3): over the objects while far from the goal (near = 0), down on it when above it (near = 1).

    travel: height of the way; move (N, 2) is added to the horizontal step. Sideways only when high enough or near:
    nothing is to be knocked over.
    """
    height = near * goal[:, 2] + (1 - near) * np.maximum(travel, goal[:, 2])
    high = ramp(ee[:, 2], travel - 0.05, travel - 0.015)
    free = np.maximum(near, high)[:, None]
    step = GAIN * (point(goal[:, :2], height) - ee)
    step[:, :2] = (step[:, :2] + move) * free
    return limited(step)
