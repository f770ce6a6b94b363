"""When the policy is asked, and when its answer arrives: under a paused clock and under a running one."""

from __future__ import annotations

import time
from collections.abc import Callable

from vla_ros.types import ActionChunk, Observation


class Asking:
    """One question at a time. Paused (latency None): the answer is there at once, however long it took.

    Running: it arrives the time of its inference and `latency` [s] after the observation, while the world goes on.
    Neither clock asks sooner than `every` ticks after the question that is being acted on: a newer chunk takes over
    only after that, so that an earlier answer would be thrown away, as nodes/commanding.py does.

    thinking: [s] to count for an inference, so that episodes can be repeated exactly; None counts what it took.
    """

    def __init__(self, infer: Callable[[Observation], ActionChunk], observe: Callable[[], Observation], every: int,
                 latency: float | None = None, thinking: float | None = None):
        self.infer, self.observe, self.every = infer, observe, every
        self.latency, self.thinking = latency, thinking
        self.forget()

    def forget(self) -> None:
        """Drops what is on its way; the next tick asks anew."""
        self._asked: int | None = None
        self._coming: tuple[ActionChunk, float] | None = None  # with when it arrives [ns]

    def at(self, tick: int, now: int) -> ActionChunk | None:
        """The answer that arrives at this tick, if one does. now: [ns] of the tick."""
        if self._coming is None and (self._asked is None or tick - self._asked >= self.every):
            self._asked = tick
            self._coming = self._ask(now)
        if self._coming is None or now < self._coming[1]:
            return None
        chunk, self._coming = self._coming[0], None
        return chunk

    def _ask(self, now: int) -> tuple[ActionChunk, float]:
        observation = self.observe()
        begin = time.perf_counter()
        chunk = self.infer(observation)
        if self.latency is None:
            return chunk, now
        took = time.perf_counter() - begin if self.thinking is None else self.thinking
        return chunk, now + (took + self.latency) * 1e9
