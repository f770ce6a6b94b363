"""What the policy node does between its topics: one observation at a time, the newest, to the policy. No ROS.

Parts and instructions come in on one thread; `infer` runs on another, so that a slow model delays nothing else.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vla_ros.chunking import check_chunk
from vla_ros.errors import ActionError, ObservationError, UnknownNameError
from vla_ros.nodes.pairing import Pairing, Part
from vla_ros.nodes.states import FAILED, REFUSED, RUNNING, STALE, WAITING
from vla_ros.nodes.statistics import Stages, Window, budget
from vla_ros.observing import Observer, Pictures, check_shows, check_times
from vla_ros.policy import Policy
from vla_ros.profile import RobotProfile
from vla_ros.types import ActionChunk, Observation

JOINTS = "joints"


@dataclass(frozen=True)
class Job:
    """One observation to be inferred, as parts by source, and the words in force.

    barred: why these words are not for the policy, which needs no parts; else empty.
    """

    parts: Mapping[str, Part]
    instruction: str
    episode: int  # counts the instructions
    barred: str = ""

    @property
    def stamps(self) -> dict[str, int]:
        return {source: part.stamp for source, part in self.parts.items()}

    @property
    def key(self) -> tuple:
        """What makes it another observation than the one before: its images; without cameras, its joint states."""
        images = tuple(stamp for source, stamp in self.stamps.items() if source != JOINTS)
        return images or (self.stamps[JOINTS],)


@dataclass(frozen=True)
class Status:
    state: str
    detail: str


class Inferring:
    """image: makes uint8 (H, W, 3) RGB of what a camera's part holds; now: the clock of the stamps [ns].

    lockstep: the clock stands still until the answer is executed, so that nothing is late, all parts of an
    observation have one stamp, and an observation that cannot be answered is a failure: no other will come.
    barred: why an instruction is refused before the policy is asked; empty when it is not.
    deadline: [s] that a chunk is executed before the next should be there; a longer inference is counted in `misses`.
    turn: held by whoever uses the policy, which is not made for two threads at a time.
    """

    def __init__(self, policy: Policy, profile: RobotProfile, image: Callable[[Any], Any], now: Callable[[], int],
                 lockstep: bool = False, barred: Callable[[str], str] = lambda words: "",
                 deadline: float = float("inf")):
        self.policy, self.profile, self.lockstep = policy, profile, lockstep
        self.instruction = ""
        self.status = Status(WAITING, "no instruction")
        self.refusals: Counter[str] = Counter()
        self.chunks = self._misses = self.declined = 0  # declined: chunks that are a refusal
        self.deadline = deadline
        self.seconds, self.stages = Window(100), Stages()
        self._image, self._now, self._observer = image, now, Observer(profile)
        self._pictures = Pictures()
        self._bar, self._barred = barred, ""
        self._pairing = Pairing([*policy.cameras, JOINTS])
        self._lock, self.turn = threading.Lock(), threading.Lock()
        self._asked: float | None = None  # [s] steady: since when the policy is asked
        self._episode = 0
        self._reset_for = 0  # the episode that the policy was reset for
        self._unreadable: dict[str, ObservationError] = {}  # sources whose newest message cannot be read, and why
        self._done: tuple | None = None  # key of the observation that was answered last
        self._refused: tuple | None = None  # reason and key of the one that was refused last

    def instruct(self, words: str) -> bool:
        """Puts words in force; empty words end inference. False when they are in force already."""
        with self._lock:
            if words == self.instruction:
                return False
            self.instruction, self._done = words, None
            self._barred = self._bar(words) if words else ""
            self._episode += 1
            self.status = Status(WAITING, "" if words else "no instruction")
            return True

    def add(self, source: str, stamp: int, item) -> None:
        with self._lock:
            # In lockstep a clock that begins anew may be heard of after the first image, and no second one will come.
            now = stamp if self.lockstep else self._now()
            if self._pairing.add(source, Part(stamp, item, now, time.perf_counter())):
                self._unreadable.pop(source, None)
            else:
                self.refusals["late"] += 1

    def reject(self, source: str, error: ObservationError) -> None:
        """Counts a message that cannot be read. Nothing is answered until its source sends one that can."""
        with self._lock:
            self.refusals[error.reason] += 1
            self._unreadable[source] = error

    @property
    def misses(self) -> int:
        """Inferences that took longer than the deadline, one that still does among them."""
        asked = self._asked
        return self._misses + (asked is not None and time.perf_counter() - asked > self.deadline)

    @property
    def observed(self) -> int:
        """[ns] stamp of the newest whole observation; 0 before the first."""
        with self._lock:
            parts = self._pairing.newest()
        stamps = {part.stamp for part in (parts or {}).values()}
        return 0 if not stamps or self.lockstep and len(stamps) > 1 else min(stamps)

    def lacking(self) -> str:
        """Why nothing that was observed could be answered now, whatever the words; empty when something could."""
        with self._lock:
            parts = self._pairing.newest()
            try:
                if self._unreadable:
                    raise next(iter(self._unreadable.values()))
                if parts is None:
                    return "nothing received from " + ", ".join(self._pairing.missing())
                if not self.lockstep:
                    check_times(self.profile, self._slowest_first(Job(parts, "", 0)), self._now())
                self._observe(Job(parts, "", 0))
            except ObservationError as error:
                return f"{error.reason}: {error}"
        return ""

    def next(self) -> Job | None:
        """The newest observation, when it is new, whole and in time; else the status says what it lacks.

        Barred words need none: they are refused blindly.
        """
        with self._lock:
            if not self.instruction or self.status.state == REFUSED:
                return None
            if self._barred:
                return Job(self._pairing.newest() or {}, self.instruction, self._episode, self._barred)
            if self._unreadable:
                self._report(next(iter(self._unreadable.values())))
                return None
            parts = self._pairing.newest()
            if parts is None:
                self.status = Status(WAITING, "nothing received from " + ", ".join(self._pairing.missing()))
                return None
            job = Job(parts, self.instruction, self._episode)
            if self.lockstep and len(set(job.stamps.values())) > 1:
                return None
            try:
                if not self.lockstep:
                    check_times(self.profile, self._slowest_first(job), self._now())
            except ObservationError as error:
                self._refuse(job, error)
                return None
            if job.key == self._done:
                return None
            self._done = job.key
            return job

    def _slowest_first(self, job: Job) -> dict[str, int]:
        """So that a source that stands still is named, and not one that was paired with it."""
        return dict(sorted(job.stamps.items(), key=lambda pair: self._pairing.last(pair[0]).stamp))

    def infer(self, job: Job) -> ActionChunk | None:
        """The policy's answer, with the timings of every stage; None when there is none to publish."""
        if job.barred:
            return self._turn_down(job)
        try:
            began = time.perf_counter()
            observation = self._observe(job)
            converted = time.perf_counter()
            chunk = self._ask_policy(job, observation)
            check_chunk(chunk, self.profile.action)
            if chunk.stamp != observation.stamp:
                raise ActionError("stamp", f"the chunk of {chunk.stamp} ns does not answer {observation.stamp} ns")
        except ObservationError as error:
            with self._lock:
                self._refuse(job, error)
            return None
        except Exception as error:  # whatever a policy raises: the node lives, the robot holds
            self.fail(job, f"{type(error).__name__}: {error}")
            return None
        return self._answer(job, chunk, began, {"convert": converted - began,
                                                "infer": time.perf_counter() - converted})

    def _ask_policy(self, job: Job, observation: Observation) -> ActionChunk:
        asked = self._asked = time.perf_counter()
        try:
            with self.turn:
                if self._reset_for != job.episode:
                    self.policy.reset()
                    self._pictures.reset()
                    self._reset_for = job.episode
                self._pictures.check(observation)
                return self.policy.infer(observation)
        finally:
            self._asked = None
            self._misses += time.perf_counter() - asked > self.deadline

    def _turn_down(self, job: Job) -> ActionChunk | None:
        """A refusal of now; None when other words are in force by now."""
        with self._lock:
            if job.episode != self._episode:
                return None
            self.status = Status(REFUSED, job.barred)
            self.chunks += 1
            self.declined += 1
        return ActionChunk(np.zeros((0, self.profile.action.dim)), self.profile.action, self._now(), refusal=job.barred)

    def image_of(self, camera: str = "") -> tuple[str, np.ndarray, int]:
        """The newest image of one of the policy's cameras, empty: of its first: name, uint8 (H, W, 3) RGB, stamp [ns].

        Raises UnknownNameError, or ObservationError when there is none, or none in time.
        """
        cameras = self.policy.cameras
        name = camera or next(iter(cameras), "")
        if name not in cameras:
            raise UnknownNameError("camera of the policy", name, cameras)
        with self._lock:
            part = self._pairing.last(name)
        if part is None:
            raise ObservationError("missing", f"nothing received from camera '{name}'")
        if not self.lockstep:
            check_times(self.profile, {name: part.stamp}, self._now())
        image = self._image(part.item)
        self._observer.check_image(name, image)
        return name, image, part.stamp

    def fail(self, job: Job, detail: str) -> None:
        with self._lock:
            if job.episode == self._episode:
                self.status = Status(FAILED, detail)

    def _observe(self, job: Job):
        """Whatever the policy would make of it: it is not asked about an image that shows nothing."""
        images = {name: self._image(part.item) for name, part in job.parts.items() if name != JOINTS}
        stamps, joints = {name: job.stamps[name] for name in images}, job.parts[JOINTS].item
        observation = self._observer.observation(images, stamps, joints, job.instruction)
        for name, image in images.items():
            check_shows(name, image)
        return observation

    def _answer(self, job: Job, chunk: ActionChunk, began: float, measured: dict[str, float]) -> ActionChunk | None:
        """The chunk, with the stages from the oldest image's stamp on [s]; None when other words are in force."""
        last = max(job.parts.values(), key=lambda part: part.received)
        age = max(0.0, (last.arrival - min(job.key)) / 1e9)
        self.seconds.add(measured["infer"])
        timings = {"age": age, "wait": began - last.received, "convert": measured["convert"],
                   **(chunk.timings or {"infer": measured["infer"]}),
                   "total": age + time.perf_counter() - last.received}
        with self._lock:
            if job.episode != self._episode:
                return None
            self.stages.add(budget(timings))
            self.declined += bool(chunk.refusal)
            self.status = Status(REFUSED, chunk.refusal) if chunk.refusal else Status(RUNNING, chunk.text)
            self.chunks += 1
            return replace(chunk, timings=timings)

    def _refuse(self, job: Job, error: ObservationError) -> None:
        """Once for each observation, however often it is looked at."""
        if job.episode != self._episode:
            return
        if (error.reason, job.key) != self._refused:
            self.refusals[error.reason] += 1
        self._refused = (error.reason, job.key)
        self._report(error)

    def _report(self, error: ObservationError) -> None:
        self.status = Status(FAILED if self.lockstep else STALE, f"{error.reason}: {error}")
