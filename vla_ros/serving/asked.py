"""A request, whatever the protocol."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vla_ros.types import ActionChunk, Observation


@dataclass(frozen=True)
class Asked:
    """reset: an episode begins; reply: the bytes of an answer, of a chunk and the seconds that its inference took."""

    observation: Observation
    reset: bool
    reply: Callable[[ActionChunk, float], bytes]
