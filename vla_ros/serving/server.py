"""The server: openpi's websocket at /, OpenVLA's REST at /act, /healthz, and /metrics for Prometheus.

A client that is slow, wrong or gone disturbs nobody else.
"""

from __future__ import annotations

import asyncio
import hmac
import ssl
from dataclasses import dataclass

from aiohttp import WSCloseCode, WSMsgType, web

from vla_ros.errors import ConfigError, ObservationError, RemoteError
from vla_ros.remote.packing import pack
from vla_ros.serving import act, openpi
from vla_ros.serving.engine import Engine, PolicyError
from vla_ros.serving.metrics import TYPE, Metrics

HEARTBEAT = 20.0  # [s] between pings: a client that answers none for half of it is gone
WRITE = 10.0  # [s] that a client may take to read a reply
REQUEST = 15.0  # [s] that a connection may be open without a whole request
ENCODED = 2  # bytes of a request in JSON, at most, for one of the arrays in it: base64, and a text within a text
PROTOCOLS = {"/": "openpi", "/act": "act"}  # by path
NEEDS = "; 'joints' of a request maps the robot's joints to positions"
LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Door:
    """Who may come in. token: empty for anybody; certificate, key: PEM files, empty for no TLS; clients: at most.

    plain: the network beyond this machine is trusted, so that TLS is not needed there.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str = ""
    certificate: str = ""
    key: str = ""
    plain: bool = False
    clients: int = 32

    def __post_init__(self):
        if bool(self.certificate) != bool(self.key):
            raise ConfigError("--certificate and --key need each other")
        if self.host in LOOPBACK:
            return
        if not self.token:
            raise ConfigError(f"to serve beyond this machine, on {self.host}, set VLA_TOKEN here and at the clients")
        if not self.certificate and not self.plain:
            raise ConfigError(f"to serve beyond this machine, on {self.host}, give --certificate and --key, or --plain "
                              "where whoever can read the network may read the token")

    def tls(self) -> ssl.SSLContext | None:
        if not self.certificate:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            context.load_cert_chain(self.certificate, self.key)
        except OSError as error:  # ssl.SSLError is one
            raise ConfigError(f"cannot use {self.certificate} with {self.key}: {error}") from error
        return context

    def admits(self, header: str) -> bool:
        """header: 'Api-Key TOKEN', as openpi's client says it, or 'Bearer TOKEN'."""
        kind, _, token = header.partition(" ")
        known = hmac.compare_digest(token.encode(errors="replace"), self.token.encode())
        return not self.token or kind in ("Api-Key", "Bearer") and known


class Server:
    """metadata: what every client is told first."""

    def __init__(self, engine: Engine, metadata: dict, door: Door):
        self.engine, self.door = engine, door
        self._open: set[web.WebSocketResponse] = set()
        self._acting = 0  # requests of /act under way
        self._metadata = pack(metadata)
        self.metrics = Metrics(lambda: self.clients, lambda: engine.waiting)
        app = web.Application(client_max_size=ENCODED * engine.largest, middlewares=[self._admit])
        app.add_routes([web.get("/", self._talk), web.post("/act", self._act), web.get("/healthz", self._health),
                        web.get("/metrics", self._metrics)])
        self._runner = web.AppRunner(app, access_log=None, keepalive_timeout=REQUEST, shutdown_timeout=1.0)

    async def start(self) -> int:
        """The port that it listens on. Raises ConfigError where it cannot."""
        tls = self.door.tls()
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.door.host, self.door.port, ssl_context=tls)
        try:
            await site.start()
        except OSError as error:
            await self.stop()
            raise ConfigError(f"cannot listen on {self.door.host}:{self.door.port}: {error.strerror}") from error
        return self._runner.addresses[0][1]

    @property
    def clients(self) -> int:
        return len(self._open) + self._acting

    async def stop(self) -> None:
        await asyncio.gather(*(socket.close(code=WSCloseCode.GOING_AWAY) for socket in self._open),
                             return_exceptions=True)  # of one that is just being opened
        await self._runner.cleanup()
        self.engine.close()

    @web.middleware
    async def _admit(self, request: web.Request, handler) -> web.StreamResponse:
        away = self._turned_away(request)
        if away is None:
            return await handler(request)
        if request.path in PROTOCOLS:
            self.metrics.count(PROTOCOLS[request.path], "turned_away")
        return away

    def _turned_away(self, request: web.Request) -> web.Response | None:
        if request.path != "/healthz" and not self.door.admits(request.headers.get("Authorization", "")):
            return web.Response(status=401, text="this server asks for a token\n",
                                headers={"WWW-Authenticate": "Api-Key"})
        if "Origin" in request.headers:
            return web.Response(status=403, text="this server is for robots, not for the pages of a browser\n")
        if request.path in PROTOCOLS and self.clients >= self.door.clients:
            return web.Response(status=503, text=f"this server has {self.clients} clients, and takes no more\n")
        return None

    async def _health(self, request: web.Request) -> web.Response:
        if self.engine.healthy:
            return web.Response(text="OK\n")
        return web.Response(status=503, text="an inference does not end\n")

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=self.metrics.text(), headers={"Content-Type": TYPE})

    async def _act(self, request: web.Request) -> web.Response:
        self._acting += 1
        try:
            with self.metrics.request("act") as answered:
                async with asyncio.timeout(REQUEST):
                    data = await request.read()
                made = await self.engine.answer(self.engine.episode(), data, act.read)
                answered(made)
            return said(422 if made.refused else 200, made.data)
        except TimeoutError:
            return said(408, act.error(f"the request did not come within {REQUEST:g} s"))
        except web.HTTPRequestEntityTooLarge:
            return said(413, act.error(f"a request has at most {ENCODED * self.engine.largest} bytes"))
        except RemoteError as error:
            return said(400, act.error(str(error)))
        except ObservationError as error:
            return said(422, act.error(str(error) + (NEEDS if error.reason == "joints" else "")))
        except PolicyError as error:
            return said(500, act.error(str(error)))
        finally:
            self._acting -= 1

    async def _talk(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(compress=False, max_msg_size=self.engine.largest, heartbeat=HEARTBEAT,
                                       timeout=1.0)
        if not socket.can_prepare(request).ok:
            return web.Response(status=426, text="this is a websocket, as openpi-client speaks it\n",
                                headers={"Upgrade": "websocket"})
        self._open.add(socket)
        try:
            await socket.prepare(request)
            await in_time(socket.send_bytes(self._metadata))
            await self._answer_all(socket)
        except (RemoteError, PolicyError) as error:
            await farewell(socket, str(error))
        except (TimeoutError, ConnectionError):
            if request.transport is not None:
                request.transport.abort()
        finally:
            self._open.discard(socket)
        return socket

    async def _answer_all(self, socket: web.WebSocketResponse) -> None:
        """One request after the other, until the client ends."""
        episode = self.engine.episode()
        async for message in socket:
            if message.type == WSMsgType.ERROR:
                return  # too large, or no websocket: it is closed already
            try:
                with self.metrics.request("openpi") as answered:
                    if message.type != WSMsgType.BINARY:
                        raise RemoteError("a request must be binary: msgpack")
                    made = await self.engine.answer(episode, message.data, openpi.read)
                    answered(made)
            except ObservationError as error:
                await in_time(socket.send_str(f"ObservationError {error.reason}: {error}"))
            else:
                await in_time(socket.send_bytes(made.data))


def said(status: int, body: bytes) -> web.Response:
    return web.Response(status=status, body=body, content_type="application/json")


async def in_time(sending) -> None:
    async with asyncio.timeout(WRITE):
        await sending


async def farewell(socket: web.WebSocketResponse, why: str) -> None:
    """The reason in words, as openpi says it, and the end; of a client that is gone, nothing."""
    try:
        await in_time(socket.send_str(why))
        await in_time(socket.close(code=WSCloseCode.INTERNAL_ERROR))
    except (TimeoutError, ConnectionError):
        pass
