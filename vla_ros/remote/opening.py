"""A policy by its address."""

from __future__ import annotations

from vla_ros.errors import ConfigError
from vla_ros.policy import Policy
from vla_ros.profile import RobotProfile
from vla_ros.remote.address import read_address

INSTALL = "remote policies need aiohttp and msgpack: pip install 'vla_ros[remote]'"


def open_remote(source: str, profile: RobotProfile) -> Policy:
    """Asks the server first what it is. Raises UnknownNameError, ConfigError, RemoteError or ActionError."""
    address = read_address(source)
    try:
        from vla_ros.remote.rest import RestPolicy
        from vla_ros.remote.websocket import WebsocketPolicy
    except ImportError as error:
        raise ConfigError(f"{INSTALL} ({error})") from error
    return RestPolicy(address, profile) if address.rest else WebsocketPolicy(address, profile)
