"""A policy by its address."""

from __future__ import annotations

from vla_ros.errors import ConfigError
from vla_ros.policy import Policy
from vla_ros.profile import RobotProfile
from vla_ros.remote.address import Address, read_address
from vla_ros.remote.described import Described

GR00T = "policies at gr00t:// need pyzmq and msgpack: pip install 'vla_ros[remote]'"
INSTALL = "remote policies need aiohttp and msgpack: pip install 'vla_ros[remote]'"


def open_remote(source: str, profile: RobotProfile) -> Policy:
    """Asks the server first what it is. Raises UnknownNameError, ConfigError, RemoteError or ActionError."""
    address = read_address(source)
    if address.gr00t:
        try:
            from vla_ros.remote.gr00t import Gr00tPolicy
        except ImportError as error:
            raise ConfigError(f"{GR00T} ({error})") from error
        return Gr00tPolicy(address, profile)
    if not address.rest:
        return websocket(address, profile)
    try:
        from vla_ros.remote.rest import RestPolicy
    except ImportError as error:
        raise ConfigError(f"{INSTALL} ({error})") from error
    return RestPolicy(address, profile)


def websocket(address: Address, profile: RobotProfile, described: Described | None = None):
    """A WebsocketPolicy. Raises as it does, and ConfigError where what it needs is not installed."""
    try:
        from vla_ros.remote.websocket import WebsocketPolicy
    except ImportError as error:
        raise ConfigError(f"{INSTALL} ({error})") from error
    return WebsocketPolicy(address, profile, described)
