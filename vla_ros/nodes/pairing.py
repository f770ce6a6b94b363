"""Pairs what several sources measured at about one moment, by header stamp. No ROS, no clock."""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass
from typing import Any

MEMORY = 1_000_000_000  # [ns] how long parts are kept


@dataclass(frozen=True)
class Part:
    """What one source measured. stamp: of the measurement [ns]; arrival: by the clock of the stamps [ns];
    received: the same moment by a steady clock [s], which is finer where the first one is simulated."""

    stamp: int
    item: Any
    arrival: int = 0
    received: float = 0.0


class Pairing:
    """Keeps the newest parts of each source, and finds the newest moment that every source has reached."""

    def __init__(self, sources):
        self._parts: dict[str, list[Part]] = {source: [] for source in sources}

    def add(self, source: str, part: Part) -> bool:
        """Late parts are put in order; False for one that is too late for any order. Where the clock is far behind the
        newest stamp as well, time began anew: all is forgotten."""
        parts = self._parts[source]
        if parts and part.stamp < parts[-1].stamp - MEMORY:
            if part.arrival >= parts[-1].stamp - MEMORY:
                return False
            self.clear()
        parts = self._parts[source]
        if any(known.stamp == part.stamp for known in parts):
            return True
        insort(parts, part, key=lambda p: p.stamp)
        while parts[0].stamp < parts[-1].stamp - MEMORY:
            parts.pop(0)
        return True

    def clear(self) -> None:
        for source in self._parts:
            self._parts[source] = []

    def last(self, source: str) -> Part | None:
        """The newest part of one source; None before the first."""
        parts = self._parts[source]
        return parts[-1] if parts else None

    def missing(self) -> list[str]:
        """Sources that gave nothing yet."""
        return [source for source, parts in self._parts.items() if not parts]

    def newest(self) -> dict[str, Part] | None:
        """The parts nearest to the newest moment that all sources have reached; None while one is missing.

        That moment is the newest stamp of the slowest source: a better match for it cannot arrive any more, and a
        source that stands still shows by its age.
        """
        if not self._parts or self.missing():
            return None
        pivot = min(parts[-1].stamp for parts in self._parts.values())
        return {source: min(parts, key=lambda part: (abs(part.stamp - pivot), -part.stamp))
                for source, parts in self._parts.items()}
