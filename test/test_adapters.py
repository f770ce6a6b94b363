"""Adapters are inverse pairs, do what they say, and a chain of them is what a description file asks for."""

from dataclasses import replace

import numpy as np
import pytest
from core_samples import HUSKY, PANDA
from hypothesis import given
from hypothesis import strategies as st
from rest_samples import SEVEN
from scipy.spatial.transform import Rotation

from vla_ros.adapters import ROTATIONS, Adapting, Affine, Chain, Frame, Order, Parts, Steps, Turning, chain
from vla_ros.decoding import waypoints
from vla_ros.errors import ConfigError, UnknownNameError
from vla_ros.types import ActionChunk, Pose

SPEC = replace(SEVEN.action, horizon=4)
SMALL = st.floats(-1, 1)
TURN = st.tuples(SMALL, SMALL, SMALL)  # axis times angle, below pi


def poses():
    return st.builds(lambda p, t: Pose(np.array(p), Rotation.from_rotvec(t).as_matrix()),
                     st.tuples(SMALL, SMALL, SMALL), TURN)


def rows(steps=4, turn=0.5):
    """(T, 7): place, axis times angle, gripper."""
    row = st.tuples(*[SMALL] * 3, *[st.floats(-turn, turn)] * 3, SMALL)
    return st.lists(row, min_size=steps, max_size=steps).map(np.array)


def same(a, b):
    np.testing.assert_allclose(a, b, atol=1e-9)


# Each is an inverse pair

PAIRS = {
    "order": Order((2, 0, 1, 5, 3, 4, 6)), "affine": Affine((2.0, -1.0, 0.1, 1, 1, 1, -2), (0, 1, 0, 0, 0, 0, 1)),
    "frame": Frame((0.3, -0.2, 1.5), True, False), "frame of poses": Frame((0.3, -0.2, 1.5), True, True),
    "frame without turns": Frame((0.3, -0.2, 1.5), False, True), "steps": Steps(True), "places": Steps(False),
    "parts": Parts(2, (True,) * 6 + (False,))}


@pytest.mark.parametrize("name", PAIRS)
@given(data=rows(), at=poses())
def test_there_and_back(name, data, at):
    adapter = PAIRS[name]
    same(adapter.backward(adapter.forward(data, at), at), data)
    if name == "parts":
        data = np.repeat(data, 2, axis=0)
    same(adapter.forward(adapter.backward(data, at), at), data)


@pytest.mark.parametrize("kind", ROTATIONS)
@given(data=rows())
def test_rotations_there_and_back(kind, data):
    adapter = Turning(kind)
    said = adapter.backward(data)
    assert said.shape == (4, 4 + adapter.numbers)
    same(adapter.forward(said), data)
    same(adapter.backward(adapter.forward(said)), said)


@given(order=st.permutations(range(5)), data=st.lists(st.tuples(*[SMALL] * 5), min_size=1).map(np.array))
def test_any_order_of_joints(order, data):
    adapter = Order(tuple(order))
    same(adapter.backward(adapter.forward(data)), data)
    assert all((adapter.forward(data)[:, i] == data[:, j]).all() for i, j in enumerate(order))


CHAINS = st.builds(
    lambda order, rotation, frame, absolute, parts: Adapting(
        tuple(order[:4 + ROTATIONS[rotation][0]] and np.argsort(order[:4 + ROTATIONS[rotation][0]]).tolist()), rotation,
        frame, absolute, parts * SPEC.period),
    st.permutations(range(10)), st.sampled_from(sorted(ROTATIONS)), st.sampled_from([(), (0.0, 0.0, 1.5)]),
    st.booleans(), st.sampled_from([1, 2, 4]))


@given(said=CHAINS, data=rows(), at=poses())
def test_chains_of_all_kinds_there_and_back(said, data, at):
    made = chain(said, SPEC, [2.0] * (4 + ROTATIONS[said.rotation][0]), [0.1] * (4 + ROTATIONS[said.rotation][0]))
    steps, dim = made.shape
    data = data[:steps] * ([0.1] * 6 + [1])
    backward = Chain(made.adapters, made.shape).backward
    said_rows = backward(np.repeat(data, 4 // steps, axis=0), at)
    assert said_rows.shape == (steps, dim)
    same(backward(made.forward(said_rows, at), at), said_rows)


# Each does what it says

@given(places=rows(), at=poses())
def test_steps_lead_to_the_poses_by_the_decoders_own_sums(places, at):
    steps = Steps(True).forward(places, at)
    way = waypoints(ActionChunk(steps, SPEC, 0), at)
    same(way.positions[1:], places[:, :3])
    same(way.rotations[1:], Rotation.from_rotvec(places[:, 3:6]).as_matrix())


@given(steps=rows(), at=poses(), turn=TURN)
def test_a_frame_of_steps_is_that_of_the_poses_they_lead_to(steps, at, turn):
    """Both ways from the steps in the policy's frame to poses in the robot's."""
    base = Rotation.from_rotvec(turn)
    at_policy = Pose(base.inv().apply(at.position), (base.inv() * Rotation.from_matrix(at.rotation)).as_matrix())
    wanted = Frame(turn, True, True).forward(Steps(True).backward(steps, at_policy))
    same(Steps(True).backward(Frame(turn, True, False).forward(steps), at)[:, :3], wanted[:, :3])
    same(Rotation.from_rotvec(Steps(True).backward(Frame(turn, True, False).forward(steps), at)[:, 3:6]).as_matrix(),
         Rotation.from_rotvec(wanted[:, 3:6]).as_matrix())


@given(steps=rows(), at=poses())
def test_parts_end_where_the_whole_step_does(steps, at):
    whole, parts = (waypoints(ActionChunk(values, SPEC, 0), at)
                    for values in (steps, PAIRS["parts"].forward(steps)))
    same(parts.positions[::2], whole.positions)
    same(parts.rotations[::2], whole.rotations)
    same(parts.gripper[::2], whole.gripper)


@pytest.mark.parametrize("kind, said", [
    ("euler", [0, 0, np.pi / 2]), ("quaternion", [0, 0, np.sqrt(0.5), np.sqrt(0.5)]),
    ("quaternion", [0, 0, -1, -1]), ("rotation_6d", [0, 1, 0, -1, 0, 0]), ("rotation_6d", [0, 2, 0, -3, 0.5, 0]),
    ("axis_angle", [0, 0, np.pi / 2])])
def test_a_quarter_turn_to_the_left(kind, said):
    same(Turning(kind).forward(np.array([[1, 2, 3, *said, 0.5]])), [[1, 2, 3, 0, 0, np.pi / 2, 0.5]])


def test_euler_angles_are_about_fixed_axes_one_after_the_other():
    turned = Rotation.from_rotvec(Turning("euler").forward(np.array([[0, 0, 0, np.pi / 2, 0, np.pi / 2]]))[0, 3:6])
    same(turned.apply([0, 1, 0]), [0, 0, 1])  # rolled upwards, which the yaw leaves
    same(turned.apply([1, 0, 0]), [0, 1, 0])


def test_a_gripper_that_says_minus_one_for_open():
    made = chain(Adapting(), PANDA.action, [1, 1, 1, -0.5], [0, 0, 0, 0.5])
    rows = np.zeros((PANDA.action.horizon, 4))
    rows[:, 3] = -1
    assert (made.forward(rows, None)[:, 3] == 1).all() and (made.forward(-rows, None)[:, 3] == 0).all()


def test_velocities_are_not_shared_out():
    made = chain(Adapting(period=2 * HUSKY.action.period), replace(HUSKY.action, horizon=4))
    same(made.forward(np.array([[0.5, 0.1], [0.2, 0.0]]), None), [[0.5, 0.1]] * 2 + [[0.2, 0.0]] * 2)


# What is asked for

def test_what_is_done_is_told_in_its_order():
    said = Adapting((1, 0, 2, *range(3, 8)), "quaternion", (0.0, 0.0, 1.5), True, 2 * SPEC.period)
    made = chain(said, SPEC, [1.0] * 8)
    assert made.shape == (2, 8)
    assert made.told() == (
        "order [1, 0, 2, 3, 4, 5, 6, 7]", f"scale {[1.0] * 8}, offset {[0.0] * 8}",
        "quaternion to axis times angle", "frame turned by [0.0, 0.0, 1.5] rad", "poses to steps",
        "each step in 2 parts")
    assert chain(Adapting(), SPEC).told() == ()


@pytest.mark.parametrize("said, spec, error, words", [
    ({"rotation": "matrix"}, SPEC, UnknownNameError, "unknown rotation 'matrix'.*rotation_6d"),
    ({"rotation": "euler"}, PANDA.action, ConfigError, "has no droll"),
    ({"absolute": True}, HUSKY.action, ConfigError, "names that begin with dx"),
    ({"order": (0, 0, 1, 2, 3, 4, 5)}, SPEC, ConfigError, "must name each of 0 to 6 once"),
    ({"order": (0, 1)}, SPEC, ConfigError, "order needs 7 numbers, has 2"),
    ({"frame": (1.0,)}, SPEC, ConfigError, "three numbers"),
    ({"period": 1.5 * SPEC.period}, SPEC, ConfigError, "whole steps"),
    ({"period": 0.5 * SPEC.period}, SPEC, ConfigError, "whole steps"),
    ({"period": 3 * SPEC.period}, SPEC, ConfigError, "whole ones of the policy's")])
def test_what_cannot_be_done(said, spec, error, words):
    with pytest.raises(error, match=words):
        chain(Adapting(**said), spec)


def test_a_scale_of_zero_has_no_inverse():
    with pytest.raises(ConfigError, match="scale not 0"):
        chain(Adapting(), SPEC, [0.0] * 7)


def test_parts_that_are_not_equal_make_up_a_step_together():
    """As those of a way that begins behind; what is not shared out is as it ends."""
    rows = np.array([[0.03, 1.0], [0.01, 0.0], [0.02, 0.0], [0.02, 0.0]])
    assert Parts(2, (True, False)).backward(rows).tolist() == [[0.04, 0.0], [0.04, 0.0]]
