"""OpenVLA checkpoints as folders: their JSON files and safetensors. No pickle is opened, and no code of theirs runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from tokenizers import Tokenizer

from vla_ros.errors import CheckpointError
from vla_ros.openvla import quantised
from vla_ros.openvla.configuration import EMPTY_WORD, OpenVlaConfig, open_config
from vla_ros.openvla.images import ImageReader, read_images
from vla_ros.openvla.modeling import OpenVla
from vla_ros.untrusted import first_line, lacking_weights, read_json, require_finite, require_words

IMAGES, TOKENIZER = "preprocessor_config.json", "tokenizer.json"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
FLOATS = (torch.bfloat16, torch.float16, torch.float32)
NAMED = 3  # tensors that an error names


@dataclass(frozen=True)
class Checkpoint:
    model: OpenVla
    config: OpenVlaConfig
    tokenizer: Tokenizer
    images: ImageReader


def open_checkpoint(folder: Path, dtype: str = "stored", device: str = "cpu") -> Checkpoint:
    """dtype: of options.DTYPES. Raises CheckpointError, UnknownNameError or ConfigError with what is wrong."""
    config = open_config(folder)
    missing = [name for name in (IMAGES, TOKENIZER) if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(f"checkpoint {folder} lacks {', '.join(missing)}")
    images = read_images(read_json(folder / IMAGES), config.towers)
    tokenizer = read_tokenizer(folder / TOKENIZER, config)
    return Checkpoint(read_model(folder, config, dtype, device), config, tokenizer, images)


def read_tokenizer(path: Path, config: OpenVlaConfig) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception
        raise CheckpointError(f"{path} is no tokenizer: {' '.join(str(error).split())[:100]}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if tokenizer.id_to_token(EMPTY_WORD) != "▁":
        raise CheckpointError(f"{path} is not that of Llama 2: its word {EMPTY_WORD} is not the empty one")
    require_words(tokenizer.get_vocab(), config.llama["vocab_size"], str(path))
    return tokenizer


def read_model(folder: Path, config: OpenVlaConfig, dtype: str, device: str) -> OpenVla:
    try:
        model = OpenVla.empty(config)
    except Exception as error:  # numbers that no tensors can have: whatever torch or transformers raise
        raise CheckpointError(f"checkpoint {folder}: config.json describes no model: {first_line(error)}") from error
    try:
        tensors = read_tensors(shards(folder), model, "cpu" if dtype in quantised.KINDS else device)
    except (SafetensorError, OSError, RuntimeError) as error:
        raise CheckpointError(f"checkpoint {folder} is damaged: {first_line(error)}") from error
    require_finite(tensors.items(), f"checkpoint {folder}")
    kinds = {tensor.dtype for tensor in tensors.values()}
    widest = quantised.floats(dtype) or (kinds.pop() if len(kinds) == 1 else torch.float32)
    for name in tensors:  # one by one: the weights are not twice in memory
        tensors[name] = tensors[name].to(widest)
    model.load_state_dict(tensors, assign=True)
    return quantised.fit(model.complete(device).requires_grad_(False), dtype, device)


def shards(folder: Path) -> list[Path]:
    """The files that hold the weights, all of them in the folder itself."""
    if (folder / INDEX).is_file():
        index = read_json(folder / INDEX)
        places = index.get("weight_map") if isinstance(index, Mapping) else None
        if not isinstance(places, Mapping) or not places or not all(isinstance(p, str) for p in places.values()):
            raise CheckpointError(f"{folder / INDEX} has no weight_map of tensors to files")
        names = sorted(set(places.values()))
    elif (folder / WEIGHTS).is_file():
        names = [WEIGHTS]
    else:
        raise lacking_weights(folder, f"{WEIGHTS} or {INDEX}")
    foreign = [name for name in names if Path(name).name != name or Path(name).suffix != ".safetensors"]
    if foreign:
        raise CheckpointError(f"{folder / INDEX} names '{foreign[0]}'; expected .safetensors files in its folder")
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(f"checkpoint {folder} lacks {', '.join(missing)}, which its index names")
    return [folder / name for name in names]


def read_tensors(files: list[Path], model: OpenVla, device: str) -> dict[str, torch.Tensor]:
    """Those that the model has, each of them there once and in its shape; CheckpointError names what does not fit."""
    wanted = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    found, unexpected, wrong = {}, [], []
    for file in files:
        with safe_open(file, framework="pt", device=device) as stored:
            for name in stored.keys():  # noqa: SIM118 - it is no mapping
                if name not in wanted or name in found:
                    unexpected += [] if name not in wanted and model.unread(name) else [name]
                elif (shape := stored.get_slice(name).get_shape()) != wanted[name]:
                    wrong.append(f"{name} {shape} instead of {wanted[name]}")
                else:
                    found[name] = stored.get_tensor(name)
    other = [f"{name} {str(tensor.dtype).removeprefix('torch.')}" for name, tensor in found.items()
             if tensor.dtype not in FLOATS]
    misshapen = {text.split(" ", 1)[0] for text in wrong}
    missing = [name for name in wanted if name not in found and name not in misshapen]
    problems = {"missing": missing, "unexpected": unexpected, "of another shape": wrong, "not of floats": other}
    said = [f"{kind}: {', '.join(names[:NAMED])} ({len(names)})" for kind, names in problems.items() if names]
    if said:
        raise CheckpointError(f"checkpoint {files[0].parent} does not fit its config.json: {'; '.join(said)}")
    return found
