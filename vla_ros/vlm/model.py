"""Any vision-language model that `transformers` has, from its folder: no pickle is opened, and no code of its runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, GenerationConfig, LogitsProcessorList
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as KNOWN
from transformers.utils import logging

from vla_ros.errors import ActionError, CheckpointError
from vla_ros.untrusted import first_line, read_json, require_sides, require_words
from vla_ros.vlm.opening import open_model
from vla_ros.vlm.processing import open_processor

logging.disable_progress_bar()  # a bar for every few megabytes would hide what matters


class Heed:
    """Of each word in turn, only those for actions are considered; notes how probable they all were (mass), how
    probable the chosen one (chosen), and which word was likeliest of all (likeliest)."""

    def __init__(self, ids: Sequence[int], device: torch.device):
        self.ids = torch.tensor(sorted(ids), device=device)
        self.mass: list[float] = []
        self.chosen: list[float] = []
        self.likeliest: list[int] = []

    def __call__(self, _, scores: torch.Tensor) -> torch.Tensor:
        odds = scores.float().softmax(-1)[0]
        actions = odds[self.ids]
        self.mass.append(float(actions.sum()))
        self.chosen.append(float(actions.max()))
        self.likeliest.append(int(odds.argmax()))
        kept = torch.full_like(scores, float("-inf"))
        kept[:, self.ids] = scores[:, self.ids]
        return kept


@dataclass(frozen=True)
class Said:
    """What the model says: ids of action words, without the one that ends them; and of each the figures of Heed."""

    ids: list[int]
    mass: np.ndarray
    chosen: np.ndarray
    likeliest: list[int]


class VisionLanguageModel:
    """A model with its processor."""

    def __init__(self, model, processor, kind: str):
        self.model, self.processor, self.kind = model, processor, kind

    @classmethod
    def open(cls, folder: Path, dtype: str = "stored", device: str = "cpu") -> VisionLanguageModel:
        """dtype: as open_model() has it. Raises CheckpointError with what is wrong."""
        config = read_json(folder / "config.json")
        kind = config.get("model_type") if isinstance(config, Mapping) else None
        if kind not in KNOWN:
            raise CheckpointError(f"checkpoint {folder} is of type '{kind}', which transformers has no model for that "
                                  f"reads images and says words; it has {', '.join(sorted(KNOWN))}")
        require_sides(folder, kind)
        model = open_model(AutoModelForImageTextToText, AutoModelForImageTextToText.from_config, folder, dtype, device)
        try:
            processor = open_processor(folder, model.config)
        except Exception as error:  # whatever a processor raises for files that are not its own
            raise CheckpointError(f"checkpoint {folder} cannot be opened: {first_line(error)}") from error
        require_words(processor.tokenizer.get_vocab(), model.get_input_embeddings().weight.shape[0],
                      f"checkpoint {folder}")
        return cls(model, processor, kind)

    @property
    def words(self) -> int:
        """How many words the model can say."""
        return self.model.get_output_embeddings().weight.shape[0]

    @cached_property
    def special(self) -> tuple[str, ...]:
        """Words that stand for images, turns of a talk and the like, and are no person's to say."""
        return tuple(word.content for word in self.processor.tokenizer.added_tokens_decoder.values() if word.special)

    def word(self, token: int) -> str:
        return self.processor.tokenizer.convert_ids_to_tokens(token) or f"word {token}"

    def read(self, text: str, images: Sequence[np.ndarray], chat: bool):
        """What the model reads of a prompt and of images uint8 (H, W, 3): tensors by name.

        Raises ActionError where the processor cannot make it, as of a prompt that lacks the word for an image.
        """
        pictures = [Image.fromarray(image) for image in images]
        try:
            if chat:
                content = [*({"type": "image"} for _ in pictures), {"type": "text", "text": text}]
                text = self.processor.apply_chat_template([{"role": "user", "content": content}],
                                                          add_generation_prompt=True)
            made = self.processor(text=text, images=pictures, return_tensors="pt")
        except ValueError as error:
            raise ActionError("prompt", f"no prompt can be made of {text!r} and {len(pictures)} images: "
                                        f"{first_line(error)}") from error
        return made.to(self.model.device, self.model.dtype)

    @torch.inference_mode()
    def say(self, inputs, ids: Sequence[int], most: int, end: int | None) -> Said:
        """The likeliest of the words `ids`, one after the other: `most`, or fewer where the word `end` is said."""
        heed = Heed([*ids, *([] if end is None else [end])], self.model.device)
        settings = GenerationConfig(max_new_tokens=most, do_sample=False, eos_token_id=end, pad_token_id=0)
        out = self.model.generate(**inputs, generation_config=settings, logits_processor=LogitsProcessorList([heed]))
        said = out[0, inputs["input_ids"].shape[1]:].tolist()
        if end is not None and said[-1:] == [end]:
            said = said[:-1]
        return Said(said, np.array(heed.mass), np.array(heed.chosen), heed.likeliest)
