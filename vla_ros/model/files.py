"""Checkpoints as folders: config.json, model.safetensors, tokenizer. No pickle, no remote code."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast
from transformers.utils import logging

from vla_ros.errors import CheckpointError
from vla_ros.model.configuration import VlaConfig
from vla_ros.model.modeling import VlaModel
from vla_ros.untrusted import (
    first_line,
    lacking_weights,
    read_json,
    require_described,
    require_finite,
    require_modest,
    require_words,
    stored,
    vet,
)

logging.disable_progress_bar()
logging.set_verbosity_error()  # a checkpoint that does not fit is one error here, with the same names
MOST = {"text_length": 512, "answer_length": 512, "image_size": 2048, "patch_size": 2048}
NEEDED = ("config.json", "model.safetensors", "tokenizer.json")


def save_checkpoint(folder: Path, model: VlaModel, tokenizer: PreTrainedTokenizerFast) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def open_checkpoint(folder: Path) -> tuple[VlaModel, PreTrainedTokenizerFast]:
    """Raises CheckpointError naming what is missing or damaged; a tensor missing or too many is an error too."""
    if not folder.is_dir():
        raise CheckpointError(f"no checkpoint folder {folder}; expected one with {', '.join(NEEDED)}")
    vet(folder)
    missing = [name for name in NEEDED if not (folder / name).is_file()]
    if missing:
        raise lacking_weights(folder, ", ".join(missing))
    config, where = read_config(folder), f"checkpoint {folder}"
    tensors = stored([folder / "model.safetensors"])
    try:
        with torch.device("meta"):
            described = sum(parameter.numel() for parameter in VlaModel(config).parameters())
    except Exception as error:  # numbers that no tensors can have: whatever torch and transformers raise
        raise CheckpointError(f"{where}: config.json describes no model: {first_line(error)}") from error
    require_described(described, tensors, where)
    try:
        model, info = VlaModel.from_pretrained(folder, config=config, output_loading_info=True, use_safetensors=True,
                                               local_files_only=True, ignore_mismatched_sizes=True)
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # as above
        raise CheckpointError(f"{where} is damaged: {first_line(error)}") from error
    # transformers would fill gaps with random numbers and go on; here each gap is an error.
    wrong = {kind: sorted(map(str, info[kind])) for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")
             if info[kind]}
    if wrong:
        raise CheckpointError(f"checkpoint {folder} does not fit its config.json: "
                              + "; ".join(f"{k.replace('_', ' ')} {v[:3]} ({len(v)})" for k, v in wrong.items()))
    require_finite(model.named_parameters(), where)
    require_words(tokenizer.get_vocab(), config.vocab_size, where)
    return model.eval(), tokenizer


def read_config(folder: Path) -> VlaConfig:
    """Raises CheckpointError for another kind of model, and for sizes that none has."""
    content, where = read_json(folder / "config.json"), f"checkpoint {folder}"
    kind = content.get("model_type") if isinstance(content, dict) else None
    if kind != VlaConfig.model_type:
        raise CheckpointError(f"{where} is of type '{kind}', expected '{VlaConfig.model_type}'")
    require_modest(content, f"{where}: config.json")
    beyond = {key: content[key] for key, most in MOST.items() if not whole(content.get(key, 1), most)}
    if beyond:
        raise CheckpointError(f"{where}: {beyond} of config.json must be whole numbers of at most "
                              f"{ {key: MOST[key] for key in beyond} }")
    try:
        return VlaConfig.from_dict(content)
    except Exception as error:  # as above
        raise CheckpointError(f"{where}: config.json cannot be used: {first_line(error)}") from error


def whole(value, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= most
