"""Scripted experts: actions as functions of the present state only, for a whole batch at once.

Because they remember nothing, any frame can be labelled for any instruction and any target afterwards. The labels of a
chunk come from a kinematic roll-out with perfect tracking. The rules are blended by smooth functions of the errors, not
switched, because a small network has to imitate them.

Dimension letters: N batch, T horizon.
"""

from __future__ import annotations

import numpy as np

from vla_ros.profile import load_profile
from vla_ros.sim import motion
from vla_ros.sim.world import half_height

FAMILIES = ("reach", "push", "pick")  # of the arm
TRAVEL = 0.115  # [m] end-effector height at which the fingertips pass over every object
LIFT = 0.14  # [m] end-effector height with an object in hand
STEP = 0.032  # [m] longest move in one action step
GAIN = 0.55  # share of the error that is moved in one step
PUSH_STEP = 0.02  # [m] per step while pushing
PUSH_START = 0.04  # [m] behind the object's surface, where the fingers come down
PUSH_HEIGHT = 0.025  # [m] end-effector height at most: pushed higher up, a cylinder falls over
PRESS = 0.002  # [m] that a touch aims below the surface
BASE_GAP = 0.17  # [m] between bumper and surface at rest


def ramp(x: np.ndarray, low, high) -> np.ndarray:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3 - 2 * t)


def arm_action(family: np.ndarray, ee: np.ndarray, gap: np.ndarray, target: np.ndarray, shape: np.ndarray,
               size: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """(N, 4): dx, dy, dz [m in one step], gripper fraction (1 open). Arguments as in arm_chunk, family as indices."""
    pushing, picking = family == 1, family == 2
    plan = [_reach(ee, target, shape, size), _push(ee, target, size, direction), _pick(ee, gap, target, size)]
    goal, near, move, fingers = (np.select([_like(pushing, p), _like(picking, p)], [p, q], r)
                                 for r, p, q in zip(*plan, strict=True))
    return np.concatenate([_step(ee, goal, near, move), fingers[:, None]], axis=1)


def _like(mask: np.ndarray, array: np.ndarray) -> np.ndarray:
    return mask.reshape(mask.shape + (1,) * (array.ndim - 1))


def _step(ee: np.ndarray, goal: np.ndarray, near: np.ndarray, move: np.ndarray) -> np.ndarray:
    """(N, 3): over the objects while far from the goal (near = 0), down on it when above it (near = 1).

    move (N, 2) is added to the horizontal step. Sideways only when high enough or near: nothing is to be knocked over.
    """
    height = near * goal[:, 2] + (1 - near) * np.maximum(TRAVEL, goal[:, 2])
    high = ramp(ee[:, 2], TRAVEL - 0.05, TRAVEL - 0.015)
    free = np.maximum(near, high)[:, None]
    error = np.concatenate([goal[:, :2] - ee[:, :2], (height - ee[:, 2])[:, None]], axis=1)
    step = GAIN * error
    step[:, :2] = (step[:, :2] + move) * free
    length = np.linalg.norm(step, axis=1, keepdims=True)
    return step * np.minimum(1.0, STEP / np.maximum(length, 1e-9))


def _reach(ee, target, shape, size):
    """Closed fingers onto the middle of the object's top."""
    top = target[:, 2] + half_height(shape, size)
    goal = np.concatenate([target[:, :2], (top + motion.TIP - PRESS)[:, None]], axis=1)
    away = np.linalg.norm(ee[:, :2] - target[:, :2], axis=1)
    return goal, 1 - ramp(away, 0.010, 0.035), np.zeros((len(ee), 2)), np.zeros(len(ee))


def _push(ee, target, size, direction):
    """Closed fingers down behind the object, then along the direction for as long as it takes."""
    offset = ee[:, :2] - target[:, :2]
    along = np.sum(offset * direction, axis=1)
    across = offset[:, 0] * direction[:, 1] - offset[:, 1] * direction[:, 0]
    height = np.minimum(target[:, 2], PUSH_HEIGHT)
    low = 1 - ramp(ee[:, 2] - height, 0.015, 0.04)
    start = -(size / 2 + PUSH_START)
    # Coming down has to happen behind the object; once low, the fingers may follow it up to contact.
    past = np.maximum(0.0, along - start - 0.01 - low * (PUSH_START + 0.02)) + np.maximum(0.0, start - 0.03 - along)
    near = 1 - ramp(np.hypot(across, past), 0.010, 0.035)
    push = low * near
    # While pushing, the goal keeps its distance along the direction and only corrects what is across it.
    ahead = push * along + (1 - push) * start
    goal = np.concatenate([target[:, :2] + ahead[:, None] * direction, height[:, None]], axis=1)
    return goal, near, PUSH_STEP * push[:, None] * direction, np.zeros(len(ee))


def _pick(ee, gap, target, size):
    """Open fingers down around the object, close, lift for as long as the object is held."""
    offset = ee - target
    away, above = np.linalg.norm(offset[:, :2], axis=1), np.abs(offset[:, 2])
    between = (1 - ramp(away, 0.012, 0.022)) * (1 - ramp(above, 0.016, 0.028))
    held = between * (1 - ramp(gap, size + 0.002, size + 0.006))
    aligned = (1 - ramp(away, 0.006, 0.012)) * (1 - ramp(above, 0.006, 0.014))
    # Down only with fingers open wide enough, except when they are around the object already.
    near = (1 - ramp(away, 0.010, 0.035)) * np.maximum(ramp(gap, size + 0.006, size + 0.016), between)
    height = (1 - held) * target[:, 2] + held * LIFT
    goal = np.concatenate([target[:, :2], height[:, None]], axis=1)
    return goal, near, np.zeros((len(ee), 2)), 1 - np.maximum(aligned, held)


def arm_chunk(family, ee, gap, target, shape, size, direction, horizon: int) -> np.ndarray:
    """(N, T, 4): dx, dy, dz [m in one action step, base frame], gripper fraction (1 open, 0 closed).

    family (N,) names or indices into FAMILIES; ee (N, 3) [m]; gap (N,) [m]; target (N, 3) object centre [m];
    shape (N,) index into SHAPES; size (N,) [m]; direction (N, 2) unit vector or zero.
    """
    family, shape = family_index(family), np.asarray(shape)
    ee, gap, target, size, direction = (np.array(a, dtype=float) for a in (ee, gap, target, size, direction))
    tall, actions = half_height(shape, size), []
    for _ in range(horizon):
        action = arm_action(family, ee, gap, target, shape, size, direction)
        moved = ee + action[:, :3]
        gap = motion.close_fingers(gap, action[:, 3] * motion.GAP_OPEN, ee, target, size)
        ee, target = moved, motion.carry(ee, moved, gap, target, size, tall)
        actions.append(action)
    return np.stack(actions, axis=1)


def family_index(family) -> np.ndarray:
    """(N,) indices into FAMILIES from names or indices."""
    family = np.asarray(family)
    return family if family.dtype.kind in "iu" else np.array([FAMILIES.index(f) for f in family.tolist()], dtype=int)


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
