"""Motion within limits of position, velocity, acceleration and jerk: they hold whatever is asked for, and whatever a
solver answers; and no more is lost than they cost."""

from dataclasses import replace

import numpy as np
import pytest
import yaml
from core_samples import HUSKY, ready
from core_samples import SMOOTH as PANDA
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_ros import motion
from vla_ros.errors import ActionError, ConfigError, UnknownNameError
from vla_ros.guard import CLEARANCE, ROUNDING, ArmGuard
from vla_ros.kinematics import ArmKinematics
from vla_ros.motion import Motion
from vla_ros.profile import MotionLimits, RobotProfile, build, config_folder
from vla_ros.types import JointCommand, JointState, Pose

PERIOD = 0.02  # [s]
LOW, HIGH = np.array([-1.0, -0.1]), np.array([1.0, 0.3])
VELOCITY, ACCELERATION = np.array([2.0, 0.8]), np.array([15.0, 8.0])
LOOSE = np.array([7500.0, 3750.0])  # more than two periods of the limits of acceleration can ask for
TIGHT = np.array([250.0, 80.0])  # it takes some periods to reach the highest acceleration

wanted = st.lists(st.tuples(st.one_of(st.floats(-2, 2), st.sampled_from([1e9, -1e9, 1e308])), st.floats(-2, 2)),
                  min_size=1, max_size=12)


def moving(jerk=LOOSE) -> Motion:
    return Motion(PERIOD, LOW, HIGH, VELOCITY, ACCELERATION, jerk)


def shares(way, jerk=LOOSE) -> list[float]:
    """The most of each limit that differences along a way (any, N) from rest use, 1 is all: velocity to jerk."""
    way = np.concatenate([np.repeat(way[:1], 3, axis=0), way])
    return [float((np.abs(np.diff(way, order, axis=0)) / PERIOD**order / limit).max())
            for order, limit in enumerate((VELOCITY, ACCELERATION, jerk), 1)]


def assert_kept(way, jerk=LOOSE) -> None:
    assert max(shares(way, jerk)) <= 1 + 1e-9
    assert (LOW - 1e-8 <= way).all() and (way <= HIGH + 1e-8).all()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.one_of(wanted, st.none()), st.integers(1, 6)), min_size=1, max_size=6), st.booleans())
def test_limits_hold_whatever_is_asked_for_and_in_braking(asked, tight):
    jerk = TIGHT if tight else LOOSE
    made, way = moving(jerk), [np.zeros(2)]
    for targets, times in [*asked, (None, 60)]:
        for _ in range(times):
            made.brake() if targets is None else made.follow(np.array(targets))
            way.append(made.position)
    assert_kept(np.array(way), jerk)
    assert made.resting


@pytest.mark.parametrize("jerk", [LOOSE, TIGHT], ids=["loose", "tight"])
def test_a_target_that_stays_is_reached_as_fast_as_the_limits_allow(jerk):
    made, way = moving(jerk), [np.zeros(2)]
    while np.abs(way[-1] - HIGH).max() > 1e-4:
        made.follow(HIGH[None])
        way.append(made.position)
    used = shares(np.array(way), jerk)
    assert min(used[:2]) > 0.9 and (jerk is LOOSE or used[2] > 0.9)
    least = HIGH / VELOCITY + VELOCITY / ACCELERATION  # [s] with no limit of jerk
    assert len(way) * PERIOD <= least.max() + 2 * (ACCELERATION / jerk).max() + 5 * PERIOD


def test_what_the_limits_allow_is_followed_without_delay():
    times = np.arange(200) * PERIOD
    path = np.stack([0.5 * (1 - np.cos(2 * times)), 0.1 * (1 - np.cos(3 * times))], axis=1)
    made, errors = moving(), []
    for now in range(1, 150):
        made.follow(path[now:now + made.horizon])
        errors.append(np.abs(made.position - path[now]).max())
    assert max(errors) < 1e-4


def test_who_knows_the_way_ahead_bends_it_less():
    """A corner at half of the highest speed."""
    path = np.concatenate([np.linspace(0, [0.6, 0], 31), np.linspace([0.6, 0.008], [0.6, 0.24], 30)])
    def error(known: int) -> float:
        made, way = moving(), []
        for now in range(len(path)):
            made.follow(path[now:now + known])
            way.append(made.position)
        return float(np.linalg.norm(np.array(way) - path, axis=1).mean())
    assert error(moving().horizon) < error(1) / 3


def test_a_start_outside_the_limits_comes_back_and_goes_no_further():
    made = moving()
    made.begin(np.array([1.4, 0.0]))
    way = [made.position]
    for _ in range(60):
        made.follow(np.array([[5.0, 0.0]]))
        way.append(made.position)
    assert np.max(way) <= 1.4 and np.min(way, axis=0)[0] > 0.95 and way[-1][0] == pytest.approx(1.0, abs=1e-6)
    assert max(shares(np.array(way))) <= 1


@pytest.mark.parametrize("answer", ["nothing", "nan", "everything", "no end"])
def test_a_solver_that_is_wrong_breaks_no_limit(monkeypatch, answer):
    """The plan of before is followed to its end, at rest."""
    made = moving()
    way = [made.position]
    for _ in range(8):
        made.follow(HIGH[None])
        way.append(made.position)
    assert not made.resting
    wrong = {"nothing": (0, -1), "nan": (np.nan, 1), "everything": (1e6, 1), "no end": (0.02, 1)}
    value, flag = wrong[answer]
    monkeypatch.setattr(motion.daqp, "solve", lambda cost, slope, *_, **__: (np.full(len(slope), value), 0.0, flag, {}))
    for _ in range(made.horizon + 3):
        assert not made.follow(HIGH[None]) or answer == "no end"
        way.append(made.position)
    assert made.resting
    assert_kept(np.array(way))


def test_a_plan_that_is_not_accepted_is_not_followed():
    made, way = moving(), [np.zeros(2)]
    for _ in range(80):
        made.follow(made.position[None] + [0.1, 0.0], lambda plan: bool(plan[:, 0].max() < 0.5))
        way.append(made.position)
    assert 0.35 < np.array(way)[:, 0].max() < 0.5, "a whole plan is looked at, to its end"
    assert_kept(np.array(way))


def test_where_the_way_ahead_is_not_accepted_the_way_to_the_target_of_now_may_be():
    made, ahead = moving(), np.linspace([0.1, 0.0], [2.0, 0.0], 20)  # the end of it lies outside
    for _ in range(80):
        assert made.follow(ahead, lambda plan: bool(plan[:, 0].max() < 0.5))


def test_a_joint_that_cannot_brake_soon_enough_is_refused():
    with pytest.raises(ConfigError, match="braking from full speed takes 1.00 s, at most 0.5 s"):
        Motion(PERIOD, LOW, HIGH, VELOCITY, VELOCITY, [1e9, 1e9])


# In the guard

LIMITS, FREE = PANDA.motion, replace(PANDA, motion=None)
KINEMATICS = ArmKinematics(PANDA)


def guard() -> ArmGuard:
    made = ArmGuard(PANDA, KINEMATICS)
    made.begin(np.array(PANDA.home))
    return made


def command(q) -> JointCommand:
    return JointCommand(dict(zip(PANDA.joints, np.asarray(q).tolist(), strict=True)))


def test_a_guard_says_which_joints_its_limits_hold_back():
    out = guard().check(command(np.array(PANDA.home) + [0.01, 0, 0, 0, 0, 0, 0])).interventions
    assert len(out) == 1 and out[0].startswith("panda_joint1 motion 0.01 to 0.00")
    assert guard().check(command(PANDA.home)).interventions == ()


def test_a_plan_from_outside_the_workspace_leads_nowhere_further_out_again(monkeypatch):
    guard = ArmGuard(PANDA, ArmKinematics(PANDA))
    guard.motion.begin(np.full(7, 0.09))
    monkeypatch.setattr(guard, "_outside", lambda q: float(q[0]))
    assert guard._stays_inside(np.array([[0.07], [0.05], [0.0], [ROUNDING]]))
    assert not guard._stays_inside(np.array([[0.07], [0.08]])), "nearer than the beginning, and yet on its way out"


def test_a_hand_on_its_way_out_of_the_workspace_is_braked_before_and_that_is_told():
    made = guard()
    down = KINEMATICS.inverse(Pose(np.array([0.5, 0.0, -0.25]), KINEMATICS.forward(np.array(PANDA.home)).rotation),
                              np.array(PANDA.home))
    out = [made.check(command(down)) for _ in range(120)]
    heights = [KINEMATICS.forward(KINEMATICS.vector(JointState(o.command.positions, {}, 0))).position[2] for o in out]
    assert PANDA.workspace.min[2] - CLEARANCE - 1e-9 <= min(heights) < 0.1
    assert out[-1].interventions[0].startswith("workspace")


def test_a_way_ahead_that_is_not_finite_refuses_the_command():
    made = guard()
    with pytest.raises(ActionError) as caught:
        made.check(command(PANDA.home), np.full((3, 7), np.nan))
    assert caught.value.reason == "finite" and made.brake() is None


def test_an_arm_in_motion_brakes_within_its_limits_and_then_rests():
    made = guard()
    for _ in range(12):
        made.check(command(np.array(PANDA.home) + [0.4, 0, 0, 0, 0, 0, 0]))
    fast = np.abs(made.motion.position - np.array(PANDA.home)).max()
    held = [made.brake().positions for _ in range(40)]
    assert held[0] != held[1] and held[-1] == held[-2] and made.resting
    assert np.abs(made.motion.position - np.array(PANDA.home)).max() > fast + 0.02


def test_the_way_ahead_is_the_one_that_is_decoded_next():
    """To what straight lines between the ends of steps leave out; and it rests at the end of the chunk."""
    controller = ready(PANDA, [[0.02, 0.01, -0.02, 1]] * 3)
    decoder, state, found = controller.decoder, controller.current, []
    for tick in range(18):
        step = controller.scheduler.at(tick * PANDA.control_period_ns)
        found.append(list(decoder.decode(step, lambda _: state, state, []).positions.values())[:7])
        if tick == 4:
            later = controller.scheduler.later(tick * PANDA.control_period_ns, 10**9)
            ahead = decoder.ahead(tick * PANDA.control_period_ns, later, lambda _: state, 20)
    np.testing.assert_allclose(ahead[:13], found[5:], atol=0.01)
    assert ahead.shape == (20, 7) and (ahead[14:] == ahead[13]).all()


def test_a_chunk_ends_where_it_ends_without_the_limits_but_for_the_way_of_braking():
    def end(profile):
        controller = ready(profile, [[0.02, 0.0, -0.01, 1]] * 8)
        return [controller.tick(tick * profile.control_period_ns) for tick in range(70)][-1].command.positions
    free, smooth = (np.array([*end(profile).values()]) for profile in (FREE, PANDA))
    np.testing.assert_allclose(smooth, free, atol=0.02)


@pytest.mark.parametrize("change,text", [({"acceleration": [1.0]}, "motion.acceleration needs 7 numbers, has 1"),
                                         ({"jerk": [0.0] * 7}, r"jerk \[0.0, .* must be positive"),
                                         ({"jolt": [1.0] * 7}, "unknown key in robot.motion 'jolt'")])
def test_limits_of_motion_are_read_strictly(change, text):
    data = yaml.safe_load((config_folder() / "robots" / "panda.yaml").read_text())
    data["motion"] = {"acceleration": [*LIMITS.acceleration], "jerk": [*LIMITS.jerk]} | change
    with pytest.raises((ConfigError, UnknownNameError), match=text):
        build(RobotProfile, data, "robot")


def test_a_base_has_no_limits_of_joints():
    with pytest.raises(ConfigError, match="a base has limits"):
        replace(HUSKY, motion=MotionLimits((1.0,), (1.0,)))
