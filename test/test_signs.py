"""Who is missed: only who was heard, and only after its own time."""

from __future__ import annotations

import pytest
from core_samples import HUSKY, PANDA

from vla_ros.nodes.signs import POLICY, REST, TASK, Signs, silence_limit


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
    assert silence_limit(PANDA) == 0.4
    assert silence_limit(HUSKY) + HUSKY.limits.v / HUSKY.limits.v_acceleration == pytest.approx(REST)
