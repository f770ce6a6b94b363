"""When a process is started again: later each time, and not for ever."""

from __future__ import annotations

from vla_ros.backoff import FIRST, LONGEST, MOST, WINDOW, Backoff


def test_what_ends_at_once_is_started_later_each_time_and_then_given_up():
    backoff, now, delays = Backoff(), 100.0, []
    for _ in range(MOST):
        delays.append(backoff.ended(now))
        now += delays[-1] or 0.0
    assert delays == [1.0, 2.0, 4.0, 8.0, None]


def test_what_ends_now_and_then_is_never_given_up_and_waits_at_most_so_long():
    backoff, now, delays = Backoff(), 0.0, []
    for _ in range(20):
        delays.append(backoff.ended(now))
        now += delays[-1] + 20.0
    assert delays[:6] == [1.0, 2.0, 4.0, 8.0, 16.0, LONGEST] and set(delays[6:]) == {LONGEST}


def test_after_a_calm_time_it_begins_anew():
    backoff = Backoff()
    assert [backoff.ended(t) for t in (0.0, 1.0)] == [FIRST, 2 * FIRST]
    assert backoff.ended(1.0 + 2 * FIRST + WINDOW + 0.1) == FIRST
