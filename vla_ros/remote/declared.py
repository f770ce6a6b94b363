"""What a server says of itself first, as `vla serve` does: what its actions mean and which cameras it reads."""

from __future__ import annotations

from typing import Any

from vla_ros.errors import ConfigError
from vla_ros.profile import RobotProfile
from vla_ros.remote import messages
from vla_ros.spec import require_compatible
from vla_ros.types import ActionChunk, Observation


class Declared:
    """One robot's talk with such a server."""

    def __init__(self, said: Any, profile: RobotProfile, place: str):
        """said: its metadata. Raises ConfigError or ActionError where it does not fit the robot."""
        self.spec = messages.declared_spec(said, place)
        require_compatible(self.spec, profile.action)
        self.cameras = cameras(said, profile, place)
        self.name, self.checkpoint = str(said.get("policy", place)), str(said.get("checkpoint", ""))

    def request(self, observation: Observation, reset: bool) -> dict:
        return messages.request(observation, self.cameras, reset)

    def chunk(self, said: Any, stamp: int, seconds: float) -> ActionChunk:
        return messages.read_reply(said, self.spec, stamp, seconds)


def cameras(said: dict, profile: RobotProfile, place: str) -> tuple[str, ...]:
    """Those that the server reads. Raises ConfigError where the robot has no such camera, or one of another size."""
    wanted = said.get("cameras")
    if not isinstance(wanted, dict):
        raise ConfigError(f"{place} does not say which cameras it reads")
    have = {name: [camera.height, camera.width, 3] for name, camera in profile.cameras.items()}
    for name, size in wanted.items():
        if have.get(name) != size:
            raise ConfigError(f"{place} reads camera '{name}' of {size}; robot '{profile.name}' has {have}")
    return tuple(wanted)
