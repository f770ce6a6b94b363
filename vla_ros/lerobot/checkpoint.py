"""What a checkpoint of LeRobot (0.4 and later) says of itself in JSON. Needs neither torch nor LeRobot.

The layout is that of `save_pretrained`: config.json, model.safetensors, and policy_preprocessor.json and
policy_postprocessor.json, whose steps keep their statistics in safetensors beside them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla_ros.errors import CheckpointError, UnknownNameError
from vla_ros.untrusted import lacking_weights, require_modest, stored

CONFIG, WEIGHTS = "config.json", "model.safetensors"
BEFORE, AFTER = "policy_preprocessor.json", "policy_postprocessor.json"
HORIZON = {"act": "chunk_size", "diffusion": "n_action_steps", "smolvla": "chunk_size", "pi0": "chunk_size"}  # by kind
MASKING = ("smolvla", "pi0")  # kinds that were trained to do without a camera, and scale images themselves
WORDLESS = ("act", "diffusion")  # kinds that read no instruction
VISUAL, ACTION = "VISUAL", "action"


@dataclass(frozen=True)
class Features:
    """kind: LeRobot's name of the architecture. images, states: shape of an input, by its name; dim: of an action.

    horizon: steps in a chunk; history: observations that a chunk is made from, one period apart.
    """

    kind: str
    images: dict[str, tuple[int, ...]]
    states: dict[str, tuple[int, ...]]
    dim: int
    horizon: int
    history: int

    @property
    def masking(self) -> bool:
        return self.kind in MASKING


def read_features(folder: Path) -> Features:
    """Raises CheckpointError or UnknownNameError for a folder that is none, or whose steps name code of their own."""
    config = read_json(folder, CONFIG)
    kind = config.get("type")
    if kind not in HORIZON:
        raise UnknownNameError("type of LeRobot's policies in config.json", str(kind), HORIZON)
    if config.get("use_peft"):
        raise CheckpointError(f"{folder} holds adapters only: merge them into the model, and save that")
    if not (folder / WEIGHTS).is_file():
        raise lacking_weights(folder, WEIGHTS)
    require_modest(config, str(folder / CONFIG))
    stored([folder / WEIGHTS])
    for name in (BEFORE, AFTER):
        steps(folder, name)
    inputs, outputs = features(config, "input_features"), features(config, "output_features")
    if list(outputs) != [ACTION] or len(outputs[ACTION][1]) != 1:
        raise CheckpointError(f"{folder}: output_features must be one vector '{ACTION}', are {list(outputs)}")
    images = {name: shape for name, (of, shape) in inputs.items() if of == VISUAL}
    if not images or any(len(shape) != 3 for shape in images.values()):
        raise CheckpointError(f"{folder}: input_features must have images of shape (3, H, W), have {images}")
    return Features(kind, images, {name: shape for name, (_, shape) in inputs.items() if name not in images},
                    outputs[ACTION][1][0], whole(config, HORIZON[kind]), whole(config, "n_obs_steps"))


def steps(folder: Path, name: str) -> list[dict]:
    """Those of a processor. Raises CheckpointError where one names code that LeRobot has not registered itself."""
    found = read_json(folder, name).get("steps")
    if not isinstance(found, list) or not all(isinstance(step, dict) for step in found):
        raise CheckpointError(f"{folder / name} lacks a list of steps")
    for step in found:
        if not isinstance(step.get("registry_name"), str) or "class" in step:
            raise CheckpointError(f"{folder / name}: step {str(step.get('class'))[:80]!r} is code of somebody's; "
                                  "only steps with LeRobot's own registry_name are run")
        state = step.get("state_file")
        if state is not None and (Path(str(state)).name != state or not str(state).endswith(".safetensors")):
            raise CheckpointError(f"{folder / name}: state_file {str(state)[:80]!r} must be a .safetensors beside it")
    return found


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """Raises CheckpointError."""
    try:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"cannot read {folder / name}: {error.strerror}; LeRobot before 0.4 had no processors: "
                              "its migrate_policy_normalization writes them") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{folder / name} is no JSON: {str(error)[:120]}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{folder / name} must be a map, is {type(content).__name__}")
    return content


def features(config: Mapping, key: str) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Type and shape by name."""
    try:
        found = {name: (said["type"], tuple(map(int, said["shape"]))) for name, said in config[key].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{key} of {CONFIG} must map names to type and shape") from error
    if not all(length > 0 for _, shape in found.values() for length in shape):
        raise CheckpointError(f"{key} of {CONFIG} has shapes that are not positive")
    return found


def whole(config: Mapping, key: str) -> int:
    value = config.get(key)
    if type(value) is not int or value < 1:
        raise CheckpointError(f"{key} of {CONFIG} must be a whole number above 0, is {value!r}")
    return value
