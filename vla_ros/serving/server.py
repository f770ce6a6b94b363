"""The server: openpi's websocket at /, and /healthz. A client that is slow, wrong or gone disturbs nobody else."""

from __future__ import annotations

import asyncio
import hmac
import ssl
from dataclasses import dataclass

from aiohttp import WSCloseCode, WSMsgType, web

from vla_ros.errors import ConfigError, ObservationError, RemoteError
from vla_ros.remote.packing import pack
from vla_ros.serving.engine import Engine, PolicyError

HEARTBEAT = 20.0  # [s] between pings: a client that answers none for half of it is gone
WRITE = 10.0  # [s] that a client may take to read a reply
REQUEST = 15.0  # [s] that a connection may be open without a whole request
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
        self._metadata = pack(metadata)
        app = web.Application(client_max_size=engine.largest, middlewares=[self._admit])
        app.add_routes([web.get("/", self._talk), web.get("/healthz", self._health)])
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
        return len(self._open)

    async def stop(self) -> None:
        await asyncio.gather(*(socket.close(code=WSCloseCode.GOING_AWAY) for socket in self._open),
                             return_exceptions=True)  # of one that is just being opened
        await self._runner.cleanup()
        self.engine.close()

    @web.middleware
    async def _admit(self, request: web.Request, handler) -> web.StreamResponse:
        if request.path != "/healthz" and not self.door.admits(request.headers.get("Authorization", "")):
            return web.Response(status=401, text="this server asks for a token\n",
                                headers={"WWW-Authenticate": "Api-Key"})
        if "Origin" in request.headers:
            return web.Response(status=403, text="this server is for robots, not for the pages of a browser\n")
        return await handler(request)

    async def _health(self, request: web.Request) -> web.Response:
        if self.engine.healthy:
            return web.Response(text="OK\n")
        return web.Response(status=503, text="an inference does not end\n")

    async def _talk(self, request: web.Request) -> web.StreamResponse:
        if self.clients >= self.door.clients:
            return web.Response(status=503, text=f"this server has {self.clients} clients, and takes no more\n")
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
            if message.type != WSMsgType.BINARY:
                raise RemoteError("a request must be binary: msgpack")
            try:
                made = await self.engine.answer(episode, message.data)
            except ObservationError as error:
                await in_time(socket.send_str(f"ObservationError {error.reason}: {error}"))
            else:
                await in_time(socket.send_bytes(made))


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
