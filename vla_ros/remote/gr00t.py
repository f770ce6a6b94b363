"""Gr00tPolicy: a policy behind the server of Isaac GR00T (gr00t://HOST:PORT, ZeroMQ), which a file describes.

As gr00t/policy/server_client.py of NVIDIA/Isaac-GR00T has it: a request names an endpoint and its data; an answer is
what the endpoint returned, or {"error": words}. Letters: T steps, D numbers of a part of a step.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import zmq
import zmq.asyncio

from vla_ros.errors import ConfigError, RemoteError, UnknownNameError
from vla_ros.profile import RobotProfile
from vla_ros.remote.address import Address
from vla_ros.remote.described import Described
from vla_ros.remote.link import Link
from vla_ros.remote.npy import pack, unpack
from vla_ros.types import ActionChunk, Observation

LARGEST = 1 << 22  # bytes of a reply
WORDS = "language"  # where the instruction goes; under which key, the server says
CONFIG, MADE = "__ModalityConfig_class__", ("as_json", "as_dict")


@dataclass(frozen=True)
class Modality:
    """keys: what it has; moments: how many of each, images or states of the past or steps to come."""

    keys: tuple[str, ...]
    moments: int


class Gr00tPolicy:
    """A server answers whoever asks, one after the other, and remembers nothing that we need."""

    def __init__(self, address: Address, profile: RobotProfile):
        """Raises RemoteError where nobody answers; ConfigError, UnknownNameError or ActionError for what does not fit
        the robot, or the server."""
        self.place, self.address = address.place, address
        if not address.spec:
            raise ConfigError(f"{self.place} does not say what its actions mean: name a file that does, "
                              f"{self.place}?spec=FILE.yaml (docs/remote.md has examples)")
        self.talk = Described(address.spec, profile, WORDS)
        self.spec, self.cameras, self.checkpoint = self.talk.spec, self.talk.cameras, self.talk.checkpoint
        self.adapters, self.name = self.talk.adapters, f"remote:{self.talk.name}"
        self.link = Link(self.place, address.deadline)
        self._context: zmq.asyncio.Context | None = None
        self._socket: zmq.asyncio.Socket | None = None
        self._said = self.link.call(lambda: self._ask({"endpoint": "get_modality_config"}))
        self.modalities = modalities(self._said, self.place)
        self._require_fit()
        self._reset = True

    def infer(self, observation: Observation) -> ActionChunk:
        request = self._request(observation)
        begin = time.perf_counter()
        said = self.link.call(lambda: self._exchange(request))
        try:
            return self.talk.chunk(self._values(said), observation.stamp, time.perf_counter() - begin)
        except RemoteError as error:
            raise RemoteError(f"{self.place}: {error}") from error

    def reset(self) -> None:
        self._reset = True

    def _require_fit(self) -> None:
        d, of = self.talk.description, self.modalities
        for kind, mine in (("video", d.images), ("state", d.state)):
            for key in mine:
                if key not in of[kind].keys:
                    raise UnknownNameError(f"{kind} of {self.place}", key, of[kind].keys)
            lacking = [key for key in of[kind].keys if key not in mine]
            if lacking:
                raise ConfigError(f"{self.place} wants {kind} {', '.join(lacking)}, which {self.address.spec} lacks")
            if mine and of[kind].moments != 1:
                raise ConfigError(f"{self.place} wants {of[kind].moments} moments of each {kind}; it gets the newest")
        if d.constants:
            raise ConfigError(f"{self.address.spec}: {self.place} has no use for constants {', '.join(d.constants)}")
        if len(of["language"].keys) != 1:
            raise ConfigError(f"{self.place} reads {len(of['language'].keys)} instructions at once, not one")
        if of["action"].moments != self.talk.chain.shape[0]:
            raise ConfigError(f"{self.place} says {of['action'].moments} steps at once, {self.address.spec} "
                              f"{self.talk.chain.shape[0]}")

    def _request(self, observation: Observation) -> dict:
        """Every array has the batch and the moment before its own axes, every text is in two lists."""
        said, d = self.talk.request(observation, self._reset), self.talk.description
        return {"endpoint": "get_action", "data": {"options": None, "observation": {
            "video": {key: said[key][None, None] for key in d.images},
            "state": {key: said[key][None, None] for key in d.state},
            "language": {self.modalities["language"].keys[0]: [[said[WORDS]]]}}}}

    def _values(self, said: Any) -> np.ndarray:
        """(T, all D) of an answer's actions (1, T, D), in the server's order. Raises RemoteError."""
        actions = said[0] if isinstance(said, list) and said else said
        keys = self.modalities["action"].keys
        if not isinstance(actions, Mapping) or set(actions) != set(keys):
            raise RemoteError(f"it answers no actions {', '.join(keys)}")
        parts, steps = [np.asarray(actions[key]) for key in keys], self.modalities["action"].moments
        if any(part.ndim != 3 or part.shape[:2] != (1, steps) or part.dtype.kind not in "fiu" for part in parts):
            raise RemoteError(f"actions of shape {', '.join(str(part.shape) for part in parts)}; they must be numbers "
                              f"of one batch and {steps} steps")
        return np.concatenate([part[0].astype(np.float64) for part in parts], 1)

    # --- on the link's thread ------------------------------------------------------------------------------------

    async def _exchange(self, request: dict) -> Any:
        if self._socket is None and await self._ask({"endpoint": "get_modality_config"}) != self._said:
            self._drop()
            raise RemoteError("it came back as another policy than that which was compared with the robot: start again")
        if self._reset:
            await self._ask({"endpoint": "reset", "data": {"options": None}})
            self._reset = False
        return await self._ask(request)

    async def _ask(self, request: dict) -> Any:
        """After a failure the socket is left, and with it the answer that may come later."""
        token = {"api_token": self.address.token} if self.address.token else {}
        try:
            if self._socket is None:
                self._connect()
            await self._socket.send(pack(request | token))
            said = unpack(await self._socket.recv())
        except zmq.ZMQError as error:
            self._drop()
            raise RemoteError(f"{error}") from error
        except BaseException:
            self._drop()
            raise
        if isinstance(said, Mapping) and "error" in said:
            raise RemoteError(f"it answers: {' '.join(str(said['error']).split())[:200]}")
        return said

    def _connect(self) -> None:
        if self._context is None:
            self._context = zmq.asyncio.Context()
            self.link.keep(Ending(self._context))
        self._socket = self._context.socket(zmq.REQ)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.MAXMSGSIZE, LARGEST)
        self._socket.connect(self.address.url.replace("gr00t://", "tcp://"))

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close(linger=0)
        self._socket = None


class Ending:
    """Closes a context and its sockets when the link ends."""

    def __init__(self, context: zmq.asyncio.Context):
        self.context = context

    async def close(self) -> None:
        self.context.destroy(linger=0)


def modalities(said: Any, place: str) -> dict[str, Modality]:
    """By kind: video, state, language and action. Raises RemoteError for an answer that does not tell."""
    out = {}
    for kind in ("video", "state", "language", "action"):
        content = said.get(kind) if isinstance(said, Mapping) else None
        if isinstance(content, Mapping) and content.get(CONFIG):
            content = next((content[name] for name in MADE if name in content), None)
        keys, moments = (content.get(name) if isinstance(content, Mapping) else None
                         for name in ("modality_keys", "delta_indices"))
        if not all(isinstance(one, list) for one in (keys, moments)) or not all(isinstance(key, str) for key in keys):
            raise RemoteError(f"{place} does not say what its {kind} is: 'get_modality_config' has no modality_keys "
                              "and delta_indices for it")
        out[kind] = Modality(tuple(keys), len(moments))
    return out
