"""WebsocketPolicy: a policy behind openpi's protocol (ws:// or wss://), as `vla serve` and openpi's servers have it."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any

import aiohttp

from vla_ros.errors import ConfigError, ObservationError, RemoteError
from vla_ros.profile import RobotProfile
from vla_ros.remote.address import Address
from vla_ros.remote.declared import Declared
from vla_ros.remote.described import Described
from vla_ros.remote.link import Link
from vla_ros.remote.packing import pack, unpack
from vla_ros.types import ActionChunk, Observation

LARGEST = 1 << 22  # bytes of a reply
HEARTBEAT = 20.0  # [s] between pings
REFUSED = re.compile(r"ObservationError (\w+): (.*)", re.DOTALL)  # an error of one observation, not of the server


class Gone(RemoteError):
    """The other side has ended the connection."""


class WebsocketPolicy:
    """One connection is one episode's memory at the server; another connection begins anew.

    A server that went away is connected to again by a later `infer`; one that then declares other actions is refused.
    """

    def __init__(self, address: Address, profile: RobotProfile, described: Described | None = None):
        """described: what the server does not say itself, else as the address's file has it.

        Raises RemoteError, or what declares the server unfit for the robot: ConfigError, ActionError.
        """
        self.place = address.place
        self.address, self.link = address, Link(address.place, address.deadline)
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._closing: set[asyncio.Task] = set()
        self._reset = True
        self._said = said = self.link.call(self._connect)
        if address.spec and isinstance(said, dict) and "action_spec" in said:
            raise ConfigError(f"{self.place} says itself what its actions mean: leave spec={address.spec} away")
        described = described or address.spec and Described(address.spec, profile, "prompt")
        self.talk = described or Declared(said, profile, self.place)
        self.spec, self.cameras, self.checkpoint = self.talk.spec, self.talk.cameras, self.talk.checkpoint
        self.adapters = getattr(self.talk, "adapters", ())
        self.name = f"remote:{self.talk.name}"

    def infer(self, observation: Observation) -> ActionChunk:
        chunk = self.ask(self.talk.request(observation, self._reset), observation.stamp)
        self._reset = False
        return chunk

    def ask(self, request: dict, stamp: int) -> ActionChunk:
        """The chunk that answers a request about the moment `stamp` [ns]. Raises RemoteError or ObservationError."""
        data = pack(request)
        begin = time.perf_counter()
        said = self.link.call(lambda: self._exchange(data))
        if isinstance(said, ObservationError):  # an answer too: the server is there
            raise said
        try:
            return self.talk.chunk(said, stamp, time.perf_counter() - begin)
        except RemoteError as error:
            raise RemoteError(f"{self.place}: {error}") from error

    def reset(self) -> None:
        self._reset = True

    async def _connect(self) -> Any:
        """Metadata of a new connection."""
        self._socket = await self.link.session.ws_connect(
            self.address.url, headers=self.address.headers(), compress=0, max_msg_size=LARGEST, heartbeat=HEARTBEAT,
            timeout=aiohttp.ClientWSTimeout(ws_close=1.0))
        try:
            return await self._receive()
        except BaseException:
            self._drop()
            raise

    async def _exchange(self, data: bytes) -> Any:
        """The reply, or the ObservationError in its place."""
        if self._socket is not None:
            try:
                return await self._ask(data)
            except (aiohttp.ClientError, ConnectionError, Gone):
                pass  # the server was started again since: a new connection may do
        self._require_same(await self._connect())
        return await self._ask(data)

    async def _ask(self, data: bytes) -> Any:
        try:
            await self._socket.send_bytes(data)
            return await self._receive()
        except BaseException:  # a deadline too: an answer that comes later must not be taken for the next one's
            self._drop()
            raise

    def _require_same(self, said: Any) -> None:
        """A server that was started again may be another one than that which was compared with the robot."""
        if said != self._said:
            self._drop()
            raise RemoteError("it came back as another policy than that which was compared with the robot: start again")

    async def _receive(self) -> Any:
        message = await self._socket.receive()
        if message.type == aiohttp.WSMsgType.BINARY:
            return unpack(message.data)
        if message.type != aiohttp.WSMsgType.TEXT:
            raise Gone("it closed the connection")
        if found := REFUSED.fullmatch(message.data):
            return ObservationError(*found.groups())
        lines = message.data.strip().splitlines() or [""]
        raise RemoteError(f"it answers: {lines[-1][:200]}")  # openpi sends a traceback

    def _drop(self) -> None:
        """Closes in the background, so that a silent server delays nobody."""
        if self._socket is not None:
            task = asyncio.ensure_future(self._socket.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        self._socket = None
