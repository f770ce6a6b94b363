"""What the control node does between its topics: a Controller, and what is in force. No ROS, no clock, no thread.

A chunk is executed only when it answers the instruction in force, so that the last answer to the words before moves
nothing. A chunk that comes ahead of its instruction waits for it: they travel on different topics. An instruction that
means stop is obeyed here: no answer to it is executed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from vla_ros.control import Controller, Tick
from vla_ros.errors import ActionError
from vla_ros.nodes.stalling import Stalling
from vla_ros.nodes.states import EXECUTING, FAILED, HELD, HOLDING, IDLE, STALLED, STOPPED
from vla_ros.nodes.statistics import Window
from vla_ros.profile import RobotProfile
from vla_ros.splicing import DEFAULT
from vla_ros.types import ActionChunk, Command, JointCommand, JointState, TwistCommand


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
    insist: commands of rest that are sent before silence; None: no silence, as where each joint state is answered.
    stall_time: [s] that the joints may rest while they are told to move, before it is said; 0: for ever.
    means_stop: whether an instruction means stop.
    splice: how a newer chunk takes over from the one that runs, by name (splicing.py).
    """

    def __init__(self, profile: RobotProfile, max_gap: int, execute: int = 0, insist: int | None = None,
                 stall_time: float = 0.0, means_stop: Callable[[str], bool] = lambda words: False,
                 splice: str = DEFAULT):
        self.profile, self.controller = profile, Controller(profile, splice)
        self.stalling, self._means_stop = Stalling(profile, stall_time), means_stop
        self.instruction, self.stopped, self.fault = "", False, ""
        self.held = False  # the last words that were not empty mean stop
        self.missing = ""  # what is not heard any more; until it is, no chunk is taken
        self.offer: Offer | None = None  # the newest chunk, in force or waiting for its instruction
        self.accepted: Offer | None = None  # the chunk that the controller took last
        self.begun: Offer | None = None  # the chunk that led to its first command last
        self.moved = Tick(None, None)
        self.commands, self.interventions = 0, Counter()  # by kind
        self.refusals: Counter[str] = Counter()
        self.latency = Window(100)  # [s] from an observation to the first command that answers it
        self.gaps, self.jumps = Window(100), Window(100)  # [rad], or [m/s, rad/s], at seams
        self._answered = False
        self._max_gap, self._execute, self._insist, self._rested = max_gap, execute, insist, 0

    # What arrives

    def instruct(self, words: str) -> None:
        """New words end the motion of those before. While stopped, none are taken."""
        if words == self.instruction or self.stopped:
            return
        self.instruction, self.fault = words, ""
        self.held = self._means_stop(words) if words else self.held
        self._halt()

    def stop(self, latch: bool) -> None:
        """True: hold, whatever comes. False: released; only a new instruction moves again."""
        if latch:
            self.instruction, self.fault = "", ""
            self._halt()
        self.stopped = latch

    def _halt(self) -> None:
        """Ends the motion: what follows is a hold."""
        self.controller.halt()
        self.stalling.forget()

    def joints(self, joints: JointState) -> None:
        last = self.controller.current
        if last is not None and abs(joints.stamp - last.stamp) > self._max_gap:
            self._begin_anew()
        self.controller.observe(joints)

    def let_go(self) -> None:
        """Ends the motion and what led to it: what follows is on the way to rest."""
        self.instruction, self.fault, self.offer = "", "", None
        self._halt()

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
        self.fault = fault

    def miss(self, name: str) -> None:
        """Ends a motion when somebody without whom there is to be none falls silent; empty: all are heard."""
        if name and self.moved.step is not None:
            self.fail(f"nothing heard from the {name}")
        self.missing = name

    def _begin_anew(self) -> None:
        self.controller.reset()
        self.stalling.forget()
        self.accepted, self.moved, self.fault = None, Tick(None, None), ""

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
            self.fault = ""
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
            self.fail(f"{error.reason}: {error}")
            moved = self.controller.tick(now)
        if moved.step is None:
            self._untimely(now)
        before, self.moved = self.moved.command, moved
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
        return self._for_interface(moved.command, before)

    def _executed(self, now: int, moved: Tick) -> None:
        """A fault is over when a chunk that came after it moves the robot, not when it comes: it may fail too."""
        self.stalling.add(now, moved.command, self.controller.current)
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
            self.fail(f"late: the chunk came {age:.2f} s after its observation, its steps were over at {length:.2f} s")
        elif age < -self.profile.max_observation_age:
            self.fail(f"ahead: the chunk's observation is stamped {-age:.2f} s ahead of the clock here: do all nodes "
                      f"read the same one?")

    def fail(self, fault: str) -> None:
        """Holds, because of a fault, until a chunk moves the robot."""
        self.fault, self.moved = fault, Tick(self.moved.command, None)
        self._halt()

    def _for_interface(self, command: Command, before: Command | None) -> Command:
        """A velocity interface gets the difference of two targets over the control period [/s]."""
        if self.profile.command.interface != "velocity":
            return command
        origin = before.positions if isinstance(before, JointCommand) else self.controller.current.positions
        rate = self.profile.control_rate
        return JointCommand({}, {n: (v - origin.get(n, v)) * rate for n, v in command.positions.items()})

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
        if self.stalling.reason:
            return STALLED
        if self.moved.step is not None:
            return EXECUTING
        if self.fault:
            return FAILED
        return HOLDING if self.commands else IDLE

    @property
    def detail(self) -> str:
        """The reason of the state, for people."""
        if self.stopped:
            return "vla/stop is latched; release it, then give an instruction"
        if self.held and self.instruction:
            return f"told to stop: '{self.instruction}'"
        if self.stalling.reason or self.fault:
            return self.stalling.reason or self.fault
        if self.accepted is not None and self.accepted.chunk.refusal:
            return f"the policy refuses: {self.accepted.chunk.refusal}"
        return "; ".join(self.moved.interventions)


def kind_of(said: str) -> str:
    """What kind of intervention the guard speaks of: 'panda_joint1 position 9 to 2.8' is one of position, 'v 5 to 0.6'
    one of v."""
    words = said.split()
    return next((kind for kind in ("workspace", "position", "step", "motion") if kind in words), words[0])


class Lockstep:
    """The control node's clock in lockstep: each joint state is answered by exactly one command.

    Every `execute` [ns] it waits for the chunk that answers that very moment, as evaluation/rollout.py does.
    publish: sends a command with the stamp that it answers.
    """

    def __init__(self, commanding: Commanding, execute: int, publish: Callable[[Command, int], None]):
        self.commanding, self.execute, self.publish = commanding, execute, publish
        self.waiting: int | None = None  # [ns] stamp of the joint state that was not answered yet

    def joints(self, joints: JointState) -> None:
        current = self.commanding.controller.current
        self.commanding.joints(joints)
        if self.commanding.controller.current is not current:
            self.waiting = joints.stamp
        self.advance()

    def advance(self) -> None:
        """Answers the joint state that waits, if everything that it needs has come."""
        commanding = self.commanding
        if self.waiting is None:
            return
        accepted = commanding.accepted
        # An answer to this very moment that led to no command was a refusal before the first motion: another may come.
        if accepted is None or not 0 < self.waiting - accepted.chunk.stamp < self.execute:
            offer = commanding.offer
            if offer is None or offer.chunk.stamp != self.waiting or not commanding.take():
                if commanding.fault:  # the answer was refused, and no other will come
                    commanding.fail(commanding.fault)
                return
        command = commanding.tick(self.waiting)
        if command is not None:
            stamp, self.waiting = self.waiting, None
            self.publish(command, stamp)
