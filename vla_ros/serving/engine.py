"""One policy, and who asks it. One thread infers; every client has an episode of its own."""

from __future__ import annotations

import asyncio
import copy
import logging
import time
from concurrent.futures import ThreadPoolExecutor

from vla_ros.chunking import check_chunk
from vla_ros.errors import ObservationError
from vla_ros.observing import Observer
from vla_ros.policy import Policy
from vla_ros.profile import RobotProfile
from vla_ros.remote import messages
from vla_ros.remote.packing import pack, unpack

HUNG = 30.0  # [s] that an inference may take before the server is no longer healthy
OVERHEAD = 1 << 16  # bytes of a request beside its images
BROKEN = "the policy failed; the server's log says why"


class PolicyError(Exception):
    """What a policy raised that is no fault of the observation. Its text is for a client: it tells nothing of here."""


class Engine:
    """Infers for any number of clients, in the order in which they ask."""

    def __init__(self, policy: Policy, profile: RobotProfile):
        self.policy, self.profile, self.observer = policy, profile, Observer(profile)
        sizes = [profile.cameras[name] for name in policy.cameras]
        self.largest = OVERHEAD + sum(3 * camera.width * camera.height for camera in sizes)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="inference")
        self._began: float | None = None  # [s] the inference under way

    def episode(self) -> Policy:
        """A policy that shares the model, and remembers an episode of its own: a policy keeps in itself what reset()
        makes anew, and nothing else that changes."""
        policy = copy.copy(self.policy)
        policy.reset()
        return policy

    async def answer(self, episode: Policy, request: bytes) -> bytes:
        """The packed reply to a packed request. Raises RemoteError, ObservationError or PolicyError."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._answer, episode, request)

    @property
    def healthy(self) -> bool:
        began = self._began
        return began is None or time.monotonic() - began < HUNG

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _answer(self, episode: Policy, request: bytes) -> bytes:
        said = unpack(request)
        observation = messages.read_request(said, episode.cameras, self.observer)
        if said.get(messages.RESET) is True:
            episode.reset()
        self._began = begin = time.monotonic()
        try:
            chunk = episode.infer(observation)
            check_chunk(chunk, self.profile.action)
        except ObservationError:
            raise
        except Exception as error:
            logging.getLogger(__name__).exception("policy '%s'", episode.name)
            raise PolicyError(BROKEN) from error
        finally:
            self._began = None
        return pack(messages.reply(chunk, time.monotonic() - begin))
