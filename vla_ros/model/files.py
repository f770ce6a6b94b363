"""Checkpoints as folders: config.json, model.safetensors, tokenizer. No pickle, no remote code."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError
from transformers import PreTrainedTokenizerFast
from transformers.utils import logging

from vla_ros.errors import CheckpointError
from vla_ros.model.configuration import VlaConfig
from vla_ros.model.modeling import VlaModel

logging.disable_progress_bar()
logging.set_verbosity_error()  # a checkpoint that does not fit is one error here, with the same names
NEEDED = ("config.json", "model.safetensors", "tokenizer.json")


def save_checkpoint(folder: Path, model: VlaModel, tokenizer: PreTrainedTokenizerFast) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def open_checkpoint(folder: Path) -> tuple[VlaModel, PreTrainedTokenizerFast]:
    """Raises CheckpointError naming what is missing or damaged; a tensor missing or too many is an error too."""
    if not folder.is_dir():
        raise CheckpointError(f"no checkpoint folder {folder}; expected one with {', '.join(NEEDED)}")
    missing = [name for name in NEEDED if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(f"checkpoint {folder} lacks {', '.join(missing)}")
    try:
        kind = json.loads((folder / "config.json").read_text()).get("model_type")
    except ValueError as error:
        raise CheckpointError(f"checkpoint {folder}: config.json is not JSON: {error}") from error
    if kind != VlaConfig.model_type:
        raise CheckpointError(f"checkpoint {folder} is of type '{kind}', expected '{VlaConfig.model_type}'")
    try:
        model, info = VlaModel.from_pretrained(folder, output_loading_info=True, use_safetensors=True,
                                               local_files_only=True, ignore_mismatched_sizes=True)
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    except (SafetensorError, RuntimeError, TypeError, ValueError, OSError, KeyError) as error:
        raise CheckpointError(f"checkpoint {folder} is damaged: {str(error).strip().splitlines()[0]}") from error
    # transformers would fill gaps with random numbers and go on; here each gap is an error.
    wrong = {kind: sorted(map(str, info[kind])) for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")
             if info[kind]}
    if wrong:
        raise CheckpointError(f"checkpoint {folder} does not fit its config.json: "
                              + "; ".join(f"{k.replace('_', ' ')} {v[:3]} ({len(v)})" for k, v in wrong.items()))
    return model.eval(), tokenizer
