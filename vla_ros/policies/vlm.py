"""VlmPolicy: any vision-language model of `transformers` whose words are actions, as a file beside it declares."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from vla_ros.errors import ConfigError
from vla_ros.observing import require_image
from vla_ros.policies.openvla import device_named, typical
from vla_ros.profile import RobotProfile
from vla_ros.tokens import UniformBins
from vla_ros.transforms import QuantileNormaliser
from vla_ros.types import ActionChunk, Observation
from vla_ros.vlm.description import Bins, Description, describe, read_options
from vla_ros.vlm.fast import Fast
from vla_ros.vlm.model import Said, VisionLanguageModel


class BinWords:
    """One word for each number of a chunk, step after step."""

    end = None

    def __init__(self, bins: Bins, horizon: int, dim: int):
        self.bins, self.shape = bins, (horizon, dim)
        self.ids = [bins.first + bins.step * i for i in range(bins.count)]
        self.most = horizon * dim

    def values(self, said: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Normalised values and token ids, both (T, D)."""
        tokens = np.array(said).reshape(self.shape)
        return UniformBins(self.bins.count).decode((tokens - self.bins.first) * self.bins.step), tokens

    def said(self, values: np.ndarray) -> list[int]:
        """What a model should say of normalised values (T, D)."""
        return (self.bins.first + self.bins.step * UniformBins(self.bins.count).encode(values)).ravel().tolist()


class FastActionWords:
    """FAST's words, as many as a chunk takes."""

    def __init__(self, fast: Fast, first: int, step: int, end: int, most: int):
        self.fast, self.first, self.step, self.end, self.most = fast, first, step, end, most
        self.ids = [first + step * i for i in range(fast.count)]

    def values(self, said: list[int]) -> tuple[np.ndarray, None]:
        """Normalised values (T, D). Raises ActionError for words that say no chunk."""
        return self.fast.decode([(token - self.first) * self.step for token in said]), None

    def said(self, values: np.ndarray) -> list[int]:
        """What a model should say of normalised values (T, D), its end included. Raises ActionError for those that
        FAST has no words for."""
        return [*(self.first + self.step * word for word in self.fast.encode(values)), self.end]


class VlmPolicy:
    """One checkpoint on one robot. Each observation is answered by itself; nothing is remembered."""

    def __init__(self, model: VisionLanguageModel, description: Description, words: BinWords | FastActionWords):
        self.name, self.model, self.description, self.words = f"vlm:{model.kind}", model, description, words
        self.spec, self.cameras = description.action, tuple(dict.fromkeys(description.images))
        self.normaliser = QuantileNormaliser(np.array(description.low), np.array(description.high))
        beyond = [i for i in (*words.ids, *([] if words.end is None else [words.end])) if not 0 <= i < model.words]
        if beyond:
            raise ConfigError(f"the file declares word {beyond[0]}, the model has {model.words}")

    @classmethod
    def load(cls, folder: Path, file: Path, profile: RobotProfile, options: str) -> VlmPolicy:
        """Raises ConfigError, UnknownNameError, CheckpointError, or ActionError where the file does not fit the robot:
        all of that before the weights are read, which takes long."""
        chosen, description = read_options(options), describe(file, profile)
        words = action_words(folder, description)
        model = VisionLanguageModel.open(folder, chosen.dtype, device_named(chosen.device))
        return cls(model, description, words)

    def reset(self) -> None:
        """There is nothing to forget."""

    def infer(self, observation: Observation) -> ActionChunk:
        begin, d = time.perf_counter(), self.description
        if not any(c.isalnum() for c in observation.instruction):
            return self._refuse(observation, "the instruction is empty")
        special = next((word for word in self.model.special if word in observation.instruction), None)
        if special:
            return self._refuse(observation, f"the instruction holds {special!r}, which is no word for a person to say")
        images = [require_image(observation, name) for name in d.images]
        inputs = self.model.read(d.prompt.format(instruction=observation.instruction), images, d.chat)
        read = time.perf_counter()
        said = self.model.say(inputs, self.words.ids, self.words.most, self.words.end)
        timings = {"preprocess": read - begin, "act": time.perf_counter() - read}
        reason = self._stray(said)
        if reason:
            return self._refuse(observation, reason, timings)
        values, tokens = self.words.values(said.ids)
        return ActionChunk(self.normaliser.unnormalise(values), self.spec, observation.stamp, tokens=tokens,
                           confidence=typical(said.chosen), timings=timings)

    def _stray(self, said: Said) -> str:
        """What the model would rather have said than an action."""
        worst = int(said.mass.argmin())
        if said.mass[worst] >= self.description.least:
            return ""
        word = self.model.word(said.likeliest[worst])
        return (f"the model says no action: {word!r} as word {worst + 1}, where those of actions have a probability of "
                f"{said.mass[worst]:.2g} together, at least {self.description.least:g} is asked")

    def _refuse(self, observation: Observation, reason: str, timings: dict | None = None) -> ActionChunk:
        return ActionChunk(np.zeros((0, self.spec.dim)), self.spec, observation.stamp, refusal=reason,
                           timings=timings or {})


def action_words(folder: Path, description: Description) -> BinWords | FastActionWords:
    """Raises CheckpointError where FAST's files are not as they should be."""
    horizon, dim, fast = description.action.horizon, description.action.dim, description.fast
    if fast is None:
        return BinWords(description.bins, horizon, dim)
    return FastActionWords(Fast.open(folder / fast.folder, horizon, dim), fast.first, fast.step, fast.end, fast.most)
