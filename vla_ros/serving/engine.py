"""One policy, and who asks it. One thread infers; every client has an episode of its own."""

from __future__ import annotations

import asyncio
import copy
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from vla_ros.chunking import check_chunk
from vla_ros.errors import ObservationError
from vla_ros.observing import Observer
from vla_ros.policy import Policy
from vla_ros.profile import RobotProfile
from vla_ros.serving.asked import Asked

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


class Engine:
    """Infers for any number of clients, in the order in which they ask."""

    def __init__(self, policy: Policy, profile: RobotProfile):
        self.policy, self.profile, self.observer = policy, profile, Observer(profile)
        sizes = [profile.cameras[name] for name in policy.cameras]
        self.largest = OVERHEAD + sum(3 * camera.width * camera.height for camera in sizes)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="inference")
        self._began: float | None = None  # [s] the inference under way
        self._asked = 0  # requests under way, the one that is inferred and those that wait

    def episode(self) -> Policy:
        """A policy that shares the model, and remembers an episode of its own: a policy keeps in itself what reset()
        makes anew, and nothing else that changes."""
        policy = copy.copy(self.policy)
        policy.reset()
        return policy

    async def answer(self, episode: Policy, request: bytes, read: Read) -> Reply:
        """To a request, as `read` reads it. Raises RemoteError, ObservationError or PolicyError."""
        self._asked += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._answer, episode, request, read)
        finally:
            self._asked -= 1

    @property
    def waiting(self) -> int:
        """Requests that wait for the one that is inferred."""
        return max(0, self._asked - 1)

    @property
    def healthy(self) -> bool:
        began = self._began
        return began is None or time.monotonic() - began < HUNG

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _answer(self, episode: Policy, request: bytes, read: Read) -> Reply:
        asked = read(request, episode.cameras, self.observer)
        if asked.reset:
            episode.reset()
        self._began = begin = time.monotonic()
        try:
            chunk = episode.infer(asked.observation)
            check_chunk(chunk, self.profile.action)
        except ObservationError:
            raise
        except Exception as error:
            logging.getLogger(__name__).exception("policy '%s'", episode.name)
            raise PolicyError(BROKEN) from error
        finally:
            self._began = None
        return Reply(asked.reply(chunk, time.monotonic() - begin), bool(chunk.refusal))
