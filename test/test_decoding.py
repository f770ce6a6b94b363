"""The decoder: deltas cumulate on the observed pose, the way between is straight, and the arm follows it."""

import numpy as np
import pinocchio as pin
import pytest
from core_samples import HUSKY, PANDA, chunk, joint_state
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_ros.chunking import Step
from vla_ros.decoding import ArmDecoder, BaseDecoder, columns, waypoints
from vla_ros.kinematics import ArmKinematics
from vla_ros.spec import ARM_UNITS, ActionSpec
from vla_ros.types import ActionChunk, Pose

ARM = ArmKinematics(PANDA)
HERE = ARM.forward(np.array(PANDA.home))
SIX = ActionSpec(tuple(ARM_UNITS), tuple(ARM_UNITS.values()), "panda_link0", "delta", "open_is_one", 0.1, 8)
TURNS = np.array([[0, 0, 0, *turn, 1] for turn in ((0.1, 0, 0), (0, 0.2, 0), (0, 0, -0.3))])

moves = st.lists(st.lists(st.floats(-0.05, 0.05), min_size=3, max_size=3), min_size=1, max_size=8).map(np.array)


def arm_chunk(steps, gripper=1.0) -> ActionChunk:
    return chunk(PANDA, np.column_stack([steps, np.full(len(steps), gripper)]))


def follow(decoder: ArmDecoder, made: ActionChunk, ticks: int, said: list[str] | None = None):
    """The commands of the first `ticks` control periods of a chunk, from home."""
    state, said = joint_state(PANDA), [] if said is None else said
    return [decoder.decode(Step(made, *divided(tick)), lambda stamp: state, state, said) for tick in range(ticks)]


def divided(tick: int) -> tuple[int, float]:
    index, rest = divmod(tick, PANDA.ticks_per_step)
    return index, rest / PANDA.ticks_per_step


@given(moves)
def test_deltas_and_positions_are_a_pair(steps):
    way = waypoints(arm_chunk(steps), HERE)
    assert way.positions.shape == (len(steps) + 1, 3) and way.gripper.shape == (len(steps),)
    np.testing.assert_allclose(np.diff(way.positions, axis=0), steps, atol=1e-12)
    np.testing.assert_array_equal(way.positions[0], HERE.position)


@given(moves, st.floats(0, 1))
def test_the_way_is_straight_and_without_gaps(steps, fraction):
    made = arm_chunk(steps)
    way = waypoints(made, HERE)
    for i in range(len(steps)):
        between = way.pose(Step(made, i, fraction)).position
        np.testing.assert_allclose(between, way.positions[i] + fraction * steps[i], atol=1e-12)
    for i in range(1, len(steps)):
        np.testing.assert_allclose(way.pose(Step(made, i - 1, 1.0)).position, way.pose(Step(made, i, 0.0)).position)


def test_turns_are_about_the_axes_of_the_frame_in_their_order():
    made = ActionChunk(TURNS, SIX, 0)
    expected = HERE.rotation
    for turn in TURNS[:, 3:6]:
        expected = pin.exp3(turn) @ expected
    np.testing.assert_allclose(waypoints(made, HERE).rotations[-1], expected, atol=1e-12)


def test_half_a_turn_lies_between():
    made = ActionChunk(TURNS, SIX, 0)
    half = waypoints(made, HERE).pose(Step(made, 0, 0.5)).rotation
    np.testing.assert_allclose(half, pin.exp3(TURNS[0, 3:6] / 2) @ HERE.rotation, atol=1e-9)


def test_a_spec_without_rotation_keeps_the_level_one():
    tilted = Pose(HERE.position, pin.exp3(np.array([0.1, 0, 0])) @ HERE.rotation)
    rotations = waypoints(arm_chunk(np.zeros((2, 3))), tilted, level=HERE.rotation).rotations
    np.testing.assert_allclose(rotations, [HERE.rotation] * 3)


def test_a_dimension_that_the_spec_lacks_stays_still():
    picked = columns(np.array([[1.0, 2.0, 3.0, 1.0]]), PANDA.action, ("dz", "droll", "dx"))
    np.testing.assert_array_equal(picked, [[3.0, 0.0, 1.0]])


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("sign", [-1, 1])
def test_the_arm_follows_the_way_by_forward_kinematics(axis, sign):
    steps = np.zeros((6, 3))
    steps[:, axis] = sign * 0.01
    commands = follow(ArmDecoder(PANDA, ARM), arm_chunk(steps), 6 * PANDA.ticks_per_step)
    reached = ARM.forward(np.array([commands[-1].positions[j] for j in PANDA.joints]))
    expected = HERE.position + steps.sum(0) * (1 - 1 / (6 * PANDA.ticks_per_step))
    np.testing.assert_allclose(reached.position, expected, atol=1e-3)
    np.testing.assert_allclose(reached.rotation, HERE.rotation, atol=1e-2)


@pytest.mark.parametrize("gripper,gap", [(1.0, PANDA.gripper.open), (0.0, PANDA.gripper.closed), (0.5, 0.04),
                                         (7.0, 0.08), (-7.0, 0.0)])
def test_the_gripper_is_a_fraction_of_its_opening_shared_by_both_fingers(gripper, gap):
    said = []
    command = follow(ArmDecoder(PANDA, ARM), arm_chunk(np.zeros((1, 3)), gripper), 1, said)[0]
    assert [command.positions[j] for j in PANDA.gripper.joints] == pytest.approx([gap / 2] * 2)
    assert said == ([] if 0 <= gripper <= 1 else [f"gripper {gripper:g} to {gripper > 0:g}"])


@settings(max_examples=20)
@given(st.lists(st.floats(-1, 1), min_size=3, max_size=3).map(np.array))
def test_the_goal_stays_in_the_workspace(direction):
    """At full speed joint limits bend the way by some cm; where the arm comes to rest is inside."""
    decoder, said = ArmDecoder(PANDA, ARM), []
    commands = follow(decoder, arm_chunk(np.tile(direction, (30, 1))), 30 * PANDA.ticks_per_step, said)
    assert bool(said) == (np.abs(direction).max() > 0.03) or 0.005 < np.abs(direction).max() < 0.03, "it is told"
    reached = [ARM.forward(np.array([c.positions[j] for j in PANDA.joints])).position for c in commands[::6]]
    for slack, position in [*((0.05, p) for p in reached), (1e-3, reached[-1])]:
        assert (position > np.array(PANDA.workspace.min) - slack).all()
        assert (position < np.array(PANDA.workspace.max) + slack).all()


def test_a_new_chunk_goes_on_from_the_last_target_and_a_reset_from_the_measured_joints():
    decoder = ArmDecoder(PANDA, ARM)
    last = follow(decoder, arm_chunk([[0.02, 0, 0]]), PANDA.ticks_per_step)[-1]
    held = follow(decoder, arm_chunk(np.zeros((1, 3))), 1)[0]
    reach = ARM.max_velocity / PANDA.control_rate + 1e-9
    gap = np.array([held.positions[j] - last.positions[j] for j in PANDA.joints])
    assert (np.abs(gap) <= reach).all() and np.abs(gap).max() > 0
    decoder.reset()
    fresh = follow(decoder, arm_chunk(np.zeros((1, 3))), 1)[0]
    np.testing.assert_allclose([fresh.positions[j] for j in PANDA.joints], PANDA.home, atol=1e-6)


def test_the_base_gets_its_velocities_by_name():
    made = chunk(HUSKY, [[0.1, -0.2], [0.3, 0.4]])
    command = BaseDecoder().decode(Step(made, 1, 0.7), None, None, [])
    assert (command.v, command.w) == (0.3, 0.4)
