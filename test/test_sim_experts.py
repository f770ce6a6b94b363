"""The experts as functions, and the oracle in both worlds."""

from dataclasses import replace

import numpy as np
import pytest

from vla_ros.evaluation.rollout import run_episode
from vla_ros.profile import load_profile
from vla_ros.sim.bullet import BulletWorld
from vla_ros.sim.experts import FAMILIES, STEP, ArmStates, arm_chunk, base_chunk
from vla_ros.sim.experts.arm import after_step, arm_action
from vla_ros.sim.mock import MockWorld
from vla_ros.sim.motion import Solids, drive
from vla_ros.sim.oracle import OraclePolicy
from vla_ros.sim.tasks import TASKS, get_task
from vla_ros.sim.tasks.task import DIRECTION_VECTORS, RELATION_VECTORS
from vla_ros.sim.world import RELATIONS, SHAPES, half_height, support_height

HORIZON = 8


def batch(n, seed=0, families=FAMILIES):
    """Random states over the table, for families, shapes, directions and relations as they occur together."""
    rng = np.random.default_rng(seed)
    family = np.array([FAMILIES.index(f) for f in families])[rng.integers(0, len(families), n)]
    names = np.array(FAMILIES)[family]
    shape, below = rng.integers(0, 3, n), rng.integers(0, 2, n)  # a cone is not a ball
    shape[shape == 2] = SHAPES.index("cone")
    below[names == "place"] = rng.integers(4, 6, n)[names == "place"]
    relation = np.select([names == f for f in ("place", "next_to", "stack")], [1, rng.integers(2, 7, n), 7], 0)
    direction = np.array(list(DIRECTION_VECTORS.values()))[rng.integers(0, 4, n)] * (names == "push")[:, None]
    size, below_size = rng.uniform(0.042, 0.05, n), np.where(names == "place", 0.12, rng.uniform(0.042, 0.05, n))
    target, reference = (on_table(rng, *thing) for thing in ((shape, size), (below, below_size)))
    crowd = np.linalg.norm(target - reference, axis=1) < 0.12
    target[crowd, :2] = reference[crowd, :2] - 0.13 * np.sign(reference[crowd, 1:2]) * [0, 1]
    return ArmStates(family, rng.uniform([0.3, -0.3, 0.015], [0.7, 0.3, 0.35], (n, 3)), rng.uniform(0, 0.08, n),
                     target, shape, size, direction, reference, below, below_size, relation)


def on_table(rng, shape, size):
    """(N, 3) random centres of objects on the table."""
    return np.concatenate([rng.uniform([0.38, -0.17], [0.64, 0.17], (len(size), 2)), half_height(shape, size)[:, None]],
                          axis=1)


def rolled(states, steps):
    """The states after so many actions, tracked perfectly."""
    solids, below = (Solids.of(*pair) for pair in ((states.shape, states.size),
                                                   (states.reference_shape, states.reference_size)))
    for _ in range(steps):
        states = after_step(states, arm_action(states), solids, below)
    return states


def test_arm_chunks_stay_inside_their_limits():
    states = batch(3000)
    chunk = arm_chunk(states, HORIZON)
    assert chunk.shape == (3000, HORIZON, 4) and np.isfinite(chunk).all()
    assert np.linalg.norm(chunk[..., :3], axis=-1).max() <= STEP + 1e-9
    assert chunk[..., 3].min() >= 0 and chunk[..., 3].max() <= 1
    assert (chunk[states.family <= FAMILIES.index("push"), :, 3] == 0).all()
    assert (chunk[states.family == FAMILIES.index("stop"), :, :3] == 0).all()


def test_a_batch_is_its_members():
    states = batch(60)
    whole = arm_chunk(states, HORIZON)
    for i in range(60):
        np.testing.assert_allclose(arm_chunk(states.take([i]), HORIZON)[0], whole[i], atol=1e-12)
    named = replace(states, family=[FAMILIES[f] for f in states.family])
    np.testing.assert_array_equal(arm_chunk(named, HORIZON), whole)


def test_arguments_are_left_as_they_were():
    states, copies = batch(30), batch(30)
    arm_chunk(states, HORIZON)
    for name, value in vars(copies).items():
        np.testing.assert_array_equal(getattr(states, name), value)


@pytest.mark.parametrize("name", ["ee", "target", "gap"])
def test_first_actions_hardly_change_with_the_state(name):
    """No hard switches: a tenth of a millimetre changes the first action by no more than a few millimetres."""
    for states in (batch(5000, seed=1), rolled(batch(5000, seed=1), 12), rolled(batch(5000, seed=1), 22)):
        value = getattr(states, name)
        nudged = replace(states, **{name: value + np.random.default_rng(2).normal(scale=1e-4, size=value.shape)})
        change = np.abs(arm_chunk(states, 1) - arm_chunk(nudged, 1))[:, 0]
        assert change[:, :3].max() < 0.006 and change[:, 3].max() < 0.2


def test_travelling_is_high():
    """Low and far from the goal, the first thing is to go up and not sideways."""
    states = batch(2000, seed=3, families=("reach", "push", "pick", "place", "stack"))
    low = replace(states, ee=np.concatenate([states.ee[:, :2], np.full((2000, 1), 0.03)], axis=1))
    far = np.linalg.norm(states.ee[:, :2] - states.target[:, :2], axis=1) > 0.15
    first = arm_chunk(low, 1)[far, 0]
    assert (first[:, 2] > 0.02).all() and np.abs(first[:, :2]).max() < 1e-6


@pytest.mark.parametrize("name", ["place", "next_to", "stack"])
def test_transport_sets_the_object_down_and_leaves_it(name):
    states = batch(200, seed=4, families=[name])
    start = replace(states, ee=np.tile([0.45, 0.0, 0.25], (200, 1)))
    end = rolled(start, 60)
    offset = end.target - end.reference
    if name == "next_to":
        apart = np.linalg.norm(offset[:, :2], axis=1)
        np.testing.assert_allclose(apart, 0.085, atol=0.012)
        sides = np.array([RELATION_VECTORS.get(r, (0, 0)) for r in RELATIONS])[end.relation]
        named = np.any(sides, axis=1)
        assert (np.sum(offset[:, :2] * sides, axis=1)[named] > 0.95 * apart[named]).all()
        np.testing.assert_allclose(end.target[:, 2], half_height(end.shape, end.size))
    else:
        rest = support_height(end.reference_shape, end.reference_size) + half_height(end.shape, end.size)
        assert np.linalg.norm(offset[:, :2], axis=1).max() < 0.015
        np.testing.assert_allclose(offset[:, 2], rest)
    assert end.gap.min() > 0.07 and (end.ee[:, 2] > end.target[:, 2] + 0.04).all()
    np.testing.assert_allclose(rolled(end, 10).target, end.target)  # what lies there stays there


def test_what_is_in_the_hand_stays_in_it():
    """Going home, away or stopping with an object lifted, the fingers keep closed on it."""
    states = batch(300, seed=5, families=["home", "away", "stop"])
    solids = Solids.of(states.shape, states.size)
    target = states.target + [0, 0, 0.1]
    held = replace(states, target=target, ee=solids.grip_point(target),
                   gap=solids.width_at(solids.grip_point(target), target))
    end = rolled(held, 12)
    np.testing.assert_allclose(end.target - held.target, end.ee - held.ee, atol=1e-9)
    stays = held.family == FAMILIES.index("stop")
    assert np.linalg.norm(end.ee - held.ee, axis=1)[stays].max() == 0
    home = held.family == FAMILIES.index("home")
    assert np.linalg.norm(end.ee - held.home, axis=1)[home].max() < 0.02


def test_away_ends_at_a_distance():
    states = batch(200, seed=6, families=["away"])
    near = replace(states, ee=states.target + np.random.default_rng(0).uniform(-0.05, 0.05, (200, 3)) + [0, 0, 0.06])
    distance = np.linalg.norm(rolled(near, 30).ee - near.target, axis=1)
    assert distance.min() > 0.185 and distance.max() < 0.25


def test_fingers_stop_at_the_width_of_what_they_take():
    """A cone is held about where it is 0.7 of its size wide, a little lower by the tips."""
    states = rolled(replace(batch(200, seed=7, families=["pick"]), gap=np.full(200, 0.08)), 30)
    cone = states.shape == SHAPES.index("cone")
    np.testing.assert_allclose(states.gap[cone], 0.7 * states.size[cone], atol=0.006)
    np.testing.assert_allclose(states.gap[~cone], states.size[~cone])
    assert (states.target[:, 2] > 0.1).all()


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
    assert all(o.seconds < max(0.7 * task.time_limit, 1.01 * task.hold) for o in outcomes)
