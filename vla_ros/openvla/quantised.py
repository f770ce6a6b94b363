"""Weights of 8 or of 4 bits in the place of 16: for models that a machine has no memory for otherwise.

The linear layers of the transformer blocks are stored so, nearly all of a large model; what comes in and goes out of
them, embeddings, heads and what leads from images to words stay as they are. By bitsandbytes: LLM.int8 (Dettmers et al.
2022, arXiv:2208.07339) and NF4 (Dettmers et al. 2023, arXiv:2305.14314).
"""

from __future__ import annotations

import logging
import sys
from types import ModuleType

import torch
from torch import nn

from vla_ros.errors import ConfigError

KINDS = ("int8", "nf4")
SIDE = 64  # numbers of which NF4 keeps one scale: a layer whose sides are no multiples of it stays as it is


def floats(dtype: str) -> torch.dtype | None:
    """What numbers are computed in: None for that of the stored weights, as for KINDS too."""
    return None if dtype == "stored" or dtype in KINDS else getattr(torch, dtype)


def fit(model: nn.Module, dtype: str, device: str) -> nn.Module:
    """Moves a model to a device, its layers as `dtype` says: one after the other, so that it never is there whole.

    ConfigError without bitsandbytes.
    """
    if dtype in KINDS:
        library = bitsandbytes()
        for blocks in [module for module in model.modules() if isinstance(module, nn.ModuleList)]:
            for parent in list(blocks.modules()):
                for name, layer in list(parent.named_children()):
                    if type(layer) is nn.Linear and (dtype == "int8" or not any(n % SIDE for n in layer.weight.shape)):
                        setattr(parent, name, quantised(library, layer, dtype).to(device))
    return model.to(device)


def quantised(library: ModuleType, layer: nn.Linear, kind: str) -> nn.Module:
    """The same layer; its weights are rounded when it is moved to its device."""
    shape, given = (layer.in_features, layer.out_features), {"bias": layer.bias is not None, "device": "meta"}
    weight, frozen = layer.weight.data, {"requires_grad": False}
    if kind == "int8":
        made = library.nn.Linear8bitLt(*shape, has_fp16_weights=False, **given)
        made.weight = library.nn.Int8Params(weight, has_fp16_weights=False, **frozen)
    else:
        made = library.nn.Linear4bit(*shape, compute_dtype=weight.dtype, quant_type=kind, **given)
        made.weight = library.nn.Params4bit(weight, quant_type=kind, **frozen)
    made.bias = layer.bias
    return made.train(layer.training)


def bitsandbytes() -> ModuleType:
    """The library, or ConfigError. Where a package `kernels` is installed it would bring code from a hub as soon as it
    is imported on some processors: here it finds none."""
    kept, sys.modules["kernels"] = sys.modules.get("kernels"), None  # an import of it fails
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns of each layer's numbers each time
    try:
        import bitsandbytes as library
    except ImportError as error:
        raise ConfigError("weights of 8 or 4 bits need bitsandbytes: pip install 'vla_ros[quantised]'") from error
    finally:
        sys.modules.pop("kernels")
        if kept is not None:
            sys.modules["kernels"] = kept
    return library
