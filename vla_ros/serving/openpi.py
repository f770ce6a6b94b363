"""openpi's websocket: what its requests ask and how they are answered."""

from __future__ import annotations

from vla_ros.observing import Observer
from vla_ros.remote import messages
from vla_ros.remote.packing import pack, unpack
from vla_ros.serving.asked import Asked


def read(data: bytes, cameras: tuple[str, ...], observer: Observer) -> Asked:
    """Raises RemoteError or ObservationError."""
    said = unpack(data)
    observation = messages.read_request(said, cameras, observer)
    return Asked(observation, said.get(messages.RESET) is True,
                 lambda chunk, seconds: pack(messages.reply(chunk, seconds)))
