"""RestPolicy: a policy behind OpenVLA's REST protocol (http:// or https://), which a file describes."""

from __future__ import annotations

import time
from typing import Any

import aiohttp

from vla_ros.errors import ConfigError, RemoteError
from vla_ros.profile import RobotProfile
from vla_ros.remote.address import Address
from vla_ros.remote.described import Described
from vla_ros.remote.json_arrays import pack, unpack
from vla_ros.remote.link import Link, refusal
from vla_ros.types import ActionChunk, Observation

LARGEST = 1 << 20  # bytes of a reply
ERROR = "error"  # what OpenVLA's servers answer, with status 200, whatever went wrong


class RestPolicy:
    """Each observation is a POST of its own, and the server remembers none of them."""

    def __init__(self, address: Address, profile: RobotProfile):
        """Raises RemoteError where nobody answers at the address; ConfigError, UnknownNameError or ActionError."""
        self.place, self.address = address.place, address
        if not address.spec:
            raise ConfigError(f"{self.place} does not say what its actions mean: name a file that does, "
                              f"{self.place}?spec=FILE.yaml (docs/remote.md has examples)")
        self.talk = Described(address.spec, profile, "instruction")
        self.spec, self.cameras, self.checkpoint = self.talk.spec, self.talk.cameras, self.talk.checkpoint
        self.adapters = self.talk.adapters
        self.name = f"remote:{self.talk.name}"
        self.link = Link(self.place, address.deadline)
        self.link.call(self._look)

    def infer(self, observation: Observation) -> ActionChunk:
        data = pack(self.talk.request(observation, False))
        begin = time.perf_counter()
        said = self.link.call(lambda: self._exchange(data))
        try:
            return self.talk.chunk(said, observation.stamp, time.perf_counter() - begin)
        except RemoteError as error:
            raise RemoteError(f"{self.place}: {error}") from error

    def reset(self) -> None:
        """Remembers nothing."""

    async def _look(self) -> None:
        """Is it there, and has it something at this path? A GET says so, and infers nothing: POST alone is its own."""
        status, _ = await self._request("GET")
        if status == 404:
            raise RemoteError("there is nothing at this path: OpenVLA's servers have /act")
        if status in (401, 403) or status >= 500:
            raise RemoteError(refusal(status, ""))

    async def _exchange(self, data: bytes) -> Any:
        try:
            status, body = await self._request("POST", data)
        except (aiohttp.ServerDisconnectedError, ConnectionError):  # it was started again since: once more
            status, body = await self._request("POST", data)
        if status != 200:
            raise RemoteError(refusal(status, body[:200].decode(errors="replace")))
        said = unpack(body)
        if not isinstance(said, str):
            return said
        if said == ERROR:
            raise RemoteError("it answers 'error': its own log says why")
        return unpack(said)  # encoded twice: a text of JSON in JSON

    async def _request(self, method: str, data: bytes | None = None) -> tuple[int, bytes]:
        """Status and body, as far as it may be read. Elsewhere, where it may send us, nobody is told the token."""
        headers = self.address.headers() | {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        asking = self.link.session.request(method, self.address.url, data=data, headers=headers, allow_redirects=False)
        body = bytearray()
        async with asking as answer:
            async for piece in answer.content.iter_any():
                body += piece
                if len(body) > LARGEST:
                    raise RemoteError(f"its answer has more than {LARGEST} bytes")
            return answer.status, bytes(body)
