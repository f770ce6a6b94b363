"""The chunk scheduler: which step of which chunk holds now. Time is passed in; nothing here reads a clock."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla_ros.errors import ActionError
from vla_ros.spec import ActionSpec, require_compatible
from vla_ros.types import ActionChunk


@dataclass(frozen=True)
class Step:
    """The step in force: of which chunk, its index, and how far into it (0 to 1)."""

    chunk: ActionChunk
    index: int
    fraction: float


def check_chunk(chunk: ActionChunk, spec: ActionSpec) -> None:
    """Raises ActionError for a chunk that must not be executed on a robot of this spec."""
    require_compatible(chunk.spec, spec)
    values = np.asarray(chunk.values)
    if values.ndim != 2 or values.shape[1] != spec.dim:
        raise ActionError("shape", f"chunk of shape {values.shape}, expected (horizon, {spec.dim})")
    if not np.isfinite(values).all():
        raise ActionError("finite", "chunk holds values that are not finite")
    if not chunk.refusal and len(values) == 0:
        raise ActionError("shape", "chunk without steps and without a refusal")


class ChunkScheduler:
    """Keeps the chunk of the newest observation; its steps are dated from that observation, so late ones drop out."""

    def __init__(self, spec: ActionSpec):
        self.spec = spec
        self.chunk: ActionChunk | None = None

    def reset(self) -> None:
        self.chunk = None

    def accept(self, chunk: ActionChunk) -> None:
        """Raises ActionError for a chunk that is not executable or older than the one in force."""
        check_chunk(chunk, self.spec)
        if self.chunk is not None and chunk.stamp < self.chunk.stamp:
            raise ActionError("order", f"chunk of {chunk.stamp} ns is older than that in force, {self.chunk.stamp} ns")
        self.chunk = chunk

    def at(self, now: int) -> Step | None:
        """The step in force at `now` [ns], or None: nothing accepted, refused, run out, or not begun."""
        if self.chunk is None or self.chunk.refusal:
            return None
        elapsed = now - self.chunk.stamp
        index, rest = divmod(elapsed, self.spec.period_ns)
        if not 0 <= index < len(self.chunk.values):
            return None
        return Step(self.chunk, int(index), rest / self.spec.period_ns)
