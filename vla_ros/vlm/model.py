"""Any vision-language model that `transformers` has, from its folder: no pickle is opened, and no code of its runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from transformers import AutoModelForImageTextToText, GenerationConfig, LogitsProcessorList
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as KNOWN
from transformers.utils import logging

from vla_ros.errors import ActionError, CheckpointError
from vla_ros.openvla.configuration import read_json
from vla_ros.openvla.files import first_line, shards
from vla_ros.vlm.processing import OWN, open_processor

NAMED = 3  # tensors that an error names
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
        """dtype: 'stored', or as torch names it. Raises CheckpointError with what is wrong."""
        config = read_json(folder / "config.json")
        kind = config.get("model_type") if isinstance(config, Mapping) else None
        if kind not in KNOWN:
            raise CheckpointError(f"checkpoint {folder} is of type '{kind}', which transformers has no model for that "
                                  f"reads images and says words; it has {', '.join(sorted(KNOWN))}")
        shards(folder)
        try:
            model, info = AutoModelForImageTextToText.from_pretrained(
                folder, dtype="auto" if dtype == "stored" else getattr(torch, dtype), use_safetensors=True,
                output_loading_info=True, **OWN)
            processor = open_processor(folder, model.config)
        except (SafetensorError, RuntimeError, TypeError, ValueError, OSError, KeyError, ImportError,
                AttributeError) as error:
            raise CheckpointError(f"checkpoint {folder} cannot be opened: {first_line(error)}") from error
        # transformers would fill gaps with random numbers and go on; here each gap is an error.
        wrong = {name: sorted(map(str, info[name])) for name in ("missing_keys", "mismatched_keys") if info[name]}
        if wrong:
            raise CheckpointError(f"checkpoint {folder} does not fit its config.json: " + "; ".join(
                f"{name.replace('_', ' ')} {keys[:NAMED]} ({len(keys)})" for name, keys in wrong.items()))
        return cls(model.eval().requires_grad_(False).to(device), processor, kind)

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
