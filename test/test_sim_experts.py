"""The experts as functions, and the oracle in both worlds."""

import numpy as np
import pytest

from vla_ros.evaluation.rollout import run_episode
from vla_ros.profile import load_profile
from vla_ros.sim.bullet import BulletWorld
from vla_ros.sim.experts import FAMILIES, STEP, arm_chunk, base_chunk
from vla_ros.sim.mock import MockWorld
from vla_ros.sim.motion import drive
from vla_ros.sim.oracle import OraclePolicy
from vla_ros.sim.tasks import TASKS, get_task
from vla_ros.sim.tasks.task import DIRECTION_VECTORS

HORIZON = 8


def batch(n, seed=0):
    """Random states over the table, for every family, shape and direction."""
    rng = np.random.default_rng(seed)
    family = rng.integers(0, 3, n)
    direction = np.array(list(DIRECTION_VECTORS.values()))[rng.integers(0, 4, n)] * (family == 1)[:, None]
    ee = rng.uniform([0.3, -0.3, 0.015], [0.7, 0.3, 0.35], (n, 3))
    return dict(family=family, ee=ee, gap=rng.uniform(0, 0.08, n),
                target=np.concatenate([rng.uniform([0.38, -0.17], [0.64, 0.17], (n, 2)), np.full((n, 1), 0.024)], 1),
                shape=rng.integers(0, 3, n), size=rng.uniform(0.042, 0.05, n), direction=direction)


def test_arm_chunks_stay_inside_their_limits():
    states = batch(3000)
    chunk = arm_chunk(**states, horizon=HORIZON)
    assert chunk.shape == (3000, HORIZON, 4) and np.isfinite(chunk).all()
    assert np.linalg.norm(chunk[..., :3], axis=-1).max() <= STEP + 1e-9
    assert chunk[..., 3].min() >= 0 and chunk[..., 3].max() <= 1
    assert (chunk[states["family"] != FAMILIES.index("pick"), :, 3] == 0).all()


def test_a_batch_is_its_members():
    states = batch(40)
    whole = arm_chunk(**states, horizon=HORIZON)
    for i in range(40):
        single = arm_chunk(**{k: v[i:i + 1] for k, v in states.items()}, horizon=HORIZON)
        np.testing.assert_allclose(single[0], whole[i], atol=1e-12)
    named = dict(states, family=[FAMILIES[f] for f in states["family"]])
    np.testing.assert_array_equal(arm_chunk(**named, horizon=HORIZON), whole)


def test_arguments_are_left_as_they_were():
    states = batch(5)
    copies = {k: v.copy() for k, v in states.items()}
    arm_chunk(**states, horizon=HORIZON)
    for key, value in copies.items():
        np.testing.assert_array_equal(states[key], value)


def test_first_actions_hardly_change_with_the_state():
    """No hard switches: a tenth of a millimetre changes the first action by no more than a few millimetres."""
    states = batch(4000, seed=1)
    nudged = dict(states, ee=states["ee"] + np.random.default_rng(2).normal(scale=1e-4, size=(4000, 3)))
    first, second = arm_chunk(**states, horizon=1), arm_chunk(**nudged, horizon=1)
    assert np.abs(first - second)[..., :3].max() < 0.004


def test_travelling_is_high():
    """Low and far from the goal, the first thing is to go up and not sideways."""
    states = batch(2000, seed=3)
    far = np.linalg.norm(states["ee"][:, :2] - states["target"][:, :2], axis=1) > 0.15
    low = dict(states, ee=np.concatenate([states["ee"][:, :2], np.full((2000, 1), 0.03)], axis=1))
    first = arm_chunk(**low, horizon=1)[far, 0]
    assert (first[:, 2] > 0.02).all() and np.abs(first[:, :2]).max() < 1e-6


def test_base_chunks_respect_the_robot():
    rng, limits = np.random.default_rng(0), load_profile("husky").limits
    targets, twist = rng.uniform(-3, 3, (500, 2)), rng.uniform([-0.2, -1.0], [0.6, 1.0], (500, 2))
    chunk = base_chunk(targets, np.full(500, 0.16), twist, HORIZON)
    assert chunk.shape == (500, HORIZON, 2)
    assert np.abs(chunk[..., 0]).max() <= limits.v + 1e-9 and np.abs(chunk[..., 1]).max() <= limits.w + 1e-9
    steps = np.diff(np.concatenate([twist[:, None], chunk], axis=1), axis=1)
    assert np.abs(steps[..., 0]).max() <= limits.v_acceleration * 0.1 + 1e-9
    assert np.abs(steps[..., 1]).max() <= limits.w_acceleration * 0.1 + 1e-9


def test_base_expert_comes_to_rest_at_the_object():
    target = np.array([[2.0, 0.8], [1.4, -0.6], [2.5, 0.0]])
    chunk, pose = base_chunk(target, np.full(3, 0.16), np.zeros((3, 2)), 80), np.zeros((3, 3))
    for k in range(80):
        pose = drive(pose, chunk[:, k], 0.1)
    gap = np.linalg.norm(target - pose[:, :2], axis=1) - 0.16 - 0.5
    assert np.abs(chunk[:, -1]).max() < 0.01 and (gap > 0.1).all() and (gap < 0.25).all()


def test_driving_an_arc_in_one_step_or_in_many():
    pose, twist = np.array([[0.1, -0.2, 0.3]]), np.array([[0.5, 0.9]])
    fine = pose
    for _ in range(50):
        fine = drive(fine, twist, 0.02)
    np.testing.assert_allclose(drive(pose, twist, 1.0), fine, atol=1e-12)


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("kind", [BulletWorld, MockWorld])
def test_the_oracle_succeeds(kind, name):
    task = get_task(name)
    world = kind(load_profile(task.robot), task, cameras=())
    outcomes = [run_episode(world, OraclePolicy(world), seed, task) for seed in range(1000, 1004)]
    world.close()
    assert [o.ending for o in outcomes] == ["success"] * 4
    assert all(o.seconds < 0.7 * task.time_limit for o in outcomes)
