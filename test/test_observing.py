"""Observations: images of the profile's size, parts of one moment, and what the robot feels of itself."""

from dataclasses import replace

import numpy as np
import pytest
from core_samples import HUSKY, OPENING, PANDA, ROBOTS, joint_state, observation
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.errors import ObservationError
from vla_ros.kinematics import ArmKinematics
from vla_ros.observing import PROPRIOCEPTION, REPEATED, Observer, Pictures, check_times, proprioception
from vla_ros.types import JointState

SECOND = 1_000_000_000
AGE, SKEW = PANDA.max_observation_age, PANDA.max_skew


def reason_of(stamps: dict[str, int], now: int) -> str:
    """Why the parts are refused; empty when they are not."""
    try:
        check_times(PANDA, stamps, now)
    except ObservationError as error:
        return error.reason
    return ""


@given(st.lists(st.integers(-SECOND, SECOND), min_size=1, max_size=4), st.integers(0, 10**18))
def test_parts_pass_exactly_when_all_are_fresh_and_close_to_each_other(ages, now):
    stamps = {f"part{i}": now - age for i, age in enumerate(ages)}
    good = all(abs(age) <= AGE * 1e9 for age in ages) and max(ages) - min(ages) <= SKEW * 1e9
    assert (reason_of(stamps, now) == "") == good


@pytest.mark.parametrize("stamps,reason", [
    ({"front": 0, "joints": 0}, ""), ({"front": -SECOND, "joints": 0}, "stale"),
    ({"front": SECOND, "joints": 0}, "future"), ({"front": -int(0.15 * SECOND), "joints": 0}, "skew")], ids=str)
def test_the_reason_is_one_word(stamps, reason):
    assert reason_of({name: stamp + 10 * SECOND for name, stamp in stamps.items()}, 10 * SECOND) == reason


@pytest.mark.parametrize("shape,kind", [((95, 96, 3), np.uint8), ((96, 96), np.uint8), ((96, 96, 4), np.uint8),
                                        ((96, 96, 3), np.float32), ((96, 96, 3), np.int8)], ids=str)
def test_an_image_of_another_size_or_type_is_refused(shape, kind):
    with pytest.raises(ObservationError, match="camera 'front'.*the robot profile says") as caught:
        Observer(PANDA).check_image("front", np.zeros(shape, kind))
    assert caught.value.reason == "size"


def test_an_unknown_camera_is_refused_and_the_known_ones_are_listed():
    with pytest.raises(ObservationError, match="unknown camera 'back'; available: front, wrist") as caught:
        Observer(PANDA).check_image("back", np.zeros((96, 96, 3), np.uint8))
    assert caught.value.reason == "camera"


def test_the_pose_is_that_of_the_measured_joints():
    made = observation(PANDA)
    expected = ArmKinematics(PANDA).forward(np.array(PANDA.home))
    np.testing.assert_array_equal(made.ee_pose.position, expected.position)
    assert made.gripper == pytest.approx(OPENING) and made.base_twist is None
    assert observation(HUSKY).base_twist == (0.0, 0.0) and observation(HUSKY).ee_pose is None


@pytest.mark.parametrize("robot", ROBOTS)
def test_proprioception_has_its_names(robot):
    kind = ROBOTS[robot].kind
    assert proprioception(observation(ROBOTS[robot]), kind).shape == (len(PROPRIOCEPTION[kind]),)


def test_what_cannot_be_felt_is_an_error_and_never_a_zero():
    for profile in (PANDA, HUSKY):
        blind = replace(observation(profile), ee_pose=None, gripper=None, base_twist=None)
        with pytest.raises(ObservationError) as caught:
            proprioception(blind, profile.kind)
        assert caught.value.reason == "joints"


def test_joint_states_without_the_arms_joints_are_refused():
    state = joint_state(HUSKY)
    with pytest.raises(ObservationError, match="joint states lack panda_joint1") as caught:
        Observer(PANDA).observation({}, {}, state, "touch the red cube")
    assert caught.value.reason == "joints"


@given(st.permutations(list(joint_state(PANDA).positions)))
def test_joints_are_matched_by_name_whatever_their_order(names):
    q = np.array(PANDA.home) + np.arange(7) / 50
    state = joint_state(PANDA, q=q)
    shuffled = JointState({name: state.positions[name] for name in names}, state.velocities, state.stamp)
    made = Observer(PANDA).observation({}, {}, shuffled, "")
    np.testing.assert_array_equal(made.ee_pose.position, ArmKinematics(PANDA).forward(q).position)
    assert made.gripper == pytest.approx(OPENING)


@pytest.mark.parametrize("robot", ROBOTS)
def test_a_camera_may_be_older_or_must_be_newer_than_the_rest(robot):
    profile, now = ROBOTS[robot], 10 * SECOND
    camera = next(iter(profile.cameras))
    for limit in (AGE / 2, AGE * 2):
        cameras = profile.cameras | {camera: replace(profile.cameras[camera], max_age=limit)}
        own = replace(profile, cameras=cameras, max_skew=9.0)
        check_times(own, {camera: now - round((limit - 0.001) * 1e9), "joints": now}, now)
        with pytest.raises(ObservationError, match=f"'{camera}' is .*at most {limit} s"):
            check_times(own, {camera: now - round((limit + 0.001) * 1e9), "joints": now}, now)
        with pytest.raises(ObservationError, match=f"'joints' is .*at most {AGE} s"):
            check_times(own, {camera: now, "joints": now - round((AGE + 0.001) * 1e9)}, now)


def seen(image: np.ndarray, turned: float):
    """A picture, and the first joint turned from home [rad]."""
    q = np.array(PANDA.home) + [turned, *[0.0] * 6]
    return replace(observation(PANDA), images={"front": image}, joints=joint_state(PANDA, q=q))


@given(st.lists(st.tuples(st.integers(0, 2), st.floats(-0.6, 0.6)), min_size=1, max_size=12))
def test_a_picture_is_refused_once_the_joints_left_where_it_was_new(steps):
    """Against the plain rule: the same picture as ever since, and a joint further off than REPEATED."""
    pictures, newest, since = Pictures(), None, 0.0
    for shade, turned in steps:
        if shade != newest:
            newest, since = shade, turned
        shown = seen(np.full((96, 96, 3), shade, np.uint8), turned)
        if abs(abs(turned - since) - REPEATED) < 1e-6:
            continue
        if abs(turned - since) > REPEATED:
            with pytest.raises(ObservationError, match="camera 'front' repeats one picture") as caught:
                pictures.check(shown)
            assert caught.value.reason == "frozen"
        else:
            pictures.check(shown)


def test_pictures_of_another_episode_say_nothing():
    pictures, image = Pictures(), np.zeros((96, 96, 3), np.uint8)
    pictures.check(seen(image, 0.0))
    pictures.reset()
    pictures.check(seen(image, 0.6))
