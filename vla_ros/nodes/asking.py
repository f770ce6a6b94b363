"""Questions to the policy about what a camera sees now. No ROS.

They come on a thread of their own. The policy is kept to one thread at a time by a lock, because neither a model nor
what it remembers of an episode is made for two: a question waits for the inference under way, and the next inference
for the answer. Nothing else waits, and no instruction is needed.
"""

from __future__ import annotations

from dataclasses import dataclass

from vla_ros.errors import ConfigError, VlaError
from vla_ros.nodes.inferring import Inferring
from vla_ros.policy import require_answerer
from vla_ros.types import Answer

PATIENCE = 10.0  # [s] steady that a question waits for the policy


@dataclass(frozen=True)
class Asked:
    """An answer, and the camera and stamp [ns] of the image that it is about."""

    answer: Answer
    camera: str
    stamp: int


def ask(work: Inferring, question: str, camera: str = "", patience: float = PATIENCE) -> Asked:
    """What the policy says about the newest image of one of its cameras; empty: of its first.

    patience: [s] steady to wait for the policy. Raises a VlaError that says why there is no answer.
    """
    answerer = require_answerer(work.policy)
    if not question:
        raise ConfigError("the question is empty")
    name, image, stamp = work.image_of(camera)
    if not work.turn.acquire(timeout=patience):
        raise VlaError(f"the policy is still busy after {patience:g} s")
    try:
        answer = answerer.ask(image, question)
        if not 0 <= answer.confidence <= 1:
            raise ValueError(f"an answer of confidence {answer.confidence}")
        return Asked(answer, name, stamp)
    except VlaError:
        raise
    except Exception as error:  # whatever a policy raises: the node lives
        raise VlaError(f"{type(error).__name__}: {error}") from error
    finally:
        work.turn.release()
