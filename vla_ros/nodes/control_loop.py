"""The control loop: a thread that commands on a steady clock, beside the thread on which messages come. No ROS."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from vla_ros.nodes.commanding import Commanding, Offer
from vla_ros.nodes.phase import Phase
from vla_ros.nodes.signs import PAUSE, Signs, age_fault
from vla_ros.nodes.statistics import Stages
from vla_ros.types import Command

BRAKING = 2.0  # [s] that a motion may take to come to rest, and some more
JUMP = 0.5  # [s] by which ROS time may be ahead of the steady clock, or behind, from one of its steps to the next


class ControlLoop:
    """Runs between `start` and `stop`. period: [s] of the steady clock; pause: [s] after which the loop stood still.

    lock: held whenever `work` or `signs` are used, here and elsewhere; now: ROS time [ns]; publish: sends a command
    with its stamp [ns]; changed: called after each period, without the lock; warn: gets text for people.
    """

    def __init__(self, work: Commanding, signs: Signs, period: float, pause: float, lock: threading.Lock,
                 now: Callable[[], int], publish: Callable[[Command, int], None], changed: Callable[[], None],
                 warn: Callable[[str], None]):
        self.work, self.signs, self.period, self.pause = work, signs, period, pause
        self.overruns = 0
        self.stages = Stages(600)  # schedule: from a chunk's arrival to its first command; command: the making of one
        self._lock, self._now, self._publish, self._changed, self._warn = lock, now, publish, changed, warn
        self._phase = Phase(period)
        self._begun: Offer | None = None
        self._step: tuple[int, float] | None = None  # ROS time [ns], and [s] steady when it came to that
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._closing, self._step = threading.Event(), None
        self._thread = threading.Thread(target=self._run, args=(self._closing,), name="control", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._closing.set()
        if self._thread is not None:
            self._thread.join(timeout=1.0)
            self._thread = None

    @property
    def broken(self) -> bool:
        """Whether it has ended, and was not told to."""
        return self._thread is not None and not self._thread.is_alive() and not self._closing.is_set()

    def come_to_rest(self) -> bool:
        """Ends the motion and waits until it is over; False when it is not in time."""
        with self._lock:
            self.work.let_go()
        end = time.monotonic() + BRAKING
        while self._thread is not None and self._thread.is_alive() and time.monotonic() < end:
            with self._lock:
                if self.work.resting:
                    return True
            time.sleep(self.period / 2)
        return False

    def _run(self, closing: threading.Event) -> None:
        """On a fixed schedule, but that it may slip into step with the chunks. Missed periods are left out and counted,
        not made up for."""
        due = time.monotonic()
        while not closing.wait(max(0.0, due - time.monotonic())):
            begin = time.monotonic()
            late = begin - due
            missed = int(late / self.period)
            self.overruns, due = self.overruns + missed, due + (missed + 1) * self.period
            with self._lock:
                self._check_loop(late)
                self.work.miss(self.signs.silent(time.monotonic()))
                self._check_clock(now := self._now(), begin)
                self._check_joints(now)
                self._command(now, begin)
                due += self._phase.slip()
            self._changed()

    def _command(self, now: int, begin: float) -> None:
        """One control period, and how long its parts took."""
        began = time.monotonic()
        command = self.work.tick(now)
        if command is None or self._stood_still(time.monotonic() - begin):
            return
        self._publish(command, now)
        self.stages.add({"command": time.monotonic() - began})
        if self.work.begun is not self._begun:
            self._begun = self.work.begun
            waited = began - self._begun.received
            self.stages.add({"schedule": waited})
            self._phase.waited(waited)

    def _stood_still(self, late: float) -> bool:
        """Also asked last before a command goes out: the process may have been stopped while it was made."""
        return late > self.pause

    def _check_loop(self, late: float) -> None:
        """A process that was stopped, or starved, does not take up where it was: the world went on meanwhile."""
        work = self.work
        if self._stood_still(late) and (work.instruction or work.moved.command is not None):
            rest = work.rest
            work.forget(f"the control node stood still for {late:.2f} s; give a new instruction")
            self._warn(work.fault)
            self.end(rest)

    def end(self, rest: Command | None) -> None:
        """Says `rest` where what was in force has been forgotten: nothing else would end a velocity."""
        if rest is not None and self.work.moved.command is None:
            self._publish(rest, self._now())

    def _check_joints(self, now: int) -> None:
        """Old joint states end a motion: what they say is not where the robot is."""
        controller, limit = self.work.controller, self.work.profile.max_observation_age
        fault = age_fault(controller.current, now, limit) if controller.scheduler.at(now) is not None else ""
        if fault:
            self.work.fail("joints", fault)

    def _check_clock(self, now: int, steady: float) -> None:
        """Which step of a chunk is due is told by ROS time: one that stands or jumps ends a motion."""
        ros, since = self._step or (now, steady)
        stands, fault = steady - since, ""
        ahead = (now - ros) / 1e9 - stands / (self.period * self.work.profile.control_rate)
        if now != ros or self._step is None:
            self._step = now, steady
            fault = f"the clock jumped by {ahead:+.2f} s" if abs(ahead) > JUMP else ""
        elif stands > max(PAUSE, 3 * self.period):
            fault = f"the clock has stood still for {stands:.2f} s"
        if fault and self.work.moved.step is not None:
            self.work.fail("clock", fault)
