"""Forward and inverse kinematics against PyBullet's and against finite differences; limits are never exceeded."""

import numpy as np
import pytest
from core_samples import HUSKY, PANDA, joint_state
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.errors import ActionError, ConfigError
from vla_ros.kinematics import ArmKinematics, base_twist, gripper_gap, wheel_speeds
from vla_ros.types import JointState, Pose

ARM = ArmKinematics(PANDA)
HOME = np.array(PANDA.home)
DT = 1 / PANDA.control_rate
MARGIN = 0.3  # [rad] random configurations stay this far inside the limits

postures = st.lists(st.floats(0, 1), min_size=7, max_size=7).map(
    lambda share: ARM.lower + MARGIN + np.array(share) * (ARM.upper - ARM.lower - 2 * MARGIN))
anywhere = st.lists(st.floats(-4, 4), min_size=7, max_size=7).map(np.array)
points = st.tuples(*[st.floats(low, high) for low, high in zip(PANDA.workspace.min, PANDA.workspace.max, strict=True)])


@pytest.fixture(scope="module")
def bullet():
    """PyBullet's forward kinematics of the same URDF: q (N,) [rad] -> base_from_ee."""
    pb = pytest.importorskip("pybullet")
    client = pb.connect(pb.DIRECT)
    body = pb.loadURDF(str(PANDA.urdf_path()), useFixedBase=True, physicsClientId=client)
    count = pb.getNumJoints(body, physicsClientId=client)
    infos = [pb.getJointInfo(body, i, physicsClientId=client) for i in range(count)]
    joint = {info[1].decode(): info[0] for info in infos}
    link = {info[12].decode(): info[0] for info in infos}

    def forward(q) -> Pose:
        for name, value in zip(PANDA.joints, q, strict=True):
            pb.resetJointState(body, joint[name], value, physicsClientId=client)
        state = pb.getLinkState(body, link[PANDA.ee_frame], computeForwardKinematics=True, physicsClientId=client)
        return Pose(np.array(state[4]), np.array(pb.getMatrixFromQuaternion(state[5])).reshape(3, 3))

    yield forward
    pb.disconnect(client)


@given(postures)
def test_forward_agrees_with_pybullet(bullet, q):
    ours, reference = ARM.forward(q), bullet(q)
    np.testing.assert_allclose(ours.position, reference.position, atol=1e-5)
    np.testing.assert_allclose(ours.rotation, reference.rotation, atol=1e-5)


@given(postures)
def test_forward_gives_a_rotation(q):
    rotation = ARM.forward(q).rotation
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(rotation) == pytest.approx(1)


@given(st.lists(st.floats(-1, 1), min_size=3, max_size=3).map(np.array))
def test_a_small_step_moves_the_hand_as_asked_by_finite_differences(direction):
    here = ARM.forward(HOME)
    there = Pose(here.position + 1e-3 * direction, here.rotation)
    moved = ARM.forward(ARM.step(HOME, there, DT))
    np.testing.assert_allclose(moved.position, there.position, atol=2e-5)
    np.testing.assert_allclose(moved.rotation, here.rotation, atol=2e-3)


@given(points)
def test_inverse_and_forward_are_a_pair_in_the_workspace(point):
    target = Pose(np.array(point), ARM.forward(HOME).rotation)
    try:
        q = ARM.inverse(target, HOME)
    except ActionError as error:  # corners of the box are out of the arm's reach with the hand pointing down
        assert error.reason == "unreachable" and np.linalg.norm(point) > 0.6
        return
    np.testing.assert_allclose(ARM.forward(q).position, point, atol=1e-4)
    assert (q >= ARM.lower).all() and (q <= ARM.upper).all()


@given(anywhere, st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3).map(np.array), st.sampled_from([DT, 0.05, 1.0]))
def test_a_step_never_exceeds_the_limits(q, position, dt):
    moved = ARM.step(q, Pose(position, np.eye(3)), dt)
    inside = np.clip(q, ARM.lower, ARM.upper)
    assert (moved >= ARM.lower).all() and (moved <= ARM.upper).all()
    assert (np.abs(moved - inside) <= ARM.max_velocity * dt + 1e-8).all()


def test_limits_are_those_of_the_urdf_scaled():
    import xml.etree.ElementTree as xml
    limits = {j.get("name"): j.find("limit") for j in xml.parse(PANDA.urdf_path()).getroot().findall("joint")}
    for i, name in enumerate(PANDA.joints):
        assert ARM.lower[i] == float(limits[name].get("lower")) and ARM.upper[i] == float(limits[name].get("upper"))
        assert ARM.max_velocity[i] == pytest.approx(PANDA.velocity_scale * float(limits[name].get("velocity")))


def test_joints_are_matched_by_name_never_by_order():
    state = joint_state(PANDA)
    backwards = JointState(dict(reversed(state.positions.items())), state.velocities, 0)
    np.testing.assert_array_equal(ARM.vector(backwards), HOME)


def test_a_missing_joint_is_an_error_and_never_a_zero():
    with pytest.raises(ActionError, match="panda_joint4"):
        ARM.vector(JointState({k: v for k, v in joint_state(PANDA).positions.items() if k != "panda_joint4"}, {}, 0))


@pytest.mark.parametrize("change", [{"ee_frame": "no_such_frame"}, {"joints": (*PANDA.joints[:6], "no_such_joint")},
                                    {"joints": (PANDA.joints[1], PANDA.joints[0], *PANDA.joints[2:])},
                                    {"home": (9.0, *PANDA.home[1:])}], ids=str)
def test_a_profile_that_does_not_fit_its_urdf(change):
    from dataclasses import replace
    with pytest.raises(ConfigError, match="panda"):
        ArmKinematics(replace(PANDA, **change))


def test_a_description_that_cannot_be_read(tmp_path):
    from dataclasses import replace
    broken = tmp_path / "broken.urdf"
    broken.write_text("<robot>")
    with pytest.raises(ConfigError, match="broken.urdf"):
        ArmKinematics(replace(PANDA, urdf=str(broken)))


@given(st.floats(-2, 2), st.floats(-3, 3))
def test_wheel_speeds_and_base_twist_are_a_pair(v, w):
    state = JointState({}, wheel_speeds(HUSKY, v, w), 0)
    assert base_twist(HUSKY, state) == pytest.approx((v, w), abs=1e-9)


def test_turning_left_drives_the_right_wheels_faster():
    speeds = wheel_speeds(HUSKY, 0.2, 0.5)
    assert min(speeds[j] for j in HUSKY.wheels.right) > max(speeds[j] for j in HUSKY.wheels.left)


def test_what_a_robot_lacks_is_none():
    assert gripper_gap(HUSKY, joint_state(HUSKY)) is None and base_twist(PANDA, joint_state(PANDA)) is None
    assert gripper_gap(PANDA, JointState({}, {}, 0)) is None and base_twist(HUSKY, JointState({}, {}, 0)) is None
