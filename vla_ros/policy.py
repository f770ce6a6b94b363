"""The Policy protocol: one verb. Chunking, timing and recording wrap a policy and are policies."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from vla_ros.spec import ActionSpec
from vla_ros.types import ActionChunk, Observation


@runtime_checkable
class Policy(Protocol):
    """Answers observations.

    name:    for people and for status messages.
    spec:    what its numbers mean.
    cameras: the names of the images that it reads.
    """

    name: str
    spec: ActionSpec
    cameras: tuple[str, ...]

    def infer(self, observation: Observation) -> ActionChunk:
        """A chunk stamped with the observation's stamp; a chunk with `refusal` when it will not act.

        Raises ObservationError for an observation that it cannot read.
        """
        ...

    def reset(self) -> None:
        """Forgets what it remembers of the episode."""
        ...
