"""Place, next_to and stack are one rule: pick the object, carry it over its goal, set it down there, leave it.

N states; positions [m]. A goal is where the object's centre is to come to rest; how well an object lies there is a
weight between 0 and 1, and wider than the goal is exact: what lies well is not picked up again.
"""

from __future__ import annotations

import numpy as np

from vla_ros.sim.experts.states import FAMILIES, ArmStates
from vla_ros.sim.experts.steps import LIFT, blend, point, ramp, towards
from vla_ros.sim.motion import Solids
from vla_ros.sim.tasks.next_to import BESIDE
from vla_ros.sim.tasks.task import RELATION_VECTORS
from vla_ros.sim.world import RELATIONS

SIDES = np.array([RELATION_VECTORS.get(relation, (0.0, 0.0)) for relation in RELATIONS])  # (relations, 2)


def transport(s: ArmStates) -> np.ndarray:
    """(N, 4) for states of the families place, next_to and stack."""
    step, fingers, held = approach(s)
    goal, lies = goal_of(s)
    left = goal - s.target
    above = 1 - ramp(np.linalg.norm(left[:, :2], axis=1), 0.008, 0.026)
    carried = towards(s.ee, s.ee + left, above, travel=LIFT)
    free = blend(lies, leave(s), step)
    return point(blend(held, carried, free), np.maximum(fingers, lies))


def approach(s: ArmStates) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Open fingers down around the object, then closed: steps (N, 3), gripper fraction (N,), how held it is (N,)."""
    solids = Solids.of(s.shape, s.size)
    grip, width = solids.grip_point(s.target), solids.width_at(s.ee, s.target)
    away, above = np.linalg.norm((s.ee - grip)[:, :2], axis=1), np.abs(s.ee[:, 2] - grip[:, 2])
    between = (1 - ramp(away, 0.012, 0.022)) * (1 - ramp(above, 0.020, 0.032))
    held = between * (1 - ramp(s.gap, width + 0.004, width + 0.009))
    aligned = (1 - ramp(away, 0.006, 0.012)) * (1 - ramp(above, 0.006, 0.014))
    # Down only with fingers open wide enough, except when they are around the object already.
    near = (1 - ramp(away, 0.008, 0.024)) * np.maximum(ramp(s.gap, s.size + 0.006, s.size + 0.016), between)
    return towards(s.ee, grip, near), 1 - np.maximum(aligned, held), held


def leave(s: ArmStates) -> np.ndarray:
    """(N, 3) straight up, once the fingers are wide of the object."""
    width = Solids.of(s.shape, s.size).width_at(s.ee, s.target)
    wide = ramp(s.gap, width + 0.009, width + 0.018)
    up = towards(s.ee, point(s.ee[:, :2], np.maximum(s.ee[:, 2], LIFT)), np.ones(len(wide)))
    return wide[:, None] * up


def goal_of(s: ArmStates) -> tuple[np.ndarray, np.ndarray]:
    """Goals (N, 3) of the objects, and how well they lie there (N,)."""
    solids, below = Solids.of(s.shape, s.size), Solids.of(s.reference_shape, s.reference_size)
    beside = s.family == FAMILIES.index("next_to")
    offset = s.target[:, :2] - s.reference[:, :2]
    away = np.linalg.norm(offset, axis=1)
    side = SIDES[s.relation]
    heading = np.where(np.any(side, axis=1)[:, None], side, offset / np.maximum(away, 1e-6)[:, None])
    goal = point(s.reference[:, :2] + np.where(beside, BESIDE, 0.0)[:, None] * heading,
                 np.where(beside, 0.0, s.reference[:, 2] + below.support) + solids.half_height)
    facing = np.sum(offset * heading, axis=1) / np.maximum(away, 1e-6)
    near_it = ramp(away, 0.038, 0.044) * (1 - ramp(away, 0.092, 0.100)) * ramp(facing, 0.85, 0.93)
    stacked = s.family == FAMILIES.index("stack")
    on_it = 1 - ramp(away, np.where(stacked, 0.010, 0.030), np.where(stacked, 0.018, 0.042))
    low = 1 - ramp(np.abs(s.target[:, 2] - goal[:, 2]), 0.004, 0.010)
    return goal, low * np.where(beside, near_it, on_it)
