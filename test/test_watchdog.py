"""The watchdog: what it ends, how, and when it says nothing."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.nodes.watchdog import ZEROS, Watchdog

LIMIT, TICK = 0.15, 0.02  # [s]
BASE = (1.5, 4.0)  # [m/s^2], [rad/s^2]


def ticks(watchdog: Watchdog, begin: float, seconds: float, hear=lambda now: None) -> list[tuple[float, tuple]]:
    """(time, what was published) for so long."""
    said = []
    for i in range(1, round(seconds / TICK) + 1):
        now = begin + i * TICK
        hear(now)
        values = watchdog.tick(now)
        if values is not None:
            said.append((now, values))
    return said


def moving(values=(0.5, -0.2), decelerations=BASE) -> Watchdog:
    watchdog = Watchdog(LIMIT, decelerations)
    watchdog.tick(0.0)
    watchdog.commanded(values, 0.0)
    return watchdog


@given(st.floats(-2.0, 2.0), st.floats(-2.0, 2.0))
def test_a_velocity_that_nobody_stands_behind_ends_within_its_deceleration(v, w):
    said = ticks(moving((v, w)), 0.0, 3.0)
    assert bool(said) == bool(v or w)
    before = (v, w)
    for now, values in said:
        assert now > LIMIT
        for old, new, a in zip(before, values, BASE, strict=True):
            assert abs(new) <= abs(old) and old * new >= 0 and abs(old - new) <= a * TICK + 1e-9
        before = values
    if said:
        assert [values for _, values in said[-ZEROS:]] == [(0.0, 0.0)] * ZEROS, "said several times, then silence"
        at_rest = next(now for now, values in said if not any(values))
        assert at_rest <= LIMIT + max(abs(v) / BASE[0], abs(w) / BASE[1]) + 3 * TICK


def test_joints_stop_at_once_and_a_few_words_say_so():
    watchdog = moving((0.3, 0.0, -1.0), None)
    said = ticks(watchdog, 0.0, 2.0)
    assert [values for _, values in said] == [(0.0, 0.0, 0.0)] * ZEROS and said[0][0] <= LIMIT + 2 * TICK
    assert watchdog.stops == 1 and not watchdog.busy


@pytest.mark.parametrize("period", [1 / 60, 0.1])
def test_a_heartbeat_or_commands_alone_are_signs_of_life(period):
    watchdog, due = moving(), [0.0]

    def hear(now, say):
        while due[0] <= now:
            say(due[0])
            due[0] += period
    assert ticks(watchdog, 0.0, 2.0, lambda now: hear(now, watchdog.alive)) == []
    assert ticks(watchdog, 2.0, 2.0, lambda now: hear(now, lambda at: watchdog.commanded((0.5, 0.0), at))) == []


def test_nothing_is_said_while_nothing_moves_and_before_anything_was_heard():
    assert ticks(Watchdog(LIMIT), 0.0, 2.0) == []
    watchdog = moving((0.0, 0.0))
    assert ticks(watchdog, 0.0, 2.0) == [] and not watchdog.busy and watchdog.silence(2.0) == 2.0


def test_a_command_of_the_control_node_takes_over_at_once():
    watchdog = moving()
    assert ticks(watchdog, 0.0, 0.3)
    watchdog.commanded((0.5, 0.0), 0.3)
    assert ticks(watchdog, 0.3, LIMIT - TICK) == [], "silent, not one word against it"


def test_a_heartbeat_does_not_cut_a_stop_short():
    watchdog = moving()
    assert ticks(watchdog, 0.0, 0.2)
    watchdog.alive(0.2)
    said = ticks(watchdog, 0.2, 1.0)
    assert said[-1][1] == (0.0, 0.0), "a control node that was started again commands nothing"


def test_a_command_that_is_not_finite_changes_nothing():
    watchdog = moving()
    watchdog.commanded((math.nan, 0.0), 0.1)
    said = ticks(watchdog, 0.1, 1.0)
    assert said[0][0] <= LIMIT + 2 * TICK and all(math.isfinite(v) for _, values in said for v in values)


def test_one_that_stood_still_itself_listens_before_it_judges():
    watchdog = moving()
    assert watchdog.tick(5.0) is None, "what came meanwhile is yet to be handled"
    watchdog.commanded((0.5, 0.0), 5.01)
    assert watchdog.tick(5.02) is None and watchdog.stops == 0


def test_a_machine_that_is_always_slow_excuses_nobody_for_ever():
    watchdog = moving()
    assert any(watchdog.tick(0.2 * i) for i in range(1, 5))


def test_a_late_tick_does_not_stop_hard():
    watchdog = moving((0.5, 0.0))
    first = ticks(watchdog, 0.0, 0.18)[-1][1][0]
    assert first - watchdog.tick(5.0)[0] <= BASE[0] * 0.05 + 1e-9
