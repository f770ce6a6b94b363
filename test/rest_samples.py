"""A web server in this process that answers as the test says, and a robot with the actions of OpenVLA: for tests."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from dataclasses import replace

from aiohttp import web
from core_samples import PANDA

from vla_ros.policies import open_policy
from vla_ros.spec import ARM_UNITS, ActionSpec

SEVEN = replace(PANDA, action=ActionSpec(tuple(ARM_UNITS), tuple(ARM_UNITS.values()), "panda_link0", "delta",
                                         "open_is_one", 0.2, 8))
EMPTY = b"\x80"  # a map of nothing, in msgpack
FILE = """
action:
  names: [dx, dy, dz, droll, dpitch, dyaw, gripper]
  units: [m, m, m, rad, rad, rad, "1"]
  frame: panda_link0
  mode: delta
  gripper: open_is_one
  period: 0.2
  horizon: 1
images: {image: front}
"""


class Answering:
    """Over REST at /act, and as openpi's own servers do at /.

    answer: bytes of a body, or a handler of aiohttp; a frame of the websocket. asked: (headers, body) of every request.
    said: what a websocket is told first.
    """

    def __init__(self, answer, port: int = 0, said: bytes = EMPTY):
        self.answer, self.said, self.asked = answer, said, []
        app = web.Application(client_max_size=1 << 24)
        app.add_routes([web.post("/act", self._post), web.get("/", self._talk)])
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self.port = self._run(self._start(port))

    def client(self, file, profile=SEVEN):
        """Patient: the machine may have much else to do."""
        return open_policy(f"http://127.0.0.1:{self.port}/act?spec={file}&deadline=60", profile)

    def talker(self, file, profile=SEVEN):
        return open_policy(f"ws://127.0.0.1:{self.port}?spec={file}&deadline=60", profile)

    def stop(self) -> None:
        self._run(self._runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)

    async def _start(self, port: int) -> int:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port).start()
        return self._runner.addresses[0][1]

    async def _post(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.headers, await request.read()))
        if callable(self.answer):
            return await self.answer(request)
        return web.Response(body=self.answer, content_type="application/json")

    async def _talk(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_bytes(self.said)
        async for message in socket:
            self.asked.append((request.headers, message.data))
            await socket.send_bytes(self.answer)
        return socket

    def _run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)


@contextmanager
def answering(answer, port: int = 0, said: bytes = EMPTY):
    made = Answering(answer, port, said)
    try:
        yield made
    finally:
        made.stop()
