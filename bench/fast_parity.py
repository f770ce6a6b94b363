"""Are the words of our FAST those of its reference implementation, and its chunks those that the words say?

    .venv/bin/python bench/fast_parity.py --reference processing_action_tokenizer.py --chunks 10000

--reference: the file of physical-intelligence/fast on the model hub. It fits a tokenizer to random courses of numbers
and saves it; ours opens these files. Then both turn the same random chunks into words and back, and broken words into
chunks (where the reference goes on with zeros, ours has to raise an error). Ends with one line of JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from scipy.fft import dct

from vla_ros.cli import at_least
from vla_ros.errors import ActionError
from vla_ros.vlm.fast import LARGEST, Fast

SIZES = ((8, 4), (16, 7), (50, 14))  # horizon, dim


def chunks(rng: np.random.Generator, count: int, horizon: int, dim: int) -> np.ndarray:
    """Random courses from smooth to jerky, mostly within the quantiles."""
    rough = rng.uniform(0, 1, (count, 1, dim))
    steps = rng.normal(0, 0.12, (count, horizon, dim))
    return np.clip((1 - rough) * np.cumsum(steps, axis=1) + rough * 4 * steps, -1.5, 1.5)


def reference(file: Path):
    spec = importlib.util.spec_from_file_location("reference", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.UniversalActionProcessor


def save(processor, folder: Path) -> None:
    """The two files that are read, as the hub's folder has them."""
    processor.bpe_tokenizer.save_pretrained(folder)
    (folder / "processor_config.json").write_text(json.dumps(
        {"scale": processor.scale, "min_token": processor.min_token, "vocab_size": processor.vocab_size}))


def compare(theirs, ours: Fast, made: np.ndarray, rng: np.random.Generator) -> dict[str, int]:
    """Counts. unsayable: ours has an error for the chunk; lost: and the reference's words say another chunk.
    broken: words, one of them another; equal: both read the same chunk; errors: ours has an error; zeros: and the
    reference reads zeros; wild: or numbers beyond LARGEST."""
    counts = dict.fromkeys(("chunks", "words_equal", "chunks_equal", "unsayable", "lost", "broken", "equal", "errors",
                            "zeros", "wild"), 0)
    for chunk in made:
        (words,) = theirs(chunk)
        back = decoded(theirs, words, ours)
        counts["chunks"] += 1
        try:
            counts["words_equal"] += ours.encode(chunk) == words
            counts["chunks_equal"] += np.array_equal(ours.decode(words), back)
        except ActionError:
            counts["unsayable"] += 1
            counts["lost"] += not np.array_equal(marks(back, theirs.scale), marks(chunk, theirs.scale))
        words[int(rng.integers(len(words)))] = int(rng.integers(ours.count))
        said = decoded(theirs, words, ours)
        counts["broken"] += 1
        try:
            counts["equal"] += np.array_equal(ours.decode(words), said)
        except ActionError:
            counts["errors"] += 1
            counts["zeros"] += not said.any()
            counts["wild"] += bool(np.abs(said).max() > LARGEST)
    return counts


def marks(chunk: np.ndarray, scale: float) -> np.ndarray:
    return np.around(dct(chunk, axis=0, norm="ortho") * scale)


def decoded(theirs, words: list[int], ours: Fast) -> np.ndarray:
    with contextlib.redirect_stdout(io.StringIO()):
        return theirs.decode([words], time_horizon=ours.horizon, action_dim=ours.dim)[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--chunks", type=at_least(1), default=10000, help="in all")
    args = parser.parse_args()
    kind, rng, total = reference(args.reference), np.random.default_rng(0), {}
    for horizon, dim in SIZES:
        fitted = kind.fit(list(chunks(rng, 2000, horizon, dim)), scale=10, vocab_size=1024, time_horizon=horizon,
                          action_dim=dim)
        with tempfile.TemporaryDirectory() as folder:
            save(fitted, Path(folder))
            ours = Fast.open(Path(folder), horizon, dim)
        counts = compare(fitted, ours, chunks(rng, -(-args.chunks // len(SIZES)), horizon, dim), rng)
        print(f"{horizon} x {dim}: " + ", ".join(f"{name} {count}" for name, count in counts.items()))
        total = {name: total.get(name, 0) + count for name, count in counts.items()}
    print(json.dumps(total))
    return 0


if __name__ == "__main__":
    sys.exit(main())
