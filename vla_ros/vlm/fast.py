"""FAST: chunks of actions to words and back (Pertsch et al. 2025, arXiv:2501.09747).

Each dimension's course over the chunk becomes cosine coefficients, which are scaled, rounded, laid out time after time
and merged by byte-pair encoding. The files are those of the published tokenizer; its code is neither needed nor run.

Letters: T horizon, D action dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.fft import dct, idct
from tokenizers import Tokenizer

from vla_ros.errors import ActionError, CheckpointError
from vla_ros.untrusted import read_json

TOKENIZER, SETTINGS = "tokenizer.json", "processor_config.json"
LARGEST = 10.0  # of a normalised value: quantiles lie at 1, and nothing that a robot did lies this far out


class Fast:
    """One tokenizer for chunks (T, D) of normalised values."""

    def __init__(self, words: Tokenizer, scale: float, smallest: int, horizon: int, dim: int):
        self.words, self.scale, self.smallest, self.horizon, self.dim = words, scale, smallest, horizon, dim

    @classmethod
    def open(cls, folder: Path, horizon: int, dim: int) -> Fast:
        """A folder with tokenizer.json and processor_config.json, for chunks of one size. Raises CheckpointError."""
        missing = [name for name in (TOKENIZER, SETTINGS) if not (folder / name).is_file()]
        if missing:
            raise CheckpointError(f"FAST tokenizer {folder} lacks {', '.join(missing)}")
        settings = read_json(folder / SETTINGS)
        scale, smallest = (settings.get(name) if isinstance(settings, Mapping) else None
                           for name in ("scale", "min_token"))
        if not number(scale) or scale <= 0 or not number(smallest) or smallest != int(smallest):
            raise CheckpointError(f"{folder / SETTINGS} must hold 'scale' above 0 and the whole number 'min_token', "
                                  f"has {scale!r} and {smallest!r}")
        for name, meant in (("time_horizon", horizon), ("action_dim", dim)):
            if settings.get(name) not in (None, meant):
                raise CheckpointError(f"{folder / SETTINGS} is for {name} {settings[name]}, the actions have {meant}")
        try:
            words = Tokenizer.from_file(str(folder / TOKENIZER))
        except Exception as error:  # the library raises plain Exception
            said = " ".join(str(error).split())[:100]
            raise CheckpointError(f"{folder / TOKENIZER} is no tokenizer: {said}") from error
        return cls(words, float(scale), int(smallest), horizon, dim)

    @property
    def count(self) -> int:
        """Words that there are."""
        return self.words.get_vocab_size()

    def encode(self, values: np.ndarray) -> list[int]:
        """Ids of finite normalised values (T, D). Raises ActionError for a chunk that the words cannot say."""
        values = np.asarray(values, float)
        if values.shape != (self.horizon, self.dim) or not np.isfinite(values).all():
            raise ActionError("tokens", f"a chunk of shape {values.shape} must be finite and of shape "
                                        f"({self.horizon}, {self.dim})")
        marks = np.around(dct(values, axis=0, norm="ortho") * self.scale).astype(int).ravel() - self.smallest
        text = "".join(map(chr, np.maximum(marks, 0)))
        ids = self.words.encode(text).ids
        if marks.min() < 0 or self.words.decode(ids, skip_special_tokens=False) != text:
            raise ActionError("tokens", "the tokenizer has no words for coefficients from "
                                        f"{marks.min() + self.smallest} to {marks.max() + self.smallest}")
        return ids

    def decode(self, ids: Sequence[int]) -> np.ndarray:
        """Values (T, D) of ids; what says no chunk is an ActionError, where the published code goes on with zeros."""
        strange = [i for i in ids if not 0 <= i < self.count]
        if strange:
            raise ActionError("tokens", f"{strange[0]} is no word of FAST, which has {self.count}")
        text = self.words.decode(list(ids), skip_special_tokens=False)
        if "\ufffd" in text:  # bytes that are no letter, which would be read as an enormous coefficient
            raise ActionError("tokens", "the words of the action end within a letter")
        if len(text) != self.horizon * self.dim:
            raise ActionError("tokens", f"the words of the action are {len(text)} coefficients, expected "
                                        f"{self.horizon} x {self.dim}")
        marks = np.array([ord(letter) for letter in text]).reshape(self.horizon, self.dim) + self.smallest
        values = idct(marks / self.scale, axis=0, norm="ortho")
        largest = np.abs(values).max()
        if largest > LARGEST:
            raise ActionError("tokens", f"the words of the action say {largest:.3g}, where quantiles lie at 1")
        return values


def number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and np.isfinite(value)
