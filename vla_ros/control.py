"""The controller: scheduler, decoder and guard, in that order, for one robot. What control_node runs at a fixed rate.

Time is passed in; nothing here reads a clock or knows messages, so that the nodes, the in-process evaluation
and the tests run the same code.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from vla_ros.chunking import ChunkScheduler, Step, check_chunk
from vla_ros.decoding import ArmDecoder, BaseDecoder
from vla_ros.errors import ActionError
from vla_ros.guard import ArmGuard, BaseGuard
from vla_ros.kinematics import ArmKinematics
from vla_ros.profile import RobotProfile
from vla_ros.splicing import DEFAULT
from vla_ros.types import ActionChunk, Command, JointState, TwistCommand

MEMORY_NS = 5_000_000_000  # how long measured joints are kept, to find those of a chunk's observation

@dataclass(frozen=True)
class Seam:
    """Where a newer chunk takes over from one that has steps left: how far commands lie from what would have been
    commanded without it. Of the joint that is furthest [rad], or of a base's larger velocity [m/s, rad/s]; before the
    guard. The fingers do not count: they are told to open or to close.

    gap: of the newer chunk's own command; jump: of that which goes out, spliced.
    """

    gap: float
    jump: float


@dataclass(frozen=True)
class Tick:
    """One control period: what to send (None: nothing), the step in force (None: holding), what the guard changed, the
    seam, if one chunk meets another here, and from where an arm's command goes on [rad, m]."""

    command: Command | None
    step: Step | None
    interventions: tuple[str, ...] = ()
    seam: Seam | None = None
    origin: Mapping[str, float] = field(default_factory=dict)


class Controller:
    """observe() measured joints, accept() chunks, tick() at the profile's control rate.

    splice: how a newer chunk takes over from the one that runs, by name (splicing.py).
    """

    def __init__(self, profile: RobotProfile, splice: str = DEFAULT):
        self.profile = profile
        self.scheduler = ChunkScheduler(profile.action, splice)
        if profile.kind == "arm":
            kinematics = ArmKinematics(profile)
            self.decoder, self.guard = ArmDecoder(profile, kinematics), ArmGuard(profile, kinematics)
        else:
            self.decoder, self.guard = BaseDecoder(), BaseGuard(profile)
        self.reset()

    def reset(self) -> None:
        """Forgets chunks and measurements; the next motion starts from the next measured state."""
        self.scheduler.reset()
        self.decoder.reset()
        self.guard.forget()
        self._joints: OrderedDict[int, JointState] = OrderedDict()
        self._step: Step | None = None  # of the tick before

    def halt(self) -> None:
        """Drops the chunk in force: the robot comes to rest and holds, until another is accepted."""
        self.scheduler.reset()
        self.decoder.reset()

    def date_anew(self) -> None:
        """Stamps go on elsewhere: drops what has one, chunks and measurements. What moves goes on to rest."""
        self.halt()
        self._joints.clear()

    @property
    def current(self) -> JointState | None:
        return next(reversed(self._joints.values())) if self._joints else None

    def observe(self, joints: JointState) -> None:
        """Keeps measured joints; those not newer than the last are ignored."""
        if self.current is not None and joints.stamp <= self.current.stamp:
            return
        self._joints[joints.stamp] = joints
        while next(iter(self._joints)) < joints.stamp - MEMORY_NS:
            self._joints.popitem(last=False)

    def accept(self, chunk: ActionChunk) -> None:
        """Raises ActionError for a chunk that cannot be executed; what is in force then stays in force."""
        check_chunk(chunk, self.profile.action)
        if not chunk.refusal and self.joints_at(chunk.stamp) is None:
            raise ActionError("unanchored", f"no joint states of {chunk.stamp} ns, the moment that the chunk answers")
        self.scheduler.accept(chunk)

    def joints_at(self, stamp: int) -> JointState | None:
        """The measured joints nearest to `stamp` [ns], at most the profile's skew away."""
        if stamp in self._joints:
            return self._joints[stamp]
        nearest = min(self._joints, key=lambda s: abs(s - stamp), default=None)
        if nearest is None or abs(nearest - stamp) > self.profile.max_skew * 1e9:
            return None
        return self._joints[nearest]

    @property
    def resting(self) -> bool:
        """Whether no motion is being commanded."""
        return self.guard.resting

    def tick(self, now: int) -> Tick:
        """The command for the period that begins at `now` [ns]: without a step in force one on the way to rest, or of
        rest. None before the first motion.

        Raises ActionError when the guard refuses one; the chunk is dropped then, so that the next tick brakes.
        """
        before, self._step = self._step, None
        step = self.scheduler.at(now)
        if step is None:
            origin = self.guard.before
            return Tick(self.guard.brake(), None, origin=origin)
        said: list[str] = []
        try:
            if before is None and self.guard.resting:
                self._begin()
            takes_over = before is not None and before.chunk is not step.chunk
            without, alone = self._on_either_side(now, step) if takes_over else (None, None)
            origin = self.guard.before
            command = self.decoder.decode(step, self._observed, self.current, said)
            guarded = self.guard.check(command, *self._ahead(now))
        except ActionError:
            self.halt()
            raise
        self._step = step
        seam = without and Seam(*(distance(without, c, self.profile.joints) for c in (alone, command)))
        return Tick(guarded.command, step, (*said, *guarded.interventions), seam, origin)

    def _ahead(self, now: int) -> list:
        """What the guard wants to know of the way ahead."""
        periods = self.guard.ahead
        if not periods:
            return []
        later = self.scheduler.later(now, round(periods * 1e9 / self.profile.control_rate))
        return [self.decoder.ahead(now, later, self._observed, periods)]

    def _observed(self, stamp: int) -> JointState:
        return self.joints_at(stamp) or self.current

    def _on_either_side(self, now: int, step: Step) -> tuple[Command | None, Command | None]:
        """What would be commanded without the newest chunk, and by it alone; None where the one before has run out."""
        before, alone = self.scheduler.without_newest(now), replace(step, share=1.0, older=())
        if before is None:
            return None, None
        try:
            return tuple(self.decoder.preview(s, self._observed, self.current, []) for s in (before, alone))
        except ActionError:  # one of them leads nowhere; whether the newest does is for decode() to say
            return None, None

    def _begin(self) -> None:
        """A motion starts where the robot is, wherever it was left: somebody may have moved it."""
        if self.profile.kind == "arm":
            fingers = self.profile.gripper.joints if self.profile.gripper else ()
            self.guard.begin(self.decoder.kinematics.vector(self.current),
                             {name: self.current.positions[name] for name in fingers if name in self.current.positions})
            self.decoder.reset()
        else:
            self.guard.begin()


def distance(a: Command, b: Command, joints: tuple[str, ...]) -> float:
    """The largest difference of two targets over `joints` [rad], or of two base velocities [m/s, rad/s]."""
    if isinstance(a, TwistCommand):
        return max(abs(a.v - b.v), abs(a.w - b.w))
    return max(abs(a.positions[name] - b.positions[name]) for name in joints)
