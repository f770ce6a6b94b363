"""Figures over the newest samples: percentiles, counts. No ROS."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import numpy as np

# The latency budget: what a stage of a chunk's timings counts as. The model's other stages are its inference; 'network'
# is what the way to a policy that runs elsewhere, and back, takes.
BUDGET = {"age": "camera age", "wait": "queue", "convert": "preprocess", "preprocess": "preprocess", "decode": "decode",
          "network": "network", "total": "total"}


class Window:
    """The newest `size` samples."""

    def __init__(self, size: int):
        self._samples: deque[float] = deque(maxlen=size)

    def add(self, sample: float) -> None:
        self._samples.append(sample)

    def __len__(self) -> int:
        return len(self._samples)

    def percentile(self, share: float) -> float:
        """share: 0 to 100; 0.0 when there is no sample yet."""
        return float(np.percentile(list(self._samples), share)) if self._samples else 0.0

    @property
    def p50(self) -> float:
        return self.percentile(50)

    @property
    def p95(self) -> float:
        return self.percentile(95)

    @property
    def p99(self) -> float:
        return self.percentile(99)

    @property
    def max(self) -> float:
        return self.percentile(100)


class Stages:
    """Windows by stage name, in the order in which the stages first came."""

    def __init__(self, size: int = 100):
        self._size = size
        self.windows: dict[str, Window] = {}

    def add(self, timings) -> None:
        """timings: [s] by stage."""
        for name, seconds in timings.items():
            self.windows.setdefault(name, Window(self._size)).add(seconds)

    def figures(self) -> dict[str, tuple[float, float]]:
        """(p50, p95) [s] by stage."""
        return {name: (window.p50, window.p95) for name, window in self.windows.items()}


def budget(timings: Mapping[str, float]) -> dict[str, float]:
    """[s] by stage of BUDGET and 'inference', from the timings of a chunk."""
    spent: dict[str, float] = {}
    for name, seconds in timings.items():
        stage = BUDGET.get(name, "inference")
        spent[stage] = spent.get(stage, 0.0) + seconds
    return spent
