"""Where a remote policy is: ws://HOST:PORT, http://HOST:PORT/act or gr00t://HOST:PORT, options behind a question mark.

wss:// and https:// are the same with TLS. No heavy imports.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from vla_ros.errors import ConfigError, UnknownNameError
from vla_ros.naming import is_archive

SCHEMES = ("ws", "wss", "http", "https", "gr00t")
GR00T_PORT = 5555
DEADLINE = 2.0  # [s] of a call, where the address says nothing
OPTIONS = ("deadline", "spec")
TOKEN = "VLA_TOKEN"  # environment: what a server asks of its clients; not in the address, which is logged


@dataclass(frozen=True)
class Address:
    """url: without options; deadline: [s] of a call; token: empty for none; spec: file that says what its actions mean,
    empty where the server does."""

    url: str
    deadline: float
    token: str
    spec: str = ""

    @property
    def place(self) -> str:
        return self.url

    @property
    def rest(self) -> bool:
        """Speaks OpenVLA's REST, not openpi's websockets."""
        return self.url.startswith("http")

    @property
    def gr00t(self) -> bool:
        """Speaks GR00T's ZeroMQ."""
        return self.url.startswith("gr00t:")

    def headers(self) -> dict[str, str]:
        kind = "Bearer" if self.rest else "Api-Key"
        return {"Authorization": f"{kind} {self.token}"} if self.token else {}


def is_address(source: str) -> bool:
    """Of a server; the URL of an archive is none."""
    return "://" in source and not is_archive(source)


def read_address(source: str) -> Address:
    """Raises UnknownNameError or ConfigError for an address that cannot be one."""
    try:
        parts = urlsplit(source)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"'{source}' is no address: {error}; for example ws://gpu-box:8000") from error
    if parts.scheme not in SCHEMES:
        raise UnknownNameError("protocol", parts.scheme, SCHEMES)
    if not parts.hostname or port == 0 or parts.username or parts.password:
        raise ConfigError(f"'{source}' must name a host and a port, and no user: for example ws://gpu-box:8000")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name in options:
        if name not in OPTIONS:
            raise UnknownNameError(f"option of {parts.scheme}://", name, OPTIONS)
    if parts.scheme == "gr00t":
        if parts.path.strip("/"):
            raise ConfigError(f"'{source}' has a path, and GR00T's server has none: for example gr00t://gpu-box:5555")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        parts = parts._replace(netloc=f"{host}:{port or GR00T_PORT}", path="")
    url = parts._replace(query="", fragment="").geturl()
    return Address(url, seconds(options.get("deadline", str(DEADLINE))), os.environ.get(TOKEN, ""),
                   options.get("spec", ""))


def seconds(text: str, name: str = "deadline") -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= 600:
        raise ConfigError(f"{name} '{text}' must be seconds, above 0 and at most 600")
    return value
