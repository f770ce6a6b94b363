"""How an instruction's execution is followed, from what the nodes say to its outcome. No ROS, no clock of its own.

Two clocks: ROS time [ns] for what the robot does, steady time [s] for whether nodes live: a simulated clock may stand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vla_ros.nodes.progress import Progress
from vla_ros.nodes.states import (
    CANCELED,
    EXECUTING,
    FAILED,
    HALTED,
    HELD,
    HOLDING,
    INACTIVE,
    NO_PROGRESS,
    REFUSED,
    STALLED,
    STOPPED,
    SUCCEEDED,
    TIMED_OUT,
)
from vla_ros.nodes.statistics import Stages

POLICY, CONTROL, SIMULATION = "policy node", "control node", "simulation"
DONE = 1.0  # [s] ROS time that a policy says that it is done, before it counts
GRACE = 1.0  # [s] steady: trouble that lasts as long ends the execution; a single refused chunk does not


@dataclass(frozen=True)
class Report:
    """What a node said last. state: of py or py; arrival: [s] steady."""

    state: str
    instruction: str
    detail: str
    arrival: float


@dataclass(frozen=True)
class TaskReport:
    """The simulated task. stamp [ns], distance [m]."""

    stamp: int
    instruction: str
    success: bool
    distance: float
    arrival: float


@dataclass(frozen=True)
class Verdict:
    outcome: str
    message: str


class Board:
    """The newest word of every node; outlives the executions."""

    def __init__(self):
        self.policy: Report | None = None
        self.control: Report | None = None
        self.task: TaskReport | None = None

    def holds(self, instruction: str) -> bool:
        """Whether both nodes have these words in force."""
        return all(r is not None and r.instruction == instruction for r in (self.policy, self.control))

    def silent(self, now: float, limit: float) -> str:
        """The name of a node that has not spoken for `limit` [s] steady; empty when all have. Unknown tasks may be."""
        for name, report in ((POLICY, self.policy), (CONTROL, self.control), (SIMULATION, self.task)):
            if report is not None and now - report.arrival > limit:
                return name
        return ""


class Execution:
    """One instruction, from its acceptance to its verdict. Call everything from one thread.

    time_limit: [s] ROS time from the first observation that was answered, and as long before that one.
    silence: [s] steady that a node may stay silent, or take to put the instruction in force.
    way: judges the distance left, where a simulated task knows it.
    stops: the instruction means stop: done when the control node holds, whatever the policy node does or does not.
    """

    def __init__(self, instruction: str, time_limit: float, silence: float, board: Board, ros_now: int, now: float,
                 way: Progress | None = None, stops: bool = False):
        self.instruction, self.time_limit, self.silence, self.board = instruction, time_limit, silence, board
        self.way, self.stops = way or Progress(), stops
        self.accepted, self.begun = ros_now, now
        self.running = False  # both nodes have the words in force
        self.cleared = stops or not board.holds(instruction)  # what stands on the board is not of an execution before
        self.first: int | None = None  # [ns] stamp of the first observation that was answered
        self.first_chunk, self.latency, self.text = 0.0, 0.0, ""  # [s] steady, [s] ROS, words
        self.chunks = 0
        self.stages = Stages(1000)
        self._troubled: float | None = None  # [s] steady, since when
        self._done: int | None = None  # [ns] stamp of the first observation since when the policy says that it is

    @property
    def _judged(self) -> bool:
        """Whether a simulated task says how these words stand."""
        return self.board.task is not None and self.board.task.instruction == self.instruction

    @property
    def wanted(self) -> str:
        """The words to be published until both nodes have them in force."""
        return self.instruction if self.cleared else ""

    def chunk(self, instruction: str, stamp: int, refusal: str, text: str, timings: Mapping[str, float],
              now: float, done: bool = False) -> Verdict | None:
        """A chunk that the policy node published. done: it says that nothing is left to do; where it does so for DONE
        while the control node executes what it says, and no simulated task knows better, that is the end."""
        if instruction != self.instruction or not self.cleared or self.stops:
            return None
        if refusal:
            return Verdict(REFUSED, refusal)
        if self.first is None:
            self.first, self.first_chunk = stamp, now - self.begun
        self.chunks, self.text, self.latency = self.chunks + 1, text, timings.get("total", 0.0)
        self.stages.add(timings)
        obeyed = self.running and self.board.holds(instruction) and self.board.control.state in (EXECUTING, HOLDING)
        self._done = (stamp if self._done is None else self._done) if done and obeyed else None
        if self._done is None or self._judged or stamp - self._done < round(DONE * 1e9):
            return None
        return Verdict(SUCCEEDED, f"done, by the policy's own account: it has had nothing left to do for {DONE:g} s")

    def task(self, report: TaskReport) -> Verdict | None:
        """The simulated task's state: its predicate decides, when its words are those being executed."""
        if self.first is None or report.stamp <= self.first or report.instruction != self.instruction:
            return None
        lacking = self.way.add(report.stamp, report.distance)
        late = report.stamp - self.first > round(self.time_limit * 1e9)
        if report.success and not late:
            return Verdict(SUCCEEDED, "done, by the task's own predicate")
        if late:
            return self._timed_out()
        return Verdict(NO_PROGRESS, lacking) if lacking else None

    def check(self, ros_now: int, now: float) -> Verdict | None:
        """What follows from the board and the clocks; called often."""
        if self.stops:
            return self._stop(now)
        silent = self.board.silent(now, self.silence)
        if silent:
            return Verdict(HALTED, f"nothing heard from the {silent} for {self.silence:g} s")
        if not self.running:
            return self._start(now)
        return self._disturbed(now) or self._late(ros_now)

    def _stop(self, now: float) -> Verdict | None:
        control = self.board.control
        if control is not None and control.arrival >= self.begun:
            if control.state == STOPPED or (control.state == HELD and control.instruction == self.instruction):
                return Verdict(SUCCEEDED, control.detail)
        if now - self.begun > self.silence:
            return Verdict(HALTED, f"the {CONTROL} has not said within {self.silence:g} s that it holds")
        return None

    def told(self, words: str, stops: bool) -> Verdict | None:
        """Words that somebody gives meanwhile. Those that mean stop end this at once: they must not be overwritten by
        its own, which are repeated until both nodes have them; others show on the board when they are in force."""
        if not stops or words == self.instruction:
            return None
        return Verdict(CANCELED, f"told to stop: '{words}'")

    def _start(self, now: float) -> Verdict | None:
        board = self.board
        if not self.cleared:
            self.cleared = not any(r is not None and r.instruction == self.instruction
                                   for r in (board.policy, board.control))
        elif board.holds(self.instruction):
            self.running = True
        if board.control is not None and board.control.state == STOPPED:
            return Verdict(HALTED, board.control.detail)
        if not self.running and now - self.begun > self.silence:
            slow = [name + (f" ({r.detail})" if r is not None and (FAILED == r.state or INACTIVE in r.detail) else "")
                    for name, r in ((POLICY, board.policy), (CONTROL, board.control))
                    if r is None or r.instruction != self.wanted]
            return Verdict(HALTED, f"no instruction taken within {self.silence:g} s by the {' and the '.join(slow)}")
        return None

    def _disturbed(self, now: float) -> Verdict | None:
        policy, control = self.board.policy, self.board.control
        if control.state == STOPPED:
            return Verdict(HALTED, control.detail)
        if control.state == HALTED:
            return Verdict(HALTED, f"{CONTROL}: {control.detail}")
        if control.state == STALLED and control.instruction == self.instruction:
            return Verdict(STALLED, control.detail)
        if control.state == NO_PROGRESS and control.instruction == self.instruction and not self._judged:
            return Verdict(NO_PROGRESS, control.detail)
        if policy.state == REFUSED and policy.instruction == self.instruction:
            return Verdict(REFUSED, policy.detail)
        verdict = self._trouble(POLICY, policy) or self._trouble(CONTROL, control)
        if verdict is None:
            self._troubled = None
        elif self._troubled is None:
            self._troubled = now
        elif now - self._troubled > GRACE:
            return verdict
        return None

    def _trouble(self, name: str, report: Report) -> Verdict | None:
        """What ends the execution if it lasts."""
        if not report.instruction:
            return Verdict(HALTED, f"the {name} no longer has the instruction in force")
        if report.instruction != self.instruction:
            return Verdict(CANCELED, f"another instruction was given: '{report.instruction}'")
        return Verdict(HALTED, f"{name}: {report.detail}") if report.state == FAILED else None

    def _late(self, ros_now: int) -> Verdict | None:
        """The task's own stamps decide where they are known: they come in order with its success."""
        if self.first is not None and self._judged:
            return None
        since = self.accepted if self.first is None else self.first
        return self._timed_out() if ros_now - since > round(self.time_limit * 1e9) else None

    def _timed_out(self) -> Verdict:
        return Verdict(TIMED_OUT, f"not done within {self.time_limit:g} s")

    # For feedback

    @property
    def phase(self) -> str:
        """waiting, running or holding"""
        if self.first is None or self.board.control is None:
            return "waiting"
        return "running" if self.board.control.state in (EXECUTING, NO_PROGRESS) else "holding"

    @property
    def progress(self) -> float:
        """[0, 1] share of the initial distance that is done."""
        return self.way.share

    def elapsed(self, ros_now: int) -> float:
        """[s] ROS time."""
        return max(0.0, (ros_now - (self.accepted if self.first is None else self.first)) / 1e9)
