"""Calls to one server: each has a deadline, and after one that failed the next is made only after a while.

The calls run on a thread of their own, so that a server's pings are answered while nobody asks it anything.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import aiohttp

from vla_ros.errors import RemoteError

FIRST, LONGEST = 0.25, 10.0  # [s] until a server that failed is asked again: doubled with each failure
FAILURES = (aiohttp.ClientError, OSError, asyncio.TimeoutError)


class Link:
    """place: what to call the server in errors; deadline: [s] of a call, connecting included; now: steady [s]."""

    def __init__(self, place: str, deadline: float, now: Callable[[], float] = time.monotonic):
        self.place, self.deadline, self._now = place, deadline, now
        self._delay, self._next, self._why = 0.0, 0.0, ""
        self._loop, self._session = asyncio.new_event_loop(), None
        self._kept: list[Any] = []
        threading.Thread(target=self._loop.run_forever, name=f"link to {place}", daemon=True).start()
        self.close = weakref.finalize(self, stop, self._loop, self._kept)

    def call(self, make: Callable[[], Coroutine]) -> Any:
        """What make() returns, on the link's thread. Raises RemoteError when it fails, and at once while waiting."""
        rest = self._next - self._now()
        if rest > 0:
            raise RemoteError(f"{self.place} is away ({self._why}); asked again in {rest:.1f} s")
        try:
            made = asyncio.run_coroutine_threadsafe(in_time(make, self.deadline), self._loop).result()
        except FAILURES as error:
            raise self._failed(reason(error, self.deadline)) from error
        except RemoteError as error:
            raise self._failed(str(error)) from error
        self._delay = 0.0
        return made

    @property
    def session(self) -> aiohttp.ClientSession:
        """For what runs on the link's thread."""
        if self._session is None:
            trusted = ssl.create_default_context()  # made now: SSL_CERT_FILE is read then
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusted))
            self.keep(self._session)
        return self._session

    def keep(self, thing: Any) -> None:
        """Its close() is awaited when the link ends, on the link's thread."""
        self._kept.append(thing)

    def _failed(self, why: str) -> RemoteError:
        self._delay = min(2 * self._delay, LONGEST) or FIRST
        self._next, self._why = self._now() + self._delay, why
        return RemoteError(f"{self.place}: {why}")


async def in_time(make: Callable[[], Coroutine], deadline: float) -> Any:
    async with asyncio.timeout(deadline):
        return await make()


def reason(error: BaseException, deadline: float) -> str:
    """One line."""
    if isinstance(error, asyncio.TimeoutError):
        return f"no answer within {deadline:g} s"
    if isinstance(error, aiohttp.WSServerHandshakeError | aiohttp.ClientResponseError):
        return refusal(error.status, error.message)
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"its certificate is not trusted ({error.certificate_error}): SSL_CERT_FILE can name who signed it"
    if isinstance(error, aiohttp.ClientConnectorError) and (error.os_error.errno or 0) > 0:
        return os.strerror(error.os_error.errno)
    return " ".join(str(error).split()) or type(error).__name__


def refusal(status: int, words: str) -> str:
    """One line of what an HTTP server answered instead."""
    token = ": does VLA_TOKEN hold its token?" if status == 401 else ""
    return " ".join(f"it answers {status} {words}".split()) + token


def stop(loop: asyncio.AbstractEventLoop, kept: list[Any]) -> None:
    """Ends a loop and its thread; the connections are closed first."""
    async def end() -> None:
        for thing in kept:
            await thing.close()
        loop.stop()
    asyncio.run_coroutine_threadsafe(end(), loop)
