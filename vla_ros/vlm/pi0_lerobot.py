"""pi0 as LeRobot saves it: what its config.json and processors say, in the words of `transformers`.

The tensors have other names there, which `transformers` knows. Images are brought to size by another rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch.nn import functional as F
from transformers import PI0Config

from vla_ros.errors import CheckpointError, UnknownNameError
from vla_ros.lerobot.checkpoint import BEFORE, CONFIG, read_features, read_json, steps
from vla_ros.untrusted import stored

NORMALISER, STATE, ACTION = "normalizer_processor", "observation.state", "action"
WANTED = {"VISUAL": "IDENTITY", "STATE": "MEAN_STD", "ACTION": "MEAN_STD"}
TOLD = ("chunk_size", "max_state_dim", "max_action_dim", "num_inference_steps", "min_period", "max_period")
HEADS = {"num_attention_heads": 8, "num_key_value_heads": 1, "head_dim": 256, "num_hidden_layers": 18}
VARIANTS = {"gemma_2b": HEADS | {"hidden_size": 2048, "intermediate_size": 16384},
            "gemma_300m": HEADS | {"hidden_size": 1024, "intermediate_size": 4096}}
VISION = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16,
          "patch_size": 14}
WORDS = 257152  # of the vocabulary


@dataclass(frozen=True)
class Layout:
    """config: of the model; scales: means and deviations, as processor_config.json of `transformers` has them; images:
    the names of those that it reads, in its order."""

    config: PI0Config
    scales: dict[str, list[float]]
    images: tuple[str, ...]


def read(folder: Path) -> Layout:
    """Raises CheckpointError or UnknownNameError for what cannot be meant."""
    features, content = read_features(folder), read_json(folder, CONFIG)
    if content.get("use_relative_actions"):
        raise CheckpointError(f"{folder}: actions relative to the state are not known here")
    text, expert = (variant(content, key) for key in ("paligemma_variant", "action_expert_variant"))
    size = content.get("image_resolution", [224, 224])
    if not isinstance(size, list) or len(set(size)) != 1:
        raise CheckpointError(f"{folder}: image_resolution must be square, is {size!r}")
    try:
        config = PI0Config(
            vlm_config={"model_type": "paligemma", "image_token_id": WORDS, "hidden_size": text["hidden_size"],
                        "projection_dim": text["hidden_size"],
                        "text_config": text | {"model_type": "gemma", "vocab_size": WORDS},
                        "vision_config": VISION | {"model_type": "siglip_vision_model", "image_size": size[0],
                                                   "projection_dim": text["hidden_size"], "vision_use_head": False}},
            dit_config=expert | {"model_type": "gemma"}, **{key: content[key] for key in TOLD if key in content})
    except Exception as error:  # whatever transformers raises for numbers that are none of a model
        raise CheckpointError(f"{folder}: {CONFIG} describes no model: {str(error)[:120]}") from error
    return Layout(config, statistics(folder), tuple(features.images))


def variant(content: Mapping[str, Any], key: str) -> dict[str, int]:
    name = content.get(key)
    if name not in VARIANTS:
        raise UnknownNameError(f"{key} in {CONFIG}", str(name), VARIANTS)
    return VARIANTS[name]


def statistics(folder: Path) -> dict[str, list[float]]:
    """Those by which its own processors normalise. Raises CheckpointError for other rules than WANTED."""
    found = [step for step in steps(folder, BEFORE) if step["registry_name"] == NORMALISER]
    if len(found) != 1 or "state_file" not in found[0]:
        raise CheckpointError(f"{folder / BEFORE} must have one {NORMALISER} with its statistics")
    rules = found[0].get("config", {}).get("norm_map", {})
    if rules != WANTED:
        raise CheckpointError(f"{folder / BEFORE}: norm_map must be {WANTED}, is {rules!r}")
    file = folder / found[0]["state_file"]
    if not file.is_file():
        raise CheckpointError(f"checkpoint {folder} lacks {file.name}, which {BEFORE} names")
    held, scales = stored([file]), {}
    with safe_open(file, framework="np") as opened:
        for name, key in (("state", STATE), ("actions", ACTION)):
            for part in ("mean", "std"):
                if f"{key}.{part}" not in held:
                    raise CheckpointError(f"{file} lacks {key}.{part}: without it the model's {name} has no units")
                scales[f"{name}_{part}"] = opened.get_tensor(f"{key}.{part}").astype(float).ravel().tolist()
    return scales


def fitted(image: np.ndarray, size: int) -> torch.Tensor:
    """uint8 (H, W, 3) -> (3, size, size) in [-1, 1]: as large as it fits, black around it, as LeRobot and openpi do."""
    whole = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None] / 255
    ratio = max(image.shape[1], image.shape[0]) / size
    height, width = (int(side / ratio) for side in image.shape[:2])
    if (height, width) != image.shape[:2]:
        whole = F.interpolate(whole, (height, width), mode="bilinear", align_corners=False)
    above, beside = (size - height) // 2, (size - width) // 2
    return F.pad(whole[0], (beside, size - width - beside, above, size - height - above)) * 2 - 1
