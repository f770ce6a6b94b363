"""Who is missed: only who was heard, and only after its own time."""

from __future__ import annotations

import pytest
from core_samples import HUSKY, PANDA, SMOOTH, joint_state

from vla_ros.control import Controller
from vla_ros.nodes.signs import LONGEST, POLICY, REST, TASK, Signs, age_fault, silence_limit


def test_only_who_has_been_heard_is_missed():
    signs = Signs({POLICY: 0.3, TASK: 0.3})
    assert signs.silent(100.0) == ""
    signs.heard(POLICY, 100.0)
    assert signs.silent(100.29) == "" and signs.silent(100.31) == POLICY
    signs.heard(POLICY, 100.4)
    assert signs.silent(100.5) == ""
    signs.forget()
    assert signs.silent(200.0) == ""


def test_each_has_its_own_limit():
    signs = Signs({POLICY: 0.1, TASK: 1.0})
    signs.heard(TASK, 0.0)
    signs.heard(POLICY, 0.0)
    assert signs.silent(0.5) == POLICY
    signs.heard(POLICY, 2.0)
    assert signs.silent(2.0) == TASK


def test_what_braking_takes_is_left():
    braking = [Controller(profile).guard.braking for profile in (PANDA, SMOOTH, HUSKY)]
    assert braking[0] == 0.0 and silence_limit(braking[0]) == LONGEST
    assert 0.2 < braking[1] < 0.3 and silence_limit(braking[1]) + braking[1] == pytest.approx(REST)
    assert braking[2] == HUSKY.limits.v / HUSKY.limits.v_acceleration
    assert silence_limit(braking[2]) + braking[2] == pytest.approx(REST)


@pytest.mark.parametrize("seconds, words", [(0.0, ""), (0.2, ""), (-0.2, ""), (0.21, "0.210 s old, at most 0.2 s"),
                                            (-0.21, "0.210 s ahead"), (1e4, "s old")])
def test_joint_states_that_do_not_say_where_the_robot_is(seconds, words):
    fault = age_fault(joint_state(PANDA, 10**15), 10**15 + round(seconds * 1e9), 0.2)
    assert words in fault and bool(words) == bool(fault)


def test_no_joint_states():
    assert age_fault(None, 0, 0.2) == "nothing received from joint_states"
