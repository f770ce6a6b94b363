"""What the control node does between its topics: a Controller, and what is in force. No ROS, no clock, no thread.

A chunk is executed only when it answers the instruction in force, so that the last answer to the words before moves
nothing. A chunk that comes ahead of its instruction waits for it: they travel on different topics. An instruction that
means stop is obeyed here: no answer to it is executed.

A fault halts: what was under way comes to rest, and only another instruction moves again, be it in the same words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from vla_ros.control import Controller, Tick
from vla_ros.errors import ActionError
from vla_ros.nodes.stalling import Stalling, Staying
from vla_ros.nodes.states import EXECUTING, FAILED, HALTED, HELD, HOLDING, IDLE, NO_PROGRESS, STALLED, STOPPED
from vla_ros.nodes.statistics import Window
from vla_ros.profile import RobotProfile
from vla_ros.splicing import DEFAULT
from vla_ros.types import ActionChunk, Command, JointCommand, JointState, TwistCommand

NEAR = 0.2  # [rad] between a joint and its target: it follows what it was told
TROUBLE = 0.2  # [s] steady that the policy node may answer nothing, while what it answered before is executed


@dataclass(frozen=True)
class Offer:
    """A chunk as it came: with the words that it answers and its number. received: [s] by a steady clock."""

    chunk: ActionChunk
    instruction: str
    sequence: int
    received: float = 0.0


class Commanding:
    """Call all methods from one thread, or under one lock.

    max_gap: [ns] between two joint states; after a longer one (a reset world, a lost driver) everything is forgotten
    and motion begins from the measured state.
    execute: [ns] of a chunk that are executed before a newer one takes over. A chunk begins where the robot was when
    it was observed; taking each at once chases the delay in between, and the robot swings.
    timeout: [ns] without a step in force, after the last one, that halt; None: as where time waits for each command,
    and nothing is late.
    insist: commands of rest that are sent before silence; None: no silence, as where each joint state is answered.
    stall_time: [s] that the joints may rest while they are told to move, before it is said; 0: for ever.
    stay_time: [s] that an arm may execute chunks without leaving its place, before it is said; 0: for ever.
    means_stop: whether an instruction means stop.
    splice: how a newer chunk takes over from the one that runs, by name (splicing.py).
    """

    def __init__(self, profile: RobotProfile, max_gap: int, execute: int = 0, insist: int | None = None,
                 stall_time: float = 0.0, means_stop: Callable[[str], bool] = lambda words: False,
                 splice: str = DEFAULT, timeout: int | None = None, stay_time: float = 0.0):
        self.profile, self.controller = profile, Controller(profile, splice)
        self.stalling, self.staying = Stalling(profile, stall_time), Staying(profile, stay_time)
        self.means_stop = means_stop
        self.instruction, self.stopped, self.fault = "", False, ""
        self.halted = False  # by the fault
        self.held = False  # the last words that were not empty mean stop
        self.missing = ""  # what is not heard any more; until it is, no chunk is taken
        self.offer: Offer | None = None  # the newest chunk, in force or waiting for its instruction
        self.accepted: Offer | None = None  # the chunk that the controller took last
        self.begun: Offer | None = None  # the chunk that led to its first command last
        self.moved = Tick(None, None)
        self.commands, self.interventions = 0, Counter()  # by kind
        self.refusals: Counter[str] = Counter()
        self.halts: Counter[str] = Counter()  # by kind
        self.latency = Window(100)  # [s] from an observation to the first command that answers it
        self.gaps, self.jumps = Window(100), Window(100)  # [rad], or [m/s, rad/s], at seams
        self._answered = False
        self._max_gap, self._execute, self._insist, self._rested = max_gap, execute, insist, 0
        self._timeout = timeout
        self._last_step: int | None = None  # [ns] when a step was in force last, while another is due
        self._troubled: float | None = None  # [s] steady, since when the policy node answers nothing

    # What arrives

    def instruct(self, words: str) -> None:
        """New words end the motion of those before. While stopped, none are taken."""
        if words == self.instruction or self.stopped:
            return
        self.instruction, self.fault, self.halted, self._troubled = words, "", False, None
        self.held = self.means_stop(words) if words else self.held
        self._end()

    def stop(self, latch: bool) -> None:
        """True: hold, whatever comes. False: reset; only a new instruction moves again."""
        if latch:
            self.instruction, self.fault, self.halted = "", "", False
            self._end()
        self.stopped = latch

    def _end(self) -> None:
        """Ends the motion: what follows is a hold."""
        self.controller.halt()
        self.stalling.forget()
        self.staying.forget()
        self._last_step = None

    def joints(self, joints: JointState) -> None:
        last = self.controller.current
        if last is not None and abs(joints.stamp - last.stamp) > self._max_gap:
            self._interrupted(joints, (joints.stamp - last.stamp) / 1e9)
        self.controller.observe(joints)

    def _interrupted(self, joints: JointState, gap: float) -> None:
        """By `gap` [s]. What moves, and is where it was told, brakes; a robot that is elsewhere is not led back."""
        executing = self._timeout is not None and self.moved.step is not None
        if self._timeout is None or self.controller.resting or not self._follows(joints):
            self._begin_anew()
        else:
            self.controller.date_anew()
        if executing:
            self.fail("joints", f"joint states jumped by {gap:.2f} s")

    def _follows(self, joints: JointState) -> bool:
        command = self.moved.command
        return not isinstance(command, JointCommand) or all(
            abs(command.positions[name] - joints.positions[name]) < NEAR for name in self.profile.joints)

    def let_go(self) -> None:
        """Ends the motion and what led to it: what follows is on the way to rest."""
        self.instruction, self.fault, self.halted, self.offer = "", "", False, None
        self._end()

    def begin(self) -> None:
        """After others may have moved the robot: from the newest joint states on, and from none of before."""
        current = self.controller.current
        self.forget("")
        if current is not None:
            self.controller.observe(current)

    def forget(self, fault: str) -> None:
        """For a process that itself stood still: nothing of before holds any more, and only a new instruction moves."""
        self.instruction, self.offer = "", None
        self._begin_anew()
        self.fault, self.halted = fault, bool(fault)

    def miss(self, name: str) -> None:
        """Halts when somebody without whom there is to be no motion falls silent; empty: all are heard."""
        if name and self.moved.step is not None:
            self.fail("silence", f"nothing heard from the {name}")
        self.missing = name

    def policy_says(self, trouble: str, now: float) -> None:
        """Halts when the policy node answers nothing for a while: what it answered last is not what it would say now.

        trouble: why it does not, empty when it does; now: [s] steady.
        """
        if not trouble:
            self._troubled = None
        elif self._troubled is None:
            self._troubled = now
        elif now - self._troubled > TROUBLE and self.moved.step is not None:
            self.fail("policy", f"policy node {trouble}")

    def _begin_anew(self) -> None:
        self.controller.reset()
        self.stalling.forget()
        self.staying.forget()
        self.accepted, self.moved, self._last_step = None, Tick(None, None), None
        self.fault = self.fault if self.halted else ""

    def refuse(self, error: ActionError) -> None:
        """Counts a chunk that must not be executed; what is in force stays in force."""
        self.refusals[error.reason] += 1
        self.fault = f"{error.reason}: {error}"

    # What follows

    def take(self) -> bool:
        """Gives the newest chunk to the controller, once, if it answers the instruction in force."""
        offer = self.offer
        barred = self.stopped or self.held or self.missing or not self.instruction
        if offer is None or barred or offer.instruction != self.instruction:
            return False
        if self._early(offer.chunk):
            return False
        self.offer = None
        try:
            self.controller.accept(offer.chunk)
        except ActionError as error:
            self.refuse(error)
            return False
        self.accepted, self._answered = offer, False
        if offer.chunk.refusal:
            self.fault, self._last_step = "", None
            self.staying.forget()
        return True

    def _early(self, chunk: ActionChunk) -> bool:
        """Whether the chunk in force has yet to be executed for a while. A refusal is never early."""
        running = self.controller.scheduler.chunk
        if running is None or chunk.refusal:
            return False
        length = len(running.values) * self.profile.action.period_ns
        return 0 <= chunk.stamp - running.stamp < min(self._execute, length)

    def tick(self, now: int) -> Command | None:
        """The command of the control period that begins at `now` [ns]; None before the first chunk, and in silence: at
        rest the robot's own controller holds, and another may take over."""
        try:
            moved = self.controller.tick(now)
        except ActionError as error:
            self.interventions[error.reason] += 1
            self.fail("guard", f"{error.reason}: {error}")
            moved = self.controller.tick(now)
        if moved.step is None:
            self._untimely(now)
            self._run_out(now)
        self.moved = moved
        self.interventions.update({kind_of(said) for said in moved.interventions})
        if moved.seam is not None:
            self.gaps.add(moved.seam.gap)
            self.jumps.add(moved.seam.jump)
        self._rested = self._rested + 1 if moved.step is None and self.controller.resting else 0
        if moved.command is None or self._insist is not None and self._rested > self._insist:
            return None
        self.commands += 1
        if moved.step is not None:
            self._executed(now, moved)
        return self._for_interface(moved)

    def _executed(self, now: int, moved: Tick) -> None:
        """A fault is over when a chunk that came after it moves the robot, not when it comes: it may fail too."""
        self.stalling.add(now, moved.command, self.controller.current)
        self.staying.add(now, self.controller.current)
        self._last_step = now
        if not self._answered:
            self._answered, self.fault, self.begun = True, "", self.accepted
            self.latency.add((now - moved.step.chunk.stamp) / 1e9)

    def _untimely(self, now: int) -> None:
        """Says why a chunk of which nothing was executed is not: its moments are not those of the clock here."""
        chunk = self.controller.scheduler.chunk
        if chunk is None or chunk.refusal or self._answered:
            return
        age, length = (now - chunk.stamp) / 1e9, len(chunk.values) * self.profile.action.period
        if age >= length:
            self.hold(f"late: the chunk came {age:.2f} s after its observation, its steps were over at {length:.2f} s")
        elif age < -self.profile.max_observation_age:
            self.hold(f"ahead: the chunk's observation is stamped {-age:.2f} s ahead of the clock here: do all nodes "
                      f"read the same one?")

    def _run_out(self, now: int) -> None:
        if None not in (self._timeout, self._last_step) and now - self._last_step > self._timeout:
            self.fail("chunks", self.fault or f"no newer chunk within {self._timeout / 1e9:g} s of the last one's end")

    def hold(self, fault: str) -> None:
        """Holds, because of a fault, until a chunk moves the robot."""
        moved = self._last_step
        self.fault, self.moved = fault, Tick(self.moved.command, None)
        self._end()
        self._last_step = moved

    def fail(self, kind: str, fault: str) -> None:
        """Halts."""
        self.hold(fault)
        self.halts[kind] += 1
        self.instruction, self.offer, self.halted, self._last_step = "", None, True, None

    def _for_interface(self, moved: Tick) -> Command:
        """A velocity interface gets the way from where the guard goes on, over the control period [/s]."""
        if self.profile.command.interface != "velocity":
            return moved.command
        rate, origin = self.profile.control_rate, moved.origin
        return JointCommand({}, {n: (v - origin.get(n, v)) * rate for n, v in moved.command.positions.items()})

    @property
    def resting(self) -> bool:
        """Whether the command that went out last was one of rest, and the robot has come to it."""
        return self.moved.step is None and self.controller.resting

    @property
    def rest(self) -> Command | None:
        """What ends motion for good on an interface where the last command stays in force; None on the others."""
        if self.moved.command is None:
            return None
        if self.profile.command.interface == "twist":
            return TwistCommand(0.0, 0.0)
        if self.profile.command.interface == "velocity":
            return JointCommand({}, dict.fromkeys(self.moved.command.positions, 0.0))
        return None

    @property
    def state(self) -> str:
        if self.stopped:
            return STOPPED
        if self.held and self.instruction:
            return HELD
        if self.halted:
            return HALTED
        if self.stalling.reason:
            return STALLED
        if self.staying.reason:
            return NO_PROGRESS
        if self.moved.step is not None:
            return EXECUTING
        if self.fault:
            return FAILED
        return HOLDING if self.commands else IDLE

    @property
    def detail(self) -> str:
        """The reason of the state, for people."""
        if self.stopped:
            return "vla/stop is latched; publish on vla/reset_stop, then give an instruction"
        if self.held and self.instruction:
            return f"told to stop: '{self.instruction}'"
        if self.halted:
            return f"{self.fault} (only another instruction moves again)"
        if reason := self.stalling.reason or self.staying.reason or self.fault:
            return reason
        if self.accepted is not None and self.accepted.chunk.refusal:
            return f"the policy refuses: {self.accepted.chunk.refusal}"
        return "; ".join(self.moved.interventions)


def kind_of(said: str) -> str:
    """What kind of intervention the guard speaks of: 'panda_joint1 position 9 to 2.8' is one of position, 'v 5 to 0.6'
    one of v."""
    words = said.split()
    return next((kind for kind in ("workspace", "position", "step", "motion") if kind in words), words[0])
