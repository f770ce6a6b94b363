"""pi0 (Black et al. 2024, arXiv:2410.24164), as `transformers` has it, from its folder: no pickle, no code of its.

What its processor does is done here: the published one needs torchvision. S state, T chunk, D action dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from tokenizers import Tokenizer
from transformers import PI0ForConditionalGeneration

from vla_ros.errors import CheckpointError
from vla_ros.untrusted import first_line, read_json, require_words
from vla_ros.vlm import flow, pi0_lerobot
from vla_ros.vlm.opening import open_model

MODEL_TYPE = "pi0"
TOKENIZER, PROCESSOR = "tokenizer.json", "processor_config.json"
BEGIN = "<bos>"
SMALL = 1e-8  # added to deviations, as the processor does
STILL, FAR = 1e-6, 5.0  # a deviation of what never changes; deviations beyond which nothing is wanted of the model


def is_of_lerobot(folder: Path) -> bool:
    content = read_json(folder / "config.json")
    return isinstance(content, Mapping) and content.get("type") == MODEL_TYPE and "model_type" not in content


@dataclass(frozen=True)
class Scale:
    """Means and deviations of a data set, both (N,); normalise() and unnormalise() are an inverse pair."""

    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def read(cls, settings: Mapping[str, Any], name: str, most: int) -> Scale:
        """Raises CheckpointError where processor_config.json has none that can be used."""
        try:
            mean, deviation = (np.array(settings[f"{name}_{part}"], float) for part in ("mean", "std"))
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{PROCESSOR} lacks {name}_mean and {name}_std, lists of numbers: without them the "
                                  f"model's {name} has no units") from error
        if mean.ndim != 1 or mean.shape != deviation.shape or not 0 < len(mean) <= most:
            raise CheckpointError(f"{PROCESSOR}: {name}_mean and {name}_std must be of one length, 1 to {most}; are "
                                  f"{mean.shape} and {deviation.shape}")
        if not np.isfinite([mean, deviation]).all() or (deviation < 0).any():
            raise CheckpointError(f"{PROCESSOR}: {name}_mean must be finite, {name}_std too and not negative")
        return cls(mean, deviation)

    def normalise(self, values: np.ndarray) -> np.ndarray:
        return (values - self.mean) / (self.deviation + SMALL)

    def unnormalise(self, values: np.ndarray) -> np.ndarray:
        return values * (self.deviation + SMALL) + self.mean


@dataclass(frozen=True)
class Before:
    """Steps to go on from. values (T, D) in the data set's units, of which `left` count and `frozen` are executed."""

    values: np.ndarray
    left: int
    frozen: int


class Pi0:
    """A model with all that its processor does."""

    def __init__(self, model: PI0ForConditionalGeneration, words: Tokenizer, state: Scale, actions: Scale,
                 images: tuple[str, ...] = ()):
        """images: their names, in the model's order, where it is LeRobot's."""
        self.model, self.words, self.state, self.actions, self.images = model, words, state, actions, images
        vision = model.config.vlm_config.vision_config
        self.size, self.patches = vision.image_size, (vision.image_size // vision.patch_size)**2

    @classmethod
    def open(cls, folder: Path, dtype: str = "stored", device: str = "cpu") -> Pi0:
        """dtype: as open_model() has it. Raises CheckpointError with what is wrong."""
        theirs = pi0_lerobot.read(folder) if is_of_lerobot(folder) else None
        missing = [name for name in (TOKENIZER, *([] if theirs else [PROCESSOR])) if not (folder / name).is_file()]
        if missing:
            hint = "; LeRobot leaves that of google/paligemma-3b-pt-224 where it is" if theirs else ""
            raise CheckpointError(f"checkpoint {folder} lacks {', '.join(missing)}{hint}")
        settings = theirs.scales if theirs else read_json(folder / PROCESSOR)
        try:
            words = Tokenizer.from_file(str(folder / TOKENIZER))
        except Exception as error:  # the library raises plain Exception
            raise CheckpointError(f"{folder / TOKENIZER} is no tokenizer: {first_line(error)}") from error
        model = open_model(PI0ForConditionalGeneration, PI0ForConditionalGeneration, folder, dtype, device,
                           theirs and theirs.config)
        require_words(words.get_vocab(), model.config.vlm_config.text_config.vocab_size, f"checkpoint {folder}")
        c = model.config
        scales = Scale.read(settings, "state", c.max_state_dim), Scale.read(settings, "actions", c.max_action_dim)
        return cls(model, words, *scales, theirs.images if theirs else ())

    @property
    def horizon(self) -> int:
        return self.model.config.chunk_size

    def ids(self, prompt: str, images: int) -> list[int]:
        """A word for each patch of each image, the beginning, the prompt, a line's end."""
        begin = self.words.token_to_id(BEGIN)
        said = self.words.encode(f"{prompt}\n", add_special_tokens=False).ids
        return [self.model.config.vlm_config.image_token_id] * (self.patches * images) + [begin, *said]

    def pixels(self, image: np.ndarray) -> torch.Tensor:
        """uint8 (H, W, 3) -> (3, size, size) in [-1, 1]: as large as it fits, black around it."""
        if self.images:
            return pi0_lerobot.fitted(image, self.size)
        whole = ImageOps.pad(Image.fromarray(image), (self.size, self.size), Image.Resampling.BICUBIC)
        return torch.from_numpy(np.array(whole)).permute(2, 0, 1) / 127.5 - 1

    @torch.no_grad()
    def act(self, prompt: str, images: Sequence[np.ndarray], state: np.ndarray, seed: int,
            before: Before | None = None) -> np.ndarray:
        """The chunk (T, D) in the data set's units, for images uint8 (H, W, 3) and a state (S,) in its units. seed: of
        the noise that the chunk is made from; before: what it goes on from."""
        asked = self.asked(prompt, images, state, seed)
        if before is None:
            made = self.model.sample_actions(**asked)
        else:
            made = flow.continued(self.model, self.wanted(before), **asked)
        return self.actions.unnormalise(made[0, :, :len(self.actions.mean)].double().cpu().numpy())

    def asked(self, prompt: str, images: Sequence[np.ndarray], state: np.ndarray, seed: int) -> dict[str, torch.Tensor]:
        """All that the model reads, as act() has it."""
        c, device, dtype = self.model.config, self.model.device, self.model.dtype
        noise = torch.randn(1, c.chunk_size, c.max_action_dim, generator=torch.Generator().manual_seed(seed))
        felt = np.zeros(c.max_state_dim, np.float32)
        felt[:len(state)] = self.state.normalise(state)
        ids = torch.tensor([self.ids(prompt, len(images))], device=device)
        return {"state": torch.from_numpy(felt)[None].to(device, dtype), "input_ids": ids,
                "attention_mask": torch.ones_like(ids), "noise": noise.to(device, dtype),
                "pixel_values": torch.stack([self.pixels(image) for image in images])[None].to(device, dtype),
                "pixel_attention_mask": torch.ones(1, len(images), dtype=torch.bool, device=device)}

    def wanted(self, before: Before) -> flow.Wanted:
        """Of the dimensions that mean nothing, and of those that never changed in the data, nothing is wanted."""
        dim, c = len(self.actions.mean), self.model.config
        changes = self.actions.deviation > STILL
        values, weights = torch.zeros(2, c.chunk_size, c.max_action_dim)
        values[:, :dim] = torch.from_numpy(self.actions.normalise(before.values).clip(-FAR, FAR) * changes)
        weights[:, :dim] = flow.weights(c.chunk_size, before.left, before.frozen)[:, None] * torch.from_numpy(changes)
        return flow.Wanted(values.to(self.model.device, self.model.dtype),
                           weights.to(self.model.device, self.model.dtype))
