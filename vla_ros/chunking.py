"""The chunk scheduler: which step of which chunk holds now, and what of those before it still counts.

Time is passed in, and never goes back; nothing here reads a clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

import numpy as np

from vla_ros.errors import ActionError
from vla_ros.spec import ActionSpec, require_compatible
from vla_ros.splicing import DEFAULT, Span, get_splice
from vla_ros.types import ActionChunk


@dataclass(frozen=True)
class Step:
    """The step in force: of which chunk, its index, and how far into it (0 to 1).

    share: of what is commanded, 0 to 1. older: steps of the chunks before that have the rest, oldest first.
    """

    chunk: ActionChunk
    index: int
    fraction: float
    share: float = 1.0
    older: tuple[Step, ...] = ()

    @property
    def parts(self) -> tuple[Step, ...]:
        """All that is mixed, oldest first; their shares add up to 1."""
        return *self.older, self


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


@dataclass
class Run:
    """A chunk that was accepted. since: [ns] when a step of it was in force first, None: none yet."""

    chunk: ActionChunk
    since: int | None = None

    def step(self, now: int) -> Step | None:
        """The step of `now` [ns], or None: a refusal, run out, or not begun."""
        if self.chunk.refusal:
            return None
        index, rest = divmod(now - self.chunk.stamp, self.chunk.spec.period_ns)
        if not 0 <= index < len(self.chunk.values):
            return None
        return Step(self.chunk, int(index), rest / self.chunk.spec.period_ns)

    @property
    def span(self) -> Span:
        return Span(self.since, self.chunk.stamp + len(self.chunk.values) * self.chunk.spec.period_ns)


class ChunkScheduler:
    """The chunk of the newest observation rules; its steps are dated from that observation, so late ones drop out.

    splice: how it takes over from those before, by name (splicing.py). They count only while it has a step in force
    and they had one when it came: the end of the newest chunk is a hold, and nothing is mixed across a hold, a refusal
    or a reset.
    """

    def __init__(self, spec: ActionSpec, splice: str = DEFAULT):
        self.spec, self._splice = spec, get_splice(splice)
        self.reset()

    def reset(self) -> None:
        self._runs: list[Run] = []  # oldest first

    @property
    def chunk(self) -> ActionChunk | None:
        """The newest, whether or not it has a step in force."""
        return self._runs[-1].chunk if self._runs else None

    def accept(self, chunk: ActionChunk) -> None:
        """Raises ActionError for a chunk that is not executable or older than the one in force."""
        check_chunk(chunk, self.spec)
        if self.chunk is not None and chunk.stamp < self.chunk.stamp:
            raise ActionError("order", f"chunk of {chunk.stamp} ns is older than that in force, {self.chunk.stamp} ns")
        running = [] if chunk.refusal else [run for run in self._runs if run.since is not None]
        self._runs = [*running, Run(chunk)]

    def at(self, now: int) -> Step | None:
        """The step in force at `now` [ns], or None: nothing accepted, refused, run out, or not begun."""
        if not self._runs:
            return None
        newest = self._runs[-1]
        if newest.step(now) is None:
            self._runs = [newest]
            return None
        if newest.since is None:
            newest.since = now
        running = takewhile(lambda run: run.step(now) is not None, reversed(self._runs))
        self._runs = list(running)[::-1]  # none that is older than one that has ended: it does not come back
        return self._mixed(self._runs, now)

    def without_newest(self, now: int) -> Step | None:
        """The step that at(now), asked before, would have given, had the newest chunk not come."""
        return self._mixed(self._runs[:-1], now)

    def later(self, now: int, length: int) -> list[tuple[int, Step]]:
        """What is to be in force at the ends [ns] of the steps to come, until one ends `length` or more after `now`,
        should no newer chunk come. at(now) was asked before."""
        *older, newest = self._runs
        step, found = newest.step(now), []
        for index in range(step.index, len(newest.chunk.values)):
            moment = newest.chunk.stamp + (index + 1) * self.spec.period_ns
            running = list(takewhile(lambda run, t=moment: run.step(t) is not None, reversed(older)))[::-1]
            shares = self._splice([run.span for run in (*running, newest)], moment, self.spec.period_ns)
            parts = [replace(run.step(moment), share=share) for run, share in zip(running, shares, strict=False)]
            parts = tuple(part for part in parts if part.share > 0)
            found.append((moment, Step(newest.chunk, index, 1.0, shares[-1], parts)))
            if moment - now >= length:
                break
        return found

    def _mixed(self, runs: Sequence[Run], now: int) -> Step | None:
        """runs: those with a step in force."""
        if not runs:
            return None
        shares = self._splice([run.span for run in runs], now, self.spec.period_ns)
        steps = [replace(run.step(now), share=share) for run, share in zip(runs, shares, strict=True)]
        return replace(steps[-1], older=tuple(step for step in steps[:-1] if step.share > 0))
