"""The scheduler: steps are dated from the observation, so what is late drops out, and nothing unfit is accepted."""

from dataclasses import replace

import numpy as np
import pytest
from core_samples import HUSKY, PANDA, chunk, values_of
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.chunking import ChunkScheduler, check_chunk
from vla_ros.errors import ActionError

SPEC = PANDA.action
PERIOD = SPEC.period_ns
FOUR = [[i, 0, 0, 1] for i in range(4)]


def scheduler(*chunks) -> ChunkScheduler:
    made = ChunkScheduler(SPEC)
    for each in chunks:
        made.accept(each)
    return made


def naive(stamp: int, steps: int, now: int):
    """(index, fraction) by walking through the steps, or None."""
    for i in range(steps):
        begin = stamp + i * PERIOD
        if begin <= now < begin + PERIOD:
            return i, (now - begin) / PERIOD
    return None


@given(st.integers(0, 10**15), st.integers(1, 8), st.integers(-3 * PERIOD, 12 * PERIOD))
def test_the_step_in_force_is_that_of_a_naive_walk(stamp, steps, later):
    step = scheduler(chunk(PANDA, np.zeros((steps, 4)), stamp)).at(stamp + later)
    expected = naive(stamp, steps, stamp + later)
    assert (step and (step.index, pytest.approx(step.fraction))) == expected


@given(st.integers(0, 7))
def test_a_late_chunk_begins_at_the_step_of_now(late):
    """The first `late` steps belong to the past: they are dropped, not executed afterwards."""
    step = scheduler(chunk(PANDA, [[i, 0, 0, 1] for i in range(8)], stamp=0)).at(late * PERIOD + PERIOD // 2)
    assert step.index == late and step.chunk.values[step.index, 0] == late and step.fraction == 0.5


def test_nothing_holds_before_the_first_after_the_last_or_after_a_reset():
    made = scheduler(chunk(PANDA, FOUR, stamp=PERIOD))
    assert ChunkScheduler(SPEC).at(0) is None
    assert made.at(PERIOD - 1) is None and made.at(5 * PERIOD) is None
    assert made.at(PERIOD).index == 0 and made.at(5 * PERIOD - 1).index == 3
    made.reset()
    assert made.at(PERIOD) is None


def test_the_newer_observation_wins_and_an_older_one_is_refused():
    made = scheduler(chunk(PANDA, FOUR, 0), chunk(PANDA, FOUR, PERIOD))
    assert made.at(2 * PERIOD).index == 1
    with pytest.raises(ActionError) as caught:
        made.accept(chunk(PANDA, FOUR, 0))
    assert caught.value.reason == "order" and made.at(2 * PERIOD).index == 1


def test_a_refusal_ends_what_was_in_force():
    for values in (np.zeros((0, 4)), FOUR):  # whatever values came along with it
        made = scheduler(chunk(PANDA, FOUR, 0), chunk(PANDA, values, PERIOD, refusal="there is no red cube"))
        assert made.at(PERIOD) is None


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", range(4))
def test_one_value_that_is_not_finite_refuses_the_whole_chunk(bad, place):
    values = np.zeros((4, 4))
    values[3, place] = bad
    made = scheduler(chunk(PANDA, FOUR, 0))
    with pytest.raises(ActionError) as caught:
        made.accept(chunk(PANDA, values, PERIOD))
    assert caught.value.reason == "finite" and made.chunk.stamp == 0


@pytest.mark.parametrize("shape", [(4, 3), (4, 5), (4,), (1, 4, 4), (0, 4)], ids=str)
def test_a_chunk_of_another_shape_is_refused(shape):
    with pytest.raises(ActionError) as caught:
        check_chunk(replace(chunk(PANDA, FOUR), values=np.zeros(shape)), SPEC)
    assert caught.value.reason == "shape"


def test_a_chunk_of_another_robot_is_refused():
    with pytest.raises(ActionError) as caught:
        check_chunk(chunk(HUSKY, np.zeros((8, 2))), SPEC)
    assert caught.value.reason == "spec"


@given(values_of(PANDA))
def test_every_finite_chunk_of_the_spec_is_accepted(values):
    check_chunk(chunk(PANDA, values), SPEC)
