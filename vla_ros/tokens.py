"""Action tokenizers: normalised action values to bins and back. The only home of the bin arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class UniformBins:
    """`count` equal bins over [-1, 1] (RT-1, RT-2); a value becomes its bin, a bin its centre.

    encode(decode(b)) == b for every bin, and decode(encode(x)) lies within half a bin of x clipped to [-1, 1].
    """

    count: int = 256

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Bins, int64, of finite normalised values of any shape; outside [-1, 1] the outermost bin."""
        values = np.asarray(values, float)
        if not np.isfinite(values).all():
            raise ValueError("values to encode must be finite")
        return np.clip(np.floor((values + 1) / 2 * self.count), 0, self.count - 1).astype(np.int64)

    def decode(self, bins: np.ndarray) -> np.ndarray:
        """Bin centres in [-1, 1]; bins outside 0..count-1 are an error."""
        bins = np.asarray(bins)
        if bins.size and (bins.min() < 0 or bins.max() >= self.count):
            raise ValueError(f"bins must lie in 0..{self.count - 1}, are {bins.min()}..{bins.max()}")
        return (bins + 0.5) / self.count * 2 - 1


@dataclass(frozen=True)
class EdgeBins:
    """`count` equal edges over [-1, 1] (OpenVLA): a value becomes the number of edges up to it, 1..count; a bin the
    centre of the interval above its edge. There are count - 1 of them: 1.0 alone is bin `count`, and reads as the last.

    decode(encode(x)) lies within half an interval of x clipped to [-1, 1].
    """

    count: int = 256

    @property
    def edges(self) -> np.ndarray:
        return np.linspace(-1, 1, self.count)

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Bins 1..count, int64, of finite normalised values of any shape; outside [-1, 1] the outermost bin."""
        values = np.asarray(values, float)
        if not np.isfinite(values).all():
            raise ValueError("values to encode must be finite")
        return np.digitize(np.clip(values, -1, 1), self.edges).astype(np.int64)

    def decode(self, bins: np.ndarray) -> np.ndarray:
        """Centres in (-1, 1) of integer bins; beyond the first and the last interval, that interval's."""
        centres = (self.edges[:-1] + self.edges[1:]) / 2
        return centres[np.clip(np.asarray(bins) - 1, 0, self.count - 2)]
