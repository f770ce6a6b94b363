"""Low-rank adapters on a vision-language model (LoRA, Hu et al. 2021, arXiv:2106.09685), and what it learns from.

Letters: B samples, L words of the longest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model, set_peft_model_state_dict
from safetensors.torch import load_file

from vla_ros.errors import CheckpointError, ConfigError
from vla_ros.untrusted import first_line
from vla_ros.vlm.model import VisionLanguageModel

ADAPTER = "adapter_model.safetensors"  # as peft names it
UNCOUNTED = -100  # label of a word that the model is not to say
# What an input that has a number for each word says of a word of the answer; 0 where not named.
OF_ANSWERS = {"attention_mask": 1, "token_type_ids": 1}


@dataclass(frozen=True)
class Lora:
    """rank, alpha: of the update, alpha / rank * B A. modules: names of linear layers, or 'all-linear'; whole: modules
    that are trained as they are, such as lm_head. checkpointing: activations are computed again, for less memory."""

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    modules: tuple[str, ...] = ("all-linear",)
    whole: tuple[str, ...] = ()
    checkpointing: bool = False


@dataclass(frozen=True)
class Sample:
    """images uint8 (H, W, 3) in the model's order; prompt: with the instruction in it; ids: what is to be said."""

    images: Sequence[np.ndarray]
    prompt: str
    ids: Sequence[int]


def adapt(model: VisionLanguageModel, lora: Lora, seed: int) -> PeftModel:
    """The model with adapters that do nothing yet, drawn from `seed`. Raises ConfigError for modules it has not."""
    torch.manual_seed(seed)
    modules = lora.modules[0] if lora.modules == ("all-linear",) else list(lora.modules)
    try:
        adapted = get_peft_model(model.model, LoraConfig(
            r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=modules,
            modules_to_save=list(lora.whole) or None))
    except ValueError as error:
        raise ConfigError(f"no adapters on {', '.join(lora.modules)}: {first_line(error)}") from error
    if lora.checkpointing:
        model.model.gradient_checkpointing_enable({"use_reentrant": False})
        model.model.enable_input_require_grads()
    return adapted


def load_adapter(adapted: PeftModel, folder: Path) -> None:
    """Of the same settings. Raises CheckpointError where it is not."""
    unknown = set_peft_model_state_dict(adapted, load_file(folder / ADAPTER)).unexpected_keys
    if unknown:
        raise CheckpointError(f"{folder / ADAPTER} is of another model or other settings: {unknown[0]}")


def batch_of(model: VisionLanguageModel, samples: Sequence[Sample], chat: bool) -> tuple[dict, torch.Tensor]:
    """What the model reads, and labels (B, L): UNCOUNTED but for the words that are to be said.

    Raises ActionError where no prompt can be made.
    """
    read = [dict(model.read(sample.prompt, sample.images, chat)) for sample in samples]
    length = max(one["input_ids"].shape[1] + len(sample.ids) for one, sample in zip(read, samples, strict=True))
    rows: dict[str, list[torch.Tensor]] = {name: [] for name in read[0]}
    labels = torch.full((len(samples), length), UNCOUNTED)
    for i, (one, sample) in enumerate(zip(read, samples, strict=True)):
        shape, begin = one["input_ids"].shape, one["input_ids"].shape[1]
        labels[i, begin:begin + len(sample.ids)] = torch.tensor(sample.ids)
        for name, part in one.items():
            if part.shape == shape:  # a number for each word
                answer = sample.ids if name == "input_ids" else [OF_ANSWERS.get(name, 0)] * len(sample.ids)
                row = part.new_zeros((1, length))
                row[0, :begin + len(answer)] = torch.cat([part[0], part.new_tensor(answer)])
                part = row
            rows[name].append(part)
    return {name: torch.cat(parts) for name, parts in rows.items()}, labels.to(model.model.device)


def answer_loss(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean cross-entropy of the words to be said, and the share of them that are the likeliest. logits (B, L, W)."""
    counted = labels[:, 1:] != UNCOUNTED
    made, wanted = logits[:, :-1][counted].float(), labels[:, 1:][counted]
    return torch.nn.functional.cross_entropy(made, wanted), (made.argmax(-1) == wanted).float().mean()
