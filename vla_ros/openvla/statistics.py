"""Statistics of a data set's actions, by which the model's numbers get their units back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vla_ros.errors import CheckpointError, ConfigError, UnknownNameError
from vla_ros.openvla.configuration import OpenVlaConfig
from vla_ros.untrusted import read_json

FILE = "dataset_statistics.json"  # of a fine-tuned run: counts instead of what config.json has


@dataclass(frozen=True)
class Statistics:
    """Of one data set: low, high (D,) in its units, as a rule the 1 % and 99 % quantiles; scaled (D,) bool, False for
    what was not normalised, the gripper as a rule. normalise() and unnormalise() are an inverse pair where high is
    above low. keys: what low and high are called in the file, for errors."""

    key: str
    low: np.ndarray
    high: np.ndarray
    scaled: np.ndarray
    keys: tuple[str, str] = ("q01", "q99")

    def __post_init__(self):
        low, high = self.keys
        if not self.low.ndim == self.high.ndim == self.scaled.ndim == 1 or not len(self.low):
            raise CheckpointError(f"statistics of '{self.key}': {low}, {high} and mask must be lists of numbers")
        if not len(self.low) == len(self.high) == len(self.scaled):
            raise CheckpointError(f"statistics of '{self.key}': {low} has {len(self.low)} numbers, {high} "
                                  f"{len(self.high)}, mask {len(self.scaled)}")
        if not np.isfinite([self.low, self.high]).all():
            raise CheckpointError(f"statistics of '{self.key}': {low} and {high} must be finite")
        wrong = np.flatnonzero(self.scaled & (self.high < self.low)).tolist()
        if wrong:
            raise CheckpointError(f"statistics of '{self.key}': {high} lies below {low} in dimensions {wrong}")

    @property
    def dim(self) -> int:
        return len(self.low)

    def unnormalise(self, values: np.ndarray) -> np.ndarray:
        """(..., D), [-1, 1] to the quantiles, in the data set's units."""
        return np.where(self.scaled, 0.5 * (values + 1) * (self.high - self.low) + self.low, values)

    def normalise(self, values: np.ndarray) -> np.ndarray:
        """(..., D) in the data set's units; a dimension that never changes becomes 0."""
        span = np.where(self.high > self.low, self.high - self.low, np.inf)
        return np.where(self.scaled, np.where(np.isinf(span), 0.0, 2 * (values - self.low) / span - 1), values)


def stored(folder: Path, config: OpenVlaConfig) -> Mapping[str, Any]:
    """By data set, as the checkpoint has them. Raises CheckpointError."""
    statistics = read_json(folder / FILE) if (folder / FILE).is_file() else config.statistics
    if not isinstance(statistics, Mapping):
        raise CheckpointError(f"{folder / FILE} must hold a mapping of data sets")
    return statistics


def choose(statistics: Mapping[str, Any], key: str = "", of: str = "action",
           keys: tuple[str, str] = Statistics.keys) -> Statistics:
    """Those of data set `key`, or of the only one. statistics: as `stored` gives them; of: 'action' or 'proprio'; keys:
    of what becomes -1 and 1.

    Raises UnknownNameError, ConfigError or CheckpointError, which list the keys that there are.
    """
    if not statistics:
        raise CheckpointError("the checkpoint has no norm_stats in config.json and no dataset_statistics.json beside "
                              "it: without them its actions have no units")
    if not key:
        if len(statistics) > 1:
            raise ConfigError("the checkpoint has statistics of several data sets, say whose actions are meant, as in "
                              f"FOLDER?unnorm_key=NAME; available: {', '.join(sorted(statistics))}")
        key = next(iter(statistics))
    if key not in statistics:
        raise UnknownNameError("unnorm_key", key, statistics)
    return read_statistics(key, statistics[key], of, keys)


def read_statistics(key: str, described: Any, of: str = "action",
                    keys: tuple[str, str] = Statistics.keys) -> Statistics:
    numbers = described.get(of) if isinstance(described, Mapping) else None
    missing = [name for name in keys if not isinstance(numbers, Mapping) or name not in numbers]
    if missing:
        raise CheckpointError(f"statistics of '{key}' lack {' and '.join(missing)} of {of}")
    try:
        low, high = (np.array(numbers[name], float) for name in keys)
        mask = numbers.get("mask")
        scaled = np.ones(low.shape, bool) if mask is None else np.array(mask, float).astype(bool)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"statistics of '{key}': {', '.join(keys)} and mask must be lists of numbers") from error
    return Statistics(key, low, high, scaled, keys)
