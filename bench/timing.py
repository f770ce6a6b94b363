"""What the measurements share: a stopwatch around the methods of anything, and percentiles."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping

import numpy as np


class Timed:
    """Passes everything on to `inner`; what calls of some of its methods take is filed under a stage.

    stages: stage by method; spent: seconds of every call, by stage.
    """

    def __init__(self, inner, stages: Mapping[str, str], spent: defaultdict[str, list[float]]):
        self._inner, self._stages, self._spent = inner, stages, spent

    def __getattr__(self, name: str):
        value = getattr(self._inner, name)
        if name not in self._stages:
            return value

        def timed(*args, **kwargs):
            begin = time.perf_counter()
            try:
                return value(*args, **kwargs)
            finally:
                self._spent[self._stages[name]].append(time.perf_counter() - begin)
        return timed


def figures(seconds) -> dict[str, float]:
    """n, and median and 95th percentile [s]."""
    p50, p95 = np.percentile(seconds, [50, 95])
    return {"n": len(seconds), "p50": float(p50), "p95": float(p95)}
