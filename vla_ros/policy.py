"""The Policy protocol: one verb. Chunking, timing and recording wrap a policy and are policies.

Answerer and Together are others, which a policy may have: it tells what it sees, or infers for several at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from vla_ros.errors import ConfigError, ObservationError
from vla_ros.spec import ActionSpec
from vla_ros.types import ActionChunk, Answer, Observation


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
        """Forgets what it remembers of the episode: a shallow copy that was reset has an episode of its own."""
        ...


@runtime_checkable
class Answerer(Protocol):
    """Answers questions about an image."""

    def ask(self, image: np.ndarray, question: str) -> Answer:
        """image: uint8 (H, W, 3) RGB. Remembers nothing of it, and changes nothing of an episode under way.

        Raises ObservationError for an image that it cannot read.
        """
        ...


@runtime_checkable
class Together(Protocol):
    """Infers for several episodes in one pass."""

    def infer_together(self, episodes: Sequence[Policy],
                       observations: Sequence[Observation]) -> list[ActionChunk | ObservationError]:
        """episodes: shallow copies of this policy, each of them once. What each would infer, up to rounding, or the
        ObservationError that it would raise."""
        ...


def adapters_of(policy: Policy) -> tuple[str, ...]:
    """What is done to a policy's numbers before they are those of its spec, in words; none where nothing is."""
    return tuple(getattr(policy, "adapters", ()))


def goes_on_after(policy: Policy) -> int | None:
    """Steps of a chunk that a policy takes to be executed before a newer one takes over, where it goes on from that in
    force (continuing.py); None where it does not."""
    committing = getattr(policy, "committing", None)
    return committing and committing.execute_steps


def require_answerer(policy: Policy) -> Answerer:
    """The policy, when it answers questions; else raises ConfigError."""
    if not isinstance(policy, Answerer):
        raise ConfigError(f"policy '{policy.name}' answers no questions: open 'native', or a checkpoint's folder")
    return policy
