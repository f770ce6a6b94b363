"""Control periods in step with the chunks, on a clock of the test's own."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest

from vla_ros.control import Tick
from vla_ros.nodes import control_loop
from vla_ros.nodes.commanding import Offer
from vla_ros.nodes.control_loop import ControlLoop
from vla_ros.nodes.phase import PATIENCE, SLIP, Phase
from vla_ros.types import JointCommand

PERIOD = 1 / 60


def run(every: float, offset: float, seconds: float = 10.0, jitter: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """What chunks waited, and how long the periods were [s]; chunks come at `offset` and then `every` so often."""
    phase, rng, now, number = Phase(PERIOD), np.random.default_rng(0), 0.0, 0
    waits, periods = [], []
    arrival = offset
    while now < seconds:
        if arrival <= now:
            waits.append(now - arrival)
            phase.waited(waits[-1])
            while arrival <= now:
                number += 1
                arrival = offset + number * every + jitter * rng.standard_normal()
        periods.append(PERIOD + phase.slip())
        now += periods[-1]
    return np.array(waits), np.array(periods)


@pytest.mark.parametrize("offset", np.linspace(0.0, PERIOD, 8, endpoint=False))
@pytest.mark.parametrize("periods", [2, 3, 15])
def test_chunks_that_come_in_step_soon_wait_for_hardly_any_time(offset, periods):
    waits, _ = run(periods * PERIOD, offset, seconds=40.0, jitter=0.0003)
    settled = waits[len(waits) // 2:]
    assert np.percentile(settled, 90) <= 0.2 * PERIOD + 0.001
    assert np.median(settled) < 0.4 * PERIOD


def test_without_it_they_would_wait_for_as_long_as_it_happens(monkeypatch):
    monkeypatch.setattr(Phase, "slip", lambda self: 0.0)
    assert np.median(run(2 * PERIOD, 0.2 * PERIOD)[0]) == pytest.approx(0.8 * PERIOD, abs=1e-6)


def test_periods_are_never_shorter_and_hardly_longer():
    for every in (2 * PERIOD, 0.0371):
        _, periods = run(every, 0.0, seconds=60.0, jitter=0.001)
        assert periods.min() == PERIOD and periods.max() <= PERIOD * (1 + SLIP) + 1e-12


def test_chunks_of_another_rate_cost_one_period_in_a_while():
    _, periods = run(0.0371, 0.0, seconds=60.0)
    assert 0 < (periods - PERIOD).sum() <= PERIOD * (60.0 / (PATIENCE * PERIOD) + 1.1)


def test_it_waits_until_it_has_seen_enough_and_leaves_out_what_waited_for_more_than_a_period():
    phase = Phase(PERIOD)
    for _ in range(15):
        phase.waited(0.9 * PERIOD)
        phase.waited(3 * PERIOD)
        assert phase.slip() == 0.0
    phase.waited(0.9 * PERIOD)
    assert phase.slip() > 0


def test_the_control_loop_slips_into_step(monkeypatch):
    clock, sent = SimpleNamespace(now=0.0), []
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(control_loop, "time", clock)
    work = SimpleNamespace(begun=None, instruction="", moved=Tick(None, None), tick=lambda now: JointCommand({}),
                           miss=lambda name: None,
                           profile=SimpleNamespace(max_observation_age=1.0, control_rate=1 / PERIOD),
                           controller=SimpleNamespace(current=None, scheduler=SimpleNamespace(at=lambda now: None)))

    class Closing:
        def wait(self, seconds: float) -> bool:
            """A chunk comes a fifth of a period after every second one would have begun, were none made longer."""
            clock.now += seconds
            work.begun = Offer(None, "", 0, 2 * PERIOD * ((clock.now - 0.2 * PERIOD) // (2 * PERIOD)) + 0.2 * PERIOD)
            return clock.now > 10.0

    loop = ControlLoop(work, SimpleNamespace(silent=lambda now: ""), PERIOD, 1.0, threading.Lock(), lambda: 0,
                       lambda command, now: sent.append(clock.now), lambda: None, print)
    loop._run(Closing())
    window = loop.stages.windows["schedule"]
    assert len(sent) > 500 and np.diff(sent).min() > 0.999 * PERIOD
    assert window.max > 0.75 * PERIOD and window.percentile(30) < PERIOD / 3
