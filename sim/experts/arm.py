"""The arm's experts: touch, push, pick, leave, and the roll-out that makes chunks of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vla_ros.sim import motion
from vla_ros.sim.experts.states import FAMILIES, ArmStates
from vla_ros.sim.experts.steps import LIFT, STEP, blend, limited, point, ramp, towards
from vla_ros.sim.experts.transport import approach, transport
from vla_ros.sim.motion import Solids

PUSH_STEP = 0.02  # [m] per step while pushing
PUSH_START = 0.04  # [m] behind the object's surface, where the fingers come down
PUSH_HEIGHT = 0.025  # [m] end-effector height at most: pushed higher up, a cylinder falls over
PRESS = 0.002  # [m] that a touch aims below the surface
LEAVE = (0.195, 0.235)  # [m] distance from an object between which moving away from it comes to an end
SQUEEZE = 0.06  # share of the opening by which fingers that may hold something are told to be tighter


def reach(s: ArmStates) -> np.ndarray:
    """Closed fingers onto the middle of the object's top."""
    top = s.target[:, 2] + Solids.of(s.shape, s.size).half_height
    away = np.linalg.norm(s.ee[:, :2] - s.target[:, :2], axis=1)
    goal = point(s.target[:, :2], top + motion.TIP - PRESS)
    return point(towards(s.ee, goal, 1 - ramp(away, 0.010, 0.035)), np.zeros(len(s.ee)))


def push(s: ArmStates) -> np.ndarray:
    """Closed fingers down behind the object, then along the direction for as long as it takes."""
    offset, direction = s.ee[:, :2] - s.target[:, :2], s.direction
    along = np.sum(offset * direction, axis=1)
    across = offset[:, 0] * direction[:, 1] - offset[:, 1] * direction[:, 0]
    height = np.minimum(s.target[:, 2], PUSH_HEIGHT)
    low = 1 - ramp(s.ee[:, 2] - height, 0.015, 0.04)
    start = -(s.size / 2 + PUSH_START)
    # Coming down has to happen behind the object; once low, the fingers may follow it up to contact.
    past = np.maximum(0.0, along - start - 0.01 - low * (PUSH_START + 0.02)) + np.maximum(0.0, start - 0.03 - along)
    near = 1 - ramp(np.hypot(across, past), 0.010, 0.035)
    pushing = low * near
    # While pushing, the goal keeps its distance along the direction and only corrects what is across it.
    ahead = pushing * along + (1 - pushing) * start
    goal = point(s.target[:, :2] + ahead[:, None] * direction, height)
    step = towards(s.ee, goal, near, move=PUSH_STEP * pushing[:, None] * direction)
    return point(step, np.zeros(len(step)))


def pick(s: ArmStates) -> np.ndarray:
    """Open fingers down around the object, close, lift for as long as the object is held."""
    step, fingers, held = approach(s)
    lift = towards(s.ee, point(s.ee[:, :2], np.full(len(step), LIFT)), np.ones(len(step)))
    return point(blend(held, lift, step), fingers)


def away(s: ArmStates) -> np.ndarray:
    """Up and away from the object, the fingers as they are."""
    offset = s.ee - s.target
    aside = offset[:, :2] / np.sqrt(np.sum(offset[:, :2] ** 2, axis=1, keepdims=True) + 0.02**2)
    high = ramp(s.ee[:, 2] - s.target[:, 2], 0.03, 0.08)  # first up: nothing is to be knocked over
    left = 1 - ramp(np.linalg.norm(offset, axis=1), *LEAVE)
    step = STEP * left[:, None] * point(0.7 * high[:, None] * aside, np.ones(len(offset)))
    return point(limited(step), same_fingers(s.gap))


def home(s: ArmStates) -> np.ndarray:
    """To the home position, the fingers as they are."""
    goal = np.broadcast_to(s.home, s.ee.shape)
    return point(towards(s.ee, goal, 1 - ramp(np.linalg.norm(goal - s.ee, axis=1), 0.02, 0.06)), same_fingers(s.gap))


def stop(s: ArmStates) -> np.ndarray:
    """No motion."""
    return point(np.zeros_like(s.ee), same_fingers(s.gap))


def same_fingers(gap: np.ndarray) -> np.ndarray:
    """(N,) the opening as it is, a little tighter where an object may be between the fingers: it must not slip."""
    return np.clip(gap / motion.GAP_OPEN - SQUEEZE * (1 - ramp(gap, 0.052, 0.066)), 0.0, 1.0)


RULES = {"reach": reach, "push": push, "pick": pick, "place": transport, "next_to": transport, "stack": transport,
         "away": away, "home": home, "stop": stop}


def arm_action(states: ArmStates) -> np.ndarray:
    """(N, 4): dx, dy, dz [m in one step], gripper fraction (1 open)."""
    actions = np.zeros((len(states.ee), 4))
    for index in np.unique(states.family):
        rows = np.flatnonzero(states.family == index)
        actions[rows] = RULES[FAMILIES[index]](states.take(rows))
    return actions


def arm_chunk(states: ArmStates, horizon: int) -> np.ndarray:
    """(N, T, 4): dx, dy, dz [m in one action step, base frame], gripper fraction (1 open, 0 closed)."""
    states = states.arrays()
    solids = Solids.of(states.shape, states.size)
    carrier = Solids.of(states.reference_shape, states.reference_size)
    actions = []
    for _ in range(horizon):
        actions.append(arm_action(states))
        states = after_step(states, actions[-1], solids, carrier)
    return np.stack(actions, axis=1)


def after_step(s: ArmStates, action: np.ndarray, solids: Solids, carrier: Solids) -> ArmStates:
    """The states after an action, tracked perfectly; what is let go falls onto the reference or the table."""
    ee = s.ee + action[:, :3]
    gap = motion.close_fingers(s.gap, action[:, 3] * motion.GAP_OPEN, s.ee, s.target, solids)
    target = motion.carry(s.ee, ee, gap, s.target, solids)
    let_go = motion.grasps(s.ee, s.gap, s.target, solids) & ~motion.grasps(s.ee, gap, s.target, solids)
    target[:, 2] = np.where(let_go, solids.rest_height(target, s.reference, carrier), target[:, 2])
    return replace(s, ee=ee, gap=gap, target=target)
