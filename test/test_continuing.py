"""What a chunk that runs leaves to go on from, in numbers of the next."""

from dataclasses import replace

import numpy as np
import pinocchio as pin
import pytest
from core_samples import HUSKY, PANDA

from vla_ros.continuing import Committing
from vla_ros.decoding import waypoints
from vla_ros.types import ActionChunk, JointState, Observation, Pose

MS = 1_000_000
HERE = np.array([0.5, 0.1, 0.3])
SIX = ("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper")
TURNING = replace(PANDA.action, names=SIX, units=("m",) * 3 + ("rad",) * 3 + ("1",))


def seen(stamp: int, position=HERE, rotation=None) -> Observation:
    pose = Pose(np.array(position), np.eye(3) if rotation is None else rotation)
    return Observation({}, JointState({}, {}, stamp), "go", {"front": stamp}, pose)


def chunk(spec=PANDA.action, steps=8, stamp=0, seed=0) -> ActionChunk:
    values = np.random.default_rng(seed).uniform(-0.02, 0.02, (steps, spec.dim))
    if "gripper" in spec.names:
        values[:, -1] = np.arange(steps) >= steps // 2
    return ActionChunk(values, spec, stamp)


def committing(given: ActionChunk, before: Observation, delay: float = 0.25) -> Committing:
    made = Committing(given.spec, delay, execute_steps=4)
    made.keep(given, before)
    return made


@pytest.mark.parametrize("spec", [PANDA.action, TURNING])
@pytest.mark.parametrize("late", [50, 100, 230])
def test_it_leads_along_the_poses_of_the_chunk_that_runs(spec, late):
    """Also where the hand is behind, and turned, and for an observation between two steps."""
    given, before = chunk(spec), seen(0)
    way = waypoints(given, before.ee_pose)
    turn = pin.exp3(np.array([0.02, -0.01, 0.03])) if spec is TURNING else np.eye(3)
    now = seen(late * MS, HERE + [0.01, -0.02, 0.005], turn)
    said = committing(given, before).at(now)
    assert said.left == int(8 - late / 100) and not said.values[said.left:].any()
    led = waypoints(replace(given, values=said.values[:said.left]), now.ee_pose)
    whole, share = divmod(late / 100, 1)
    for row in range(1, said.left + 1):
        i = int(whole) + row
        a, b = way.positions[i], way.positions[min(i + 1, 8)]
        assert np.allclose(led.positions[row], a + share * (b - a), atol=1e-9)
        if not share:
            assert np.allclose(led.rotations[row], way.rotations[i], atol=1e-9)
    opens = np.floor(late / 100 + np.arange(said.left) + 0.5) >= 4
    assert said.values[:said.left, -1].tolist() == opens.tolist()


@pytest.mark.parametrize("delay,frozen", [(0.0, 0), (0.1, 1), (0.100001, 2), (0.3, 3), (9.0, 6)])
def test_what_is_executed_until_the_answer_is_there_is_frozen(delay, frozen):
    assert committing(chunk(), seen(0), delay).at(seen(200 * MS)).frozen == frozen


def test_a_bases_velocities_are_those_of_the_time():
    given = chunk(HUSKY.action)
    period = HUSKY.action.period_ns
    said = Committing(HUSKY.action, 0.0, 4)
    said.keep(given, seen(0))
    values = said.at(seen(period // 4)).values
    assert np.allclose(values[:7], 0.75 * given.values[:7] + 0.25 * given.values[1:])
    assert np.allclose(said.at(seen(2 * period)).values[:6], given.values[2:])


ELSEWHERE = [seen(750 * MS), seen(2000 * MS), seen(-MS), seen(0), seen(100 * MS, HERE + [0.15, 0, 0]),
             seen(100 * MS, HERE, pin.exp3(np.array([0.9, 0, 0])))]


@pytest.mark.parametrize("now", ELSEWHERE, ids=["less than a step left", "run out", "before it", "not dated",
                                                "elsewhere", "turned elsewhere"])
def test_nothing_is_left_of_a_chunk_that_is_over_or_did_not_lead_here(now):
    assert committing(chunk(TURNING), seen(0)).at(now) is None


def test_a_hand_that_nothing_turns_may_be_turned():
    before, now = (seen(late * MS, HERE, pin.exp3(np.array([0.9, late, 0.1]))) for late in (0, 100))
    assert committing(chunk(), before).at(now) is not None


def test_a_robot_that_does_not_follow_is_not_made_to_catch_up():
    """A centimetre a step, and it stands: half a second later it would have to make up for six."""
    values = np.zeros((8, 4))
    values[:, 0] = 0.01
    made = committing(ActionChunk(values, PANDA.action, 0), seen(0))
    found = [made.at(seen(late * MS)) for late in (100, 490, 510, 600)]
    assert [one is None for one in found] == [False, False, True, True]
    assert found[1].values[0, 0] == pytest.approx(0.059)


def test_nothing_is_left_without_a_chunk_or_after_a_refusal():
    made = Committing(PANDA.action, 0.1, 4)
    assert made.at(seen(0)) is None
    made.keep(chunk(), seen(0))
    made.keep(ActionChunk(np.zeros((0, PANDA.action.dim)), PANDA.action, 10, refusal="no"), seen(10))
    assert made.at(seen(100 * MS)) is None


@pytest.mark.parametrize("later,taken", [(100, False), (399, False), (400, True), (900, True), (-100, True), (0, True)])
def test_a_chunk_that_comes_early_is_in_force_for_nobody(later, taken):
    """As the control node has it: test_commanding.py."""
    first, second = chunk(), chunk(stamp=later * MS, seed=1)
    made = committing(first, seen(0))
    made.keep(second, seen(later * MS))
    of = second if taken else first
    left = made.at(seen(of.stamp + 100 * MS, waypoints(of, seen(0).ee_pose).positions[1])).values
    assert np.allclose(left[:7], of.values[1:])
