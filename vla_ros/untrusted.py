"""What must hold of a checkpoint's folder before a library reads it: whoever made it may mean harm. Needs no torch.

Pickles and code of a checkpoint are never opened, by none of the loaders. What is left is refused here: links and names
that lead elsewhere, files and sizes beyond all that there is, weights that are no numbers.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from vla_ros.errors import CheckpointError
from vla_ros.naming import about_pickles

ADAPTER = "adapter_config.json"  # of peft
LARGEST_TEXT = 1 << 28  # [bytes] of a file that is no weights: the tokenizers of today have 1 << 25
TEXTS = (".json", ".jinja", ".model", ".txt", ".yaml")
MOST = 4096  # layers, heads, experts, steps: what is made one by one, before any size could be compared
COUNTS = re.compile(r"(^|_)(num|n)_|(layers|depths?|experts|blocks|steps|stages|loops)$")
OF_TRAINING = ("scheduler_", "optimizer_")  # what only its training counted: LeRobot keeps that beside a policy's sizes
LARGEST_SIDE, MOST_PIXELS = 1 << 14, 1 << 26  # [px] that an image is ever brought to
SIDES = ("height", "width", "longest_edge", "shortest_edge", "max_pixels", "min_pixels")
IN_PIXELS = ("qwen", "glm", "max_pixels", "min_pixels")  # kinds and keys that count pixels where others measure a side
FOREIGN_CODE = re.compile(r"attn_implementation|experts_implementation|kernel_config")
FLOATS = ("F64", "F32", "F16", "BF16")
COUNTERS = ("position_ids", "num_batches_tracked", "inv_freq")  # that old checkpoints store beside their weights
NAMED = 3  # tensors that an error names


@dataclass(frozen=True)
class Stored:
    """A tensor as the header of its file describes it; dtype as safetensors names it."""

    dtype: str
    shape: tuple[int, ...]


def vet(folder: Path) -> None:
    """Before anything in a folder is read; does nothing where there is none. Raises CheckpointError."""
    if not folder.is_dir():
        return
    if (folder / ADAPTER).is_file():  # transformers would look for the other one, by whatever name it has there
        raise CheckpointError(f"checkpoint {folder} is an adapter ({ADAPTER}) to another: merge the two first")
    root = home(folder)
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            raise CheckpointError(f"checkpoint {folder}: {path.relative_to(folder)} is a link that leads out of it; "
                                  "copy the file itself")
        if path.suffix in TEXTS and path.is_file() and path.stat().st_size > LARGEST_TEXT:
            raise CheckpointError(f"checkpoint {folder}: {path.relative_to(folder)} has {path.stat().st_size} bytes, "
                                  f"at most {LARGEST_TEXT} are read")


def home(folder: Path) -> Path:
    """What the links of a checkpoint may lead to: its own folder; in a hub's cache also the store beside it."""
    folder = folder.resolve()
    if folder.parent.name == "snapshots" and (folder.parent.parent / "blobs").is_dir():
        return folder.parent.parent
    return folder


def read_json(path: Path) -> Any:
    """Raises CheckpointError for what cannot be read or is no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from error


def require_modest(config: Any, where: str) -> None:
    """Of the content of a config.json. Raises CheckpointError for one that would keep a machine busy for ever, or that
    names a program to be brought from elsewhere."""
    for key, value in leaves(config):
        counts = COUNTS.search(key) and not key.startswith(OF_TRAINING)
        if isinstance(value, int | float) and counts and not -MOST <= value <= MOST:
            raise CheckpointError(f"{where}: {key} is {value}, at most {MOST} can be")
        if isinstance(value, str) and FOREIGN_CODE.search(key) and "/" in value:
            raise CheckpointError(f"{where}: {key} names '{value}', a program from elsewhere, which is never run")


def require_sides(folder: Path, kind: str) -> None:
    """Of the sizes that images are brought to. kind: of the model. Raises CheckpointError."""
    for file in sorted(folder.glob("*processor_config.json")):
        for key, value in leaves(read_json(file)):
            most = MOST_PIXELS if kind.startswith(IN_PIXELS) or key.startswith(IN_PIXELS) else LARGEST_SIDE
            if key in SIDES and isinstance(value, int | float) and not 0 <= value <= most:
                raise CheckpointError(f"{file}: images of {key} {value}, at most {most} can be")


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """What is neither a mapping nor a list, by the innermost key that it stands under."""
    waiting = [(key, value)]
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, Mapping):
            waiting += [(str(name), inner) for name, inner in value.items()]
        elif isinstance(value, list):
            waiting += [(key, inner) for inner in value]
        else:
            yield key, value


def stored(files: Iterable[Path]) -> dict[str, Stored]:
    """By name, from the headers of .safetensors alone. Raises CheckpointError where one is damaged, or holds weights
    that are no floats."""
    found: dict[str, Stored] = {}
    for file in files:
        try:
            with safe_open(file, framework="np") as opened:
                slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118 - it is no mapping
                found |= {name: Stored(s.get_dtype(), tuple(s.get_shape())) for name, s in slices.items()}
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{file} is damaged: {first_line(error)}") from error
    other = [f"{name} {s.dtype}" for name, s in found.items()
             if s.dtype not in FLOATS and s.shape and not name.endswith(COUNTERS)]
    if other:
        raise CheckpointError(f"{next(iter(files)).parent}: weights are not floats: {', '.join(other[:NAMED])} "
                              f"({len(other)})")
    return found


def require_described(described: int, tensors: Mapping[str, Stored], where: str) -> None:
    """Before memory is taken for what a config.json describes. described: how many numbers. Twice as many as are stored
    may be: embeddings that serve for two are stored once. Raises CheckpointError."""
    held = sum(math.prod(tensor.shape) for tensor in tensors.values())
    if described > 2 * held:
        raise CheckpointError(f"{where}: config.json describes {described:.3g} numbers, the weights hold {held:.3g}")


def require_finite(tensors: Iterable[tuple[str, Any]], where: str) -> None:
    """tensors: torch's, by name. Raises CheckpointError that names those that hold NaN or an infinity."""
    wrong = [name for name, tensor in tensors if tensor.is_floating_point() and tensor.numel()
             and not all(math.isfinite(float(end)) for end in tensor.detach().aminmax())]
    if wrong:
        raise CheckpointError(f"{where}: weights are not finite: {', '.join(wrong[:NAMED])} ({len(wrong)})")


def require_words(vocabulary: Mapping[str, int], most: int, where: str) -> None:
    """vocabulary: a tokenizer's ids by word. most: words that the model has. Raises CheckpointError."""
    last = max(vocabulary.values(), default=-1)
    if last >= most:
        raise CheckpointError(f"{where}: the tokenizer has a word {last}, the model has {most} words")


def lacking_weights(folder: Path, wanted: str, part: str = "") -> CheckpointError:
    """The error for a folder without `wanted`; of pickles in their place it says how to convert them. part: of a model
    with several, how its files begin."""
    names = (path.name for path in folder.iterdir() if path.name.startswith(part))
    pickles = about_pickles(names, part or "model")
    return CheckpointError(f"checkpoint {folder} lacks {wanted}{'; ' + pickles if pickles else ''}")


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
