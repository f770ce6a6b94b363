"""The guard: nothing that is not finite passes, limits hold, and what is clamped is said."""

import numpy as np
import pytest
from core_samples import HUSKY, PANDA, joint_state, number
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.errors import ActionError
from vla_ros.guard import ROUNDING, ArmGuard, BaseGuard, clamp
from vla_ros.kinematics import ArmKinematics
from vla_ros.types import JointCommand, TwistCommand

ARM = ArmGuard(PANDA, ArmKinematics(PANDA))
BASE = BaseGuard(HUSKY)
NAMES = (*PANDA.joints, *PANDA.gripper.joints)
HOME = joint_state(PANDA).positions
STILL = TwistCommand(0.0, 0.0)
BAD = [np.nan, np.inf, -np.inf]

targets = st.fixed_dictionaries({name: number(5.0) for name in NAMES})
inside = st.fixed_dictionaries({name: st.floats(0, 1) for name in NAMES}).map(
    lambda share: {n: ARM.low[n] + s * (ARM.high[n] - ARM.low[n]) for n, s in share.items()})


@given(targets, inside)
def test_positions_and_steps_of_an_arm_never_exceed_the_limits(wanted, before):
    out = ARM.check(JointCommand(wanted), before).command.positions
    assert list(out) == list(wanted)
    for name, value in out.items():
        assert ARM.low[name] - ROUNDING <= value <= ARM.high[name] + ROUNDING
        if name in ARM.step:
            assert abs(value - before[name]) <= ARM.step[name] + 2 * ROUNDING


@given(targets, inside)
def test_what_an_arm_guard_changes_it_says_and_what_it_says_it_changed(wanted, before):
    guarded = ARM.check(JointCommand(wanted), before)
    for name, value in wanted.items():
        changed = abs(guarded.command.positions[name] - value) > ROUNDING
        assert changed == any(said.startswith(f"{name} ") for said in guarded.interventions)


@given(inside)
def test_an_arm_that_stands_still_inside_its_limits_is_left_alone(before):
    guarded = ARM.check(JointCommand(before), before)
    assert guarded.interventions == () and guarded.command.positions == pytest.approx(before)


@given(inside)
def test_a_guarded_arm_command_passes_unchanged_the_second_time(wanted):
    once = ARM.check(JointCommand(wanted), HOME).command
    again = ARM.check(once, HOME)
    assert again.command == once and again.interventions == ()


def test_an_arm_beyond_its_limits_is_led_back_no_faster_than_allowed():
    name = NAMES[0]
    before = HOME | {name: ARM.high[name] + 0.5}
    out = ARM.check(JointCommand(HOME), before).command.positions
    assert out[name] == pytest.approx(before[name] - ARM.step[name], abs=1e-8)


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("name", NAMES)
def test_one_target_that_is_not_finite_refuses_the_whole_command(name, bad):
    with pytest.raises(ActionError) as caught:
        ARM.check(JointCommand(HOME | {name: bad}), HOME)
    assert caught.value.reason == "finite"


@pytest.mark.parametrize("bad", BAD)
def test_a_state_before_that_is_not_finite_bounds_nothing_and_is_refused(bad):
    with pytest.raises(ActionError):
        ARM.check(JointCommand(HOME), HOME | {NAMES[2]: bad})
    with pytest.raises(ActionError):
        BASE.check(STILL, TwistCommand(bad, 0.0))


def test_an_unknown_joint_is_refused_and_the_known_ones_are_listed():
    with pytest.raises(ActionError, match="panda_joint8.*known: panda_joint1") as caught:
        ARM.check(JointCommand({"panda_joint8": 0.0}), HOME)
    assert caught.value.reason == "joints"


@given(number(5.0), number(5.0), st.floats(-1, 1), st.floats(-1, 1))
def test_speed_and_acceleration_of_a_base_never_exceed_the_limits(v, w, share_v, share_w):
    limits, dt = HUSKY.limits, 1 / HUSKY.control_rate
    before = TwistCommand(share_v * limits.v, share_w * limits.w)
    out = BASE.check(TwistCommand(v, w), before).command
    assert abs(out.v) <= limits.v and abs(out.w) <= limits.w
    assert abs(out.v - before.v) <= limits.v_acceleration * dt + 1e-12
    assert abs(out.w - before.w) <= limits.w_acceleration * dt + 1e-12


@pytest.mark.parametrize("bad", BAD)
def test_a_velocity_that_is_not_finite_is_refused(bad):
    for command in (TwistCommand(bad, 0.0), TwistCommand(0.0, bad)):
        with pytest.raises(ActionError) as caught:
            BASE.check(command, STILL)
        assert caught.value.reason == "finite"


def test_a_base_says_what_was_too_fast_and_is_silent_about_a_ramp():
    fast = BASE.check(TwistCommand(2.0, -3.0), STILL)
    assert [said.split()[0] for said in fast.interventions] == ["v", "w"]
    assert BASE.check(TwistCommand(HUSKY.limits.v, 0.0), STILL).interventions == ()


@given(st.floats(-10, 10), st.floats(-5, 0), st.floats(0, 5))
def test_clamp_says_exactly_what_it_changes(value, low, high):
    said = []
    out = clamp(value, low, high, "x", said)
    assert low <= out <= high and bool(said) == (abs(out - value) > ROUNDING)
