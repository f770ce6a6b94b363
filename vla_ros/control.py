"""The controller: scheduler, decoder and guard, in that order, for one robot. What control_node runs at a fixed rate.

Time is passed in; nothing here reads a clock or knows messages, so that the nodes, the in-process evaluation
and the tests run the same code.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from vla_ros.chunking import ChunkScheduler, Step, check_chunk
from vla_ros.decoding import ArmDecoder, BaseDecoder
from vla_ros.errors import ActionError
from vla_ros.guard import ArmGuard, BaseGuard
from vla_ros.kinematics import ArmKinematics
from vla_ros.profile import RobotProfile
from vla_ros.types import ActionChunk, Command, JointState

MEMORY_NS = 5_000_000_000  # how long measured joints are kept, to find those of a chunk's observation

@dataclass(frozen=True)
class Tick:
    """One control period: what to send (None: nothing), the step in force (None: holding), what the guard changed."""

    command: Command | None
    step: Step | None
    interventions: tuple[str, ...] = ()


class Controller:
    """observe() measured joints, accept() chunks, tick() at the profile's control rate."""

    def __init__(self, profile: RobotProfile):
        self.profile = profile
        self.scheduler = ChunkScheduler(profile.action)
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
        self._stepping = False

    def halt(self) -> None:
        """Drops the chunk in force: the robot comes to rest and holds, until another is accepted."""
        self.scheduler.reset()
        self.decoder.reset()

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
        step = self.scheduler.at(now)
        if step is None:
            self._stepping = False
            return Tick(self.guard.brake(), None)
        said: list[str] = []
        try:
            if not self._stepping and self.guard.resting:
                self._begin()
            observed = self.joints_at(step.chunk.stamp) or self.current
            guarded = self.guard.check(self.decoder.decode(step, observed, self.current, said))
        except ActionError:
            self.halt()
            self._stepping = False
            raise
        self._stepping = True
        return Tick(guarded.command, step, (*said, *guarded.interventions))

    def _begin(self) -> None:
        """A motion starts where the robot is, wherever it was left: somebody may have moved it."""
        if self.profile.kind == "arm":
            self.guard.begin(self.decoder.kinematics.vector(self.current))
            self.decoder.reset()
        else:
            self.guard.begin()
