"""Normalisation between units and [-1, 1], an inverse pair."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla_ros.errors import CheckpointError

SMALLEST_SPAN = 1e-6


@dataclass(frozen=True)
class QuantileNormaliser:
    """Maps [q01, q99] of each dimension to [-1, 1]. low, high: (D,) in the dimensions' units."""

    low: np.ndarray
    high: np.ndarray

    def __post_init__(self):
        low, high = np.asarray(self.low, float), np.asarray(self.high, float)
        object.__setattr__(self, "low", low)
        object.__setattr__(self, "high", high)
        if low.shape != high.shape or low.ndim != 1 or not np.isfinite([low, high]).all():
            raise CheckpointError(f"normalisation statistics must be two finite vectors of one length: {low}, {high}")
        if (high - low < SMALLEST_SPAN).any():
            flat = np.flatnonzero(high - low < SMALLEST_SPAN).tolist()
            raise CheckpointError(f"normalisation statistics are degenerate: q01 reaches q99 in dimensions {flat}")

    @classmethod
    def of(cls, values: np.ndarray) -> QuantileNormaliser:
        """From samples (N, D): the 1 % and 99 % quantiles."""
        return cls(*np.quantile(np.asarray(values, float), [0.01, 0.99], axis=0))

    def normalise(self, values: np.ndarray) -> np.ndarray:
        """(..., D) in units to [-1, 1]; beyond the quantiles it goes beyond the interval."""
        return (values - self.low) / (self.high - self.low) * 2 - 1

    def unnormalise(self, values: np.ndarray) -> np.ndarray:
        return (values + 1) / 2 * (self.high - self.low) + self.low
