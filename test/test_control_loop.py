"""What the control loop looks at itself: a clock that stands still or jumps while a robot moves. No ROS, no waiting."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import numpy as np
import pytest
from core_samples import HUSKY, chunk, joint_state

from vla_ros.nodes import control_loop
from vla_ros.nodes.commanding import Commanding, Offer
from vla_ros.nodes.control_loop import ControlLoop
from vla_ros.nodes.signs import PAUSE

S = 1_000_000_000
SPEED = np.tile([0.5, 0.0], (8, 1))
RATE = HUSKY.control_rate


class Bench:
    """A base that drives, chunk after chunk, in a loop whose steady clock counts its periods. ros: of steady [s], when
    the disturbance has begun. own: joint states are stamped by an undisturbed clock; else by that one. blind: from then
    on none come. slept: [s] steady that the process is stopped for then."""

    def __init__(self, monkeypatch, ros, own=False, speed=1.0, begins=2.0, ends=6.0, blind=False, slept=0.0):
        self.steady, self.sent, self.begins, self.blind, self.slept = 0.0, [], begins, blind, slept
        self.ros = lambda: round(S * (100 + speed * min(self.steady, begins) + (
            ros(self.steady - begins) if self.steady > begins else 0.0)))
        monkeypatch.setattr(control_loop, "time", SimpleNamespace(monotonic=lambda: self.steady))
        self.stamp = (lambda: round(S * (100 + speed * self.steady))) if own else self.ros
        self.work = Commanding(HUSKY, S // 2, timeout=S // 2)
        self.ends, period = ends, 1 / (RATE * speed)
        loop = ControlLoop(self.work, SimpleNamespace(silent=lambda now: ""), period, 0.5, threading.Lock(), self.ros,
                           lambda command, stamp: self.sent.append((self.steady, command.v)), lambda: None, print)
        self.work.joints(joint_state(HUSKY, self.stamp()))
        self.work.instruct("go")
        loop._run(self)

    def wait(self, seconds: float) -> bool:
        """Between two periods joint states come, and every now and then a chunk."""
        asleep, self.slept = (self.slept, 0.0) if self.steady > self.begins else (0.0, self.slept)
        self.steady += seconds + asleep
        if self.blind and self.steady > self.begins:
            return self.steady > self.ends
        self.work.joints(joint_state(HUSKY, self.stamp()))
        self.work.offer = Offer(chunk(HUSKY, SPEED, self.ros()), "go", len(self.sent))
        if len(self.sent) % 10 == 0:
            self.work.take()
        return self.steady > self.ends

    def speed(self, since: float) -> list[float]:
        return [v for at, v in self.sent if at > since]


@pytest.mark.parametrize("speed", [1.0, 0.2, 5.0])
def test_a_clock_that_goes_on_halts_nothing(monkeypatch, speed):
    bench = Bench(monkeypatch, lambda since: speed * since, speed=speed)
    assert not bench.work.halts and min(bench.speed(2.0)) == pytest.approx(0.5)


@pytest.mark.parametrize("ros, own, fault", [
    (lambda since: 0.0, False, "the clock has stood still"), (lambda since: since + 10, True, "clock jumped by +10"),
    (lambda since: since - 10, True, "clock jumped by -10"), (lambda since: since + 0.7, True, "clock jumped by +0.70"),
    (lambda since: since + 10, False, "joint states jumped by 10"),
    (lambda since: since - 10, False, "joint states jumped by -9.9")],
    ids=["stands", "ahead", "back", "a little ahead", "ahead with joint states", "back with joint states"])
def test_a_clock_that_stands_or_jumps_halts_and_the_base_brakes(monkeypatch, ros, own, fault):
    """Joint states that are stamped by a clock that stands are as fresh as ever by it."""
    bench = Bench(monkeypatch, ros, own)
    assert bench.work.state == "halted" and sum(bench.work.halts.values()) == 1
    assert fault in bench.work.fault
    speeds = bench.speed(1.9)
    assert np.abs(np.diff(speeds)).max() <= HUSKY.limits.v_acceleration / RATE + 1e-9, "it brakes"
    assert speeds[-1] == 0.0 and not any(bench.speed(2.0 + PAUSE + 0.5))


def test_old_joint_states_halt_and_the_base_brakes(monkeypatch):
    bench = Bench(monkeypatch, lambda since: since, blind=True)
    assert bench.work.state == "halted" and "joint states are 0.2" in bench.work.fault
    speeds = bench.speed(1.9)
    assert np.abs(np.diff(speeds)).max() <= HUSKY.limits.v_acceleration / RATE + 1e-9 and speeds[-1] == 0.0


def test_a_process_that_stood_still_ends_its_velocity_at_once(monkeypatch):
    """What it was about to command is of before."""
    bench = Bench(monkeypatch, lambda since: since, slept=0.6)
    assert bench.work.state == "halted" and "stood still for 0.6" in bench.work.fault
    assert bench.speed(2.1) == [0.0]
