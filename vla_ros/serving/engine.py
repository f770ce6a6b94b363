"""One policy, and who asks it. One thread infers; every client has an episode of its own."""

from __future__ import annotations

import asyncio
import copy
import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from vla_ros.chunking import check_chunk
from vla_ros.errors import ObservationError
from vla_ros.observing import Observer
from vla_ros.policy import Policy, Together
from vla_ros.profile import RobotProfile
from vla_ros.serving.asked import Asked
from vla_ros.types import ActionChunk

MOST = 8  # requests that are inferred at once
HUNG = 30.0  # [s] that an inference may take before the server is no longer healthy
OVERHEAD = 1 << 16  # bytes of a request beside its images
Read = Callable[[bytes, tuple[str, ...], Observer], Asked]  # of a protocol: request, cameras, observer
BROKEN = "the policy failed; the server's log says why"


class PolicyError(Exception):
    """What a policy raised that is no fault of the observation. Its text is for a client: it tells nothing of here."""


@dataclass(frozen=True)
class Reply:
    """data: a whole reply; refused: the policy will not act."""

    data: bytes
    refused: bool


@dataclass(frozen=True)
class Waiting:
    """A request that was not read yet; answer takes its Reply, or why there is none."""

    episode: Policy
    request: bytes
    read: Read
    answer: asyncio.Future


class Engine:
    """Infers for any number of clients, in the order in which they ask; for those that wait at once, where the policy
    can, `most` of them. Nobody waits for others to come."""

    def __init__(self, policy: Policy, profile: RobotProfile, most: int = MOST):
        self.policy, self.profile, self.observer = policy, profile, Observer(profile)
        sizes = [profile.cameras[name] for name in policy.cameras]
        self.largest = OVERHEAD + sum(3 * camera.width * camera.height for camera in sizes)
        self.most = most if isinstance(policy, Together) else 1
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="inference")
        self._queue: deque[Waiting] = deque()
        self._began: float | None = None  # [s] the inference under way
        self._asked = self._inferred = 0  # requests under way; those of them that are inferred now

    def episode(self) -> Policy:
        """A policy that shares the model, and remembers an episode of its own: a policy keeps in itself what reset()
        makes anew, and nothing else that changes."""
        policy = copy.copy(self.policy)
        policy.reset()
        return policy

    async def answer(self, episode: Policy, request: bytes, read: Read) -> Reply:
        """To a request, as `read` reads it; of an episode, one at a time. Raises RemoteError, ObservationError or
        PolicyError."""
        waiting = Waiting(episode, request, read, asyncio.get_running_loop().create_future())
        self._asked += 1
        try:
            self._queue.append(waiting)
            self._pool.submit(self._work)
            return await waiting.answer
        finally:
            self._asked -= 1

    @property
    def waiting(self) -> int:
        """Requests that wait for those that are inferred."""
        return max(0, self._asked - max(1, self._inferred))

    @property
    def healthy(self) -> bool:
        began = self._began
        return began is None or time.monotonic() - began < HUNG

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _work(self) -> None:
        """As often as there were requests; an earlier turn may have answered several."""
        batch = [self._queue.popleft() for _ in range(min(self.most, len(self._queue)))]
        self._inferred, self._began = len(batch), time.monotonic()
        try:
            made = self._answers([one for one in batch if not one.answer.cancelled()])
        finally:
            self._inferred, self._began = 0, None
        for waiting, reply in made:
            waiting.answer.get_loop().call_soon_threadsafe(settle, waiting.answer, reply)

    def _answers(self, batch: list[Waiting]) -> list[tuple[Waiting, Reply | Exception]]:
        read = [(waiting, self._read(waiting)) for waiting in batch]
        good = [(waiting, asked) for waiting, asked in read if isinstance(asked, Asked)]
        begin = time.monotonic()
        made = self._together(good) if len(good) > 1 else [self._infer(*one) for one in good]
        seconds, replies = time.monotonic() - begin, dict(zip(map(id, (one for one, _ in good)), made, strict=True))
        out = []
        for waiting, asked in read:
            said = replies.get(id(waiting), asked)
            if isinstance(said, ActionChunk):
                said = Reply(asked.reply(said, seconds), bool(said.refusal))
            out.append((waiting, said))
        return out

    def _read(self, waiting: Waiting) -> Asked | Exception:
        try:
            asked = waiting.read(waiting.request, waiting.episode.cameras, self.observer)
            if asked.reset:
                waiting.episode.reset()
            return asked
        except Exception as error:  # whoever asked so is told, and nobody else
            return error

    def _together(self, good: list[tuple[Waiting, Asked]]) -> list[ActionChunk | Exception]:
        """What one of them breaks is done for each apart: it must not be the others' loss."""
        try:
            episodes, seen = zip(*((one.episode, asked.observation) for one, asked in good), strict=True)
            made = self.policy.infer_together(episodes, seen)
            for chunk in made:
                if not isinstance(chunk, ObservationError):
                    check_chunk(chunk, self.profile.action)
            return made
        except Exception:
            logging.getLogger(__name__).exception("policy '%s', %d at once", self.policy.name, len(good))
            return [self._infer(*one) for one in good]

    def _infer(self, waiting: Waiting, asked: Asked) -> ActionChunk | Exception:
        try:
            chunk = waiting.episode.infer(asked.observation)
            check_chunk(chunk, self.profile.action)
            return chunk
        except ObservationError as error:
            return error
        except Exception:
            logging.getLogger(__name__).exception("policy '%s'", waiting.episode.name)
            return PolicyError(BROKEN)


def settle(answer: asyncio.Future, made: Reply | Exception) -> None:
    """Of whoever still waits for it."""
    if answer.done():
        return
    if isinstance(made, Exception):
        answer.set_exception(made)
    else:
        answer.set_result(made)
