"""Models of `transformers` from a folder: what it could do to this machine is ruled out first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from vla_ros.errors import CheckpointError
from vla_ros.openvla import quantised
from vla_ros.openvla.files import shards
from vla_ros.untrusted import first_line, read_json, require_described, require_finite, require_modest, stored

OWN = {"local_files_only": True, "trust_remote_code": False}
NAMED = 3  # tensors that an error names


def open_model(kind: type, make: Callable[..., PreTrainedModel], folder: Path, dtype: str, device: str,
               config: PreTrainedConfig | None = None) -> PreTrainedModel:
    """kind: has from_pretrained(); make: the model of a configuration. dtype: 'stored', what torch names, or of
    quantised.KINDS. config: None for that of the folder.

    Raises CheckpointError with what is wrong, before memory is taken for it; ConfigError as quantised.fit().
    """
    where = f"checkpoint {folder}"
    content = read_json(folder / "config.json")
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{where}: config.json is no mapping")
    require_modest(content, f"{where}: config.json")
    tensors = stored(shards(folder))
    try:
        config = config or AutoConfig.from_pretrained(folder, **OWN)
        with torch.device("meta"):
            described = sum(parameter.numel() for parameter in make(config).parameters())
    except Exception as error:  # numbers that no tensors can have: whatever torch and transformers raise
        raise CheckpointError(f"{where}: config.json describes no model: {first_line(error)}") from error
    require_described(described, tensors, where)
    try:
        model, info = kind.from_pretrained(
            folder, config=config, dtype=quantised.floats(dtype) or "auto", use_safetensors=True,
            output_loading_info=True, **OWN)
    except Exception as error:  # as above
        raise CheckpointError(f"{where} cannot be opened: {first_line(error)}") from error
    # transformers would fill gaps with random numbers and go on; here each gap is an error.
    wrong = {name: sorted(map(str, info[name])) for name in ("missing_keys", "mismatched_keys") if info[name]}
    if wrong:
        raise CheckpointError(f"{where} does not fit its config.json: " + "; ".join(
            f"{name.replace('_', ' ')} {keys[:NAMED]} ({len(keys)})" for name, keys in wrong.items()))
    require_finite(model.named_parameters(), where)
    return quantised.fit(model.eval().requires_grad_(False), dtype, device)
