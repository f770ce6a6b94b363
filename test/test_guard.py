"""The guard: nothing that is not finite passes, limits hold whatever comes, and what is changed is said."""

import numpy as np
import pytest
from core_samples import HUSKY, PANDA, joint_state, number
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_ros.errors import ActionError
from vla_ros.guard import LAG, ROUNDING, SLACK, ArmGuard, BaseGuard, Motion, clamp, clamp_place
from vla_ros.kinematics import ArmKinematics
from vla_ros.types import JointCommand, Pose, TwistCommand

KINEMATICS = ArmKinematics(PANDA)
NAMES = (*PANDA.joints, *PANDA.gripper.joints)
HOME = joint_state(PANDA).positions
START = np.array(PANDA.home)
DT = 1 / PANDA.control_rate
BAD = [np.nan, np.inf, -np.inf]
EPSILON = 1e-6

targets = st.fixed_dictionaries({name: number(5.0) for name in NAMES})


def arm(q=START) -> ArmGuard:
    guard = ArmGuard(PANDA, KINEMATICS)
    guard.begin(np.array(q))
    return guard


def base() -> BaseGuard:
    guard = BaseGuard(HUSKY)
    guard.begin()
    return guard


class Watch:
    """Follows the commands of an arm's guard, and holds each against the limits as differences of what went out."""

    def __init__(self, guard: ArmGuard):
        self.guard, self.q, self.v, self.a = guard, guard.motion.position, np.zeros(7), np.zeros(7)
        self.low = np.array([guard.low[n] for n in PANDA.joints])
        self.high = np.array([guard.high[n] for n in PANDA.joints])

    def see(self, command: JointCommand) -> None:
        q, motion = np.array([command.positions[n] for n in PANDA.joints]), self.guard.motion
        assert (q >= self.low - EPSILON).all() and (q <= self.high + EPSILON).all()
        assert (np.abs(q - self.q) <= KINEMATICS.max_velocity * DT + EPSILON).all()
        assert (np.abs(motion.velocity) <= KINEMATICS.max_velocity + EPSILON).all()
        assert (np.abs(motion.acceleration) <= np.array(PANDA.max_acceleration) + EPSILON).all()
        assert (np.abs(motion.velocity - self.v) <= np.array(PANDA.max_acceleration) * DT + EPSILON).all()
        assert (np.abs(motion.acceleration - self.a) <= np.array(PANDA.max_jerk) * DT + EPSILON).all()
        assert np.allclose(motion.position, q)
        self.q, self.v, self.a = q, motion.velocity, motion.acceleration


@settings(max_examples=60, deadline=None)
@given(st.lists(targets, min_size=1, max_size=30), st.integers(0, 3))
def test_limits_of_an_arm_hold_whatever_comes(wanted, brakes):
    guard = arm()
    watch = Watch(guard)
    for target in wanted:
        watch.see(guard.check(JointCommand(target)).command)
        for _ in range(brakes):
            watch.see(guard.brake())


def test_limits_hold_for_a_policy_that_turns_about_at_every_step():
    guard, rng = arm(), np.random.default_rng(0)
    watch = Watch(guard)
    low, high = (np.array([getattr(guard, side)[n] for n in PANDA.joints]) for side in ("low", "high"))
    for step in range(3000):
        target = (high if step % 2 else low) + rng.normal(0, 0.3, 7)
        watch.see(guard.check(JointCommand(dict(zip(PANDA.joints, target.tolist(), strict=True)))).command)


def test_braking_comes_to_rest_and_stays_there():
    guard = arm()
    for _ in range(20):
        guard.check(JointCommand(HOME | {PANDA.joints[0]: 1.0, PANDA.joints[6]: -1.0}))
    speed = np.abs(guard.motion.velocity).max()
    assert speed > 0.5 and not guard.resting
    braked = [guard.brake() for _ in range(60)]
    assert guard.resting and braked[-1] == braked[-2]
    ticks = next(i for i, command in enumerate(braked) if command == braked[-1])
    assert ticks <= speed / min(PANDA.max_acceleration) * PANDA.control_rate + 3, "no slower than it must be"


def test_an_arm_reaches_its_target_and_says_while_a_joint_lags():
    guard, goal = arm(), HOME | {PANDA.joints[0]: 0.8}
    first = guard.check(JointCommand(goal))
    assert [said.split()[0] for said in first.interventions] == [PANDA.joints[0]] and "behind" in first.interventions[0]
    last = [guard.check(JointCommand(goal)) for _ in range(120)][-1]
    assert last.interventions == () and last.command.positions == pytest.approx(goal, abs=1e-9)
    near = guard.check(JointCommand(goal | {PANDA.joints[0]: 0.8 + LAG / 2}))
    assert near.interventions == ()


def test_a_target_beyond_the_limits_ends_a_margin_before_them_and_is_told():
    guard, name = arm(), PANDA.joints[6]  # it turns the hand and moves it nowhere
    said = [guard.check(JointCommand(HOME | {name: 9.0})) for _ in range(200)][-1]
    at = said.command.positions[name]
    assert at == pytest.approx(KINEMATICS.upper[6] - PANDA.position_margin) and PANDA.position_margin > 0
    assert [text for text in said.interventions if text.startswith(f"{name} position 9 to")]


def test_fingers_are_clamped_and_never_blended():
    guard, finger = arm(), PANDA.gripper.joints[0]
    out = guard.check(JointCommand(HOME | {finger: 0.5}))
    assert out.command.positions[finger] == PANDA.gripper.open / 2
    assert any(said.startswith(finger) for said in out.interventions)
    assert guard.check(JointCommand(HOME | {finger: 0.0})).command.positions[finger] == 0.0
    assert guard.brake().positions[finger] == 0.0


def test_a_hand_that_would_leave_the_workspace_is_braked_and_one_outside_may_come_back():
    guard = arm()
    down = KINEMATICS.inverse(Pose(np.array([0.5, 0.0, -0.25]), KINEMATICS.forward(START).rotation), START)
    said = [guard.check(JointCommand(dict(zip(PANDA.joints, down.tolist(), strict=True)))) for _ in range(200)]
    assert guard.resting and any(text.startswith("workspace left by") for text in said[-1].interventions)
    lowest = min(KINEMATICS.forward(np.array([s.command.positions[n] for n in PANDA.joints])).position[2] for s in said)
    assert PANDA.workspace.min[2] - 0.08 < lowest < PANDA.workspace.min[2] - SLACK / 2, "braked from full speed"
    for _ in range(100):
        guard.check(JointCommand(HOME))
    assert guard.motion.position == pytest.approx(START, abs=1e-6), "and led back when the target is inside again"
    back, q = arm(down), down
    assert KINEMATICS.forward(down).position[2] < PANDA.workspace.min[2] - SLACK
    for _ in range(200):
        q = KINEMATICS.step(q, KINEMATICS.forward(START), DT)
        back.check(JointCommand(dict(zip(PANDA.joints, q.tolist(), strict=True))))
    ends, home = (KINEMATICS.forward(q).position for q in (back.motion.position, START))
    assert ends == pytest.approx(home, abs=0.01)


def test_a_place_outside_the_workspace_is_brought_inside_and_told():
    said = []
    inside = clamp_place(np.array([0.5, 0.0, -0.2]), PANDA.workspace, said)
    assert inside.tolist() == [0.5, 0.0, PANDA.workspace.min[2]] and said == ["workspace z -0.2 to 0.01"]
    assert clamp_place(inside, PANDA.workspace, said).tolist() == inside.tolist() and len(said) == 1
    with pytest.raises(ActionError):
        clamp_place(np.array([np.nan, 0, 0]), PANDA.workspace, said)


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("name", NAMES)
def test_one_target_that_is_not_finite_refuses_the_whole_command(name, bad):
    guard = arm()
    with pytest.raises(ActionError) as caught:
        guard.check(JointCommand(HOME | {name: bad}))
    assert caught.value.reason == "finite" and guard.resting


@pytest.mark.parametrize("bad", BAD)
def test_a_beginning_that_is_not_finite_bounds_nothing_and_is_refused(bad):
    with pytest.raises(ActionError):
        arm([bad, *START[1:]])


def test_joints_are_those_of_the_profile():
    for command, text in ((HOME | {"panda_joint8": 0.0}, "panda_joint8.*known: panda_joint1"),
                          ({PANDA.joints[0]: 0.0}, "lacks.*panda_joint2")):
        with pytest.raises(ActionError, match=text) as caught:
            arm().check(JointCommand(command))
        assert caught.value.reason == "joints"


def test_nothing_is_commanded_before_a_beginning_nor_after_it_was_forgotten():
    for guard, command in ((ArmGuard(PANDA, KINEMATICS), JointCommand(HOME)), (arm(), JointCommand(HOME))):
        guard.forget()
        assert guard.brake() is None and guard.resting
        with pytest.raises(ActionError):
            guard.check(command)
    assert BaseGuard(HUSKY).brake() is None


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(number(5.0), number(5.0)), min_size=1, max_size=30))
def test_limits_of_a_base_hold_whatever_comes(wanted):
    guard, limits, dt = base(), HUSKY.limits, 1 / HUSKY.control_rate
    before, pace = TwistCommand(0.0, 0.0), np.zeros(2)
    for v, w in [*wanted, (0.0, 0.0)]:
        out = guard.check(TwistCommand(v, w)).command
        assert abs(out.v) <= limits.v + EPSILON and abs(out.w) <= limits.w + EPSILON
        assert abs(out.v - before.v) <= limits.v_acceleration * dt + EPSILON
        assert abs(out.w - before.w) <= limits.w_acceleration * dt + EPSILON
        jerk = np.abs(guard.motion.acceleration - pace)
        assert (jerk <= np.array([limits.v_jerk, limits.w_jerk]) * dt + EPSILON).all()
        before, pace = out, guard.motion.acceleration


@pytest.mark.parametrize("bad", BAD)
def test_a_velocity_that_is_not_finite_is_refused(bad):
    for command in (TwistCommand(bad, 0.0), TwistCommand(0.0, bad)):
        with pytest.raises(ActionError) as caught:
            base().check(command)
        assert caught.value.reason == "finite"


def test_a_base_says_what_was_too_fast_and_is_silent_about_a_ramp():
    fast = base().check(TwistCommand(2.0, -3.0))
    assert [said.split()[0] for said in fast.interventions] == ["v", "w"]
    assert base().check(TwistCommand(HUSKY.limits.v, 0.0)).interventions == ()


def test_a_base_brakes_to_rest():
    guard = base()
    for _ in range(60):
        guard.check(TwistCommand(HUSKY.limits.v, 0.5))
    speeds = [guard.brake().v for _ in range(60)]
    assert speeds == sorted(speeds, reverse=True) and speeds[-1] == 0.0 and guard.resting


def test_a_motion_that_cannot_be_is_refused():
    motion = Motion(DT, [1.0], [1.0], [1.0])
    with pytest.raises(ActionError) as caught:
        motion.toward([np.nan])
    assert caught.value.reason == "limits"


@given(st.floats(-10, 10), st.floats(-5, 0), st.floats(0, 5))
def test_clamp_says_exactly_what_it_changes(value, low, high):
    said = []
    out = clamp(value, low, high, "x", said)
    assert low <= out <= high and bool(said) == (abs(out - value) > ROUNDING)
