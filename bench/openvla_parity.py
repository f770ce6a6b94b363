"""Are the words and actions of an OpenVLA checkpoint those of its reference implementation?

    .venv/bin/python bench/openvla_parity.py --checkout openvla/ --python REFERENCE_PYTHON --inputs 240

--checkout: of openvla/openvla, of which the files of prismatic/extern/hf are imported. --python: has their pins,
transformers 4.40.1, tokenizers 0.19.1 and timm 0.9.10. Both read the same small random checkpoints, of all kinds of
towers and ways of bringing images to size, and the same random images and instructions; or --checkpoint, one of yours,
as long as its statistics are of one data set. Ends with one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

sys.path.append(str(Path(__file__).resolve().parent.parent / "test"))

import openvla_samples as samples  # noqa: E402

from vla_ros.cli import at_least  # noqa: E402
from vla_ros.openvla.files import open_checkpoint  # noqa: E402
from vla_ros.openvla.prompt import prompt_ids  # noqa: E402
from vla_ros.openvla.statistics import choose, stored  # noqa: E402
from vla_ros.tokens import EdgeBins  # noqa: E402

ANY_WORD = 1.0  # gain of the action words' logits with which the model says any word at all
VERBS = ("put", "pick up", "push", "Move", "stack", "touch")
THINGS = ("the red cube", "the CUP", "a ball, please", "the café's tray", "block no. 7", "everything")
CHECKPOINTS = {  # by name: backbone, what to do with images, type of numbers, gain
    "dinosiglip": (samples.FUSED, "resize-naive", torch.float32, samples.ACTION_GAIN),
    "dinosiglip letterbox": (samples.FUSED, "letterbox", torch.float32, samples.ACTION_GAIN),
    "dinosiglip bf16": (samples.FUSED, "resize-naive", torch.bfloat16, samples.ACTION_GAIN),
    "dinosiglip any word": (samples.FUSED, "resize-crop", torch.float32, ANY_WORD),
    "siglip": (samples.SINGLE, "resize-crop", torch.float32, samples.ACTION_GAIN),
    "dinov2": ("dinov2-vit-l", "resize-naive", torch.float32, samples.ACTION_GAIN),
    "clip": ("clip-vit-l", "letterbox", torch.float32, samples.ACTION_GAIN),
    "in1k": ("in1k-vit-l", "resize-crop", torch.float32, samples.ACTION_GAIN),
    "dinoclip": ("dinoclip-vit-l-336px", "letterbox", torch.float32, samples.ACTION_GAIN),
}


def write(folder: Path) -> dict[str, Path]:
    made = {}
    for seed, (name, (backbone, strategy, dtype, gain)) in enumerate(CHECKPOINTS.items()):
        made[name] = samples.write(folder / str(seed), backbone, seed=seed, gain=gain, dtype=dtype, shards=1 + seed % 3,
                                   images={"image_resize_strategy": strategy}, image_resize_strategy=strategy,
                                   torch_dtype=str(dtype).removeprefix("torch."))
    return made


def inputs(count: int) -> tuple[list[np.ndarray], list[str]]:
    """Images of random sizes, half of them smooth, and instructions."""
    rng, words = np.random.default_rng(0), random.Random(0)
    images = []
    for i in range(count):
        height, width = rng.integers(24, 160, 2)
        image = rng.integers(0, 256, (height, width, 3))
        if i % 2:
            slope = np.linspace(0, 1, height)[:, None, None] * rng.uniform(size=3) + np.linspace(0, 1, width)[:, None]
            image = slope / slope.max() * 255
        images.append(image.astype(np.uint8))
    return images, [f"{words.choice(VERBS)} {words.choice(THINGS)}" for _ in range(count)]


def answers(folder: Path, images: list[np.ndarray], words: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and actions (N, D)."""
    c = open_checkpoint(folder)
    statistics, bins = choose(stored(folder, c.config)), EdgeBins(c.config.bins)
    tokens = np.array([c.model.say(prompt_ids(text, c.config, c.tokenizer), c.images.read(image), statistics.dim).tokens
                       for image, text in zip(images, words, strict=True)])
    return tokens, statistics.unnormalise(bins.decode(c.config.words - tokens))


def reference(args, folders: list[Path], images: list[np.ndarray], words: list[str], place: Path) -> dict:
    given, out = place / "inputs.npz", place / "answers.npz"
    np.savez(given, words=np.array(words), **{f"image_{i}": image for i, image in enumerate(images)})
    program = Path(__file__).resolve().with_name("openvla_reference.py")
    done = subprocess.run([args.python, program, args.checkout, given, out, *folders], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"the reference ends with {done.returncode}:\n{done.stderr[-2000:]}")
    return dict(np.load(out))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkout", type=Path, required=True, help="folder of openvla/openvla")
    parser.add_argument("--python", required=True, help="interpreter that has its pins")
    parser.add_argument("--inputs", type=at_least(1), default=240, help="in all (default 240)")
    parser.add_argument("--checkpoint", type=Path, help="a checkpoint of yours instead of small random ones")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        folders = {args.checkpoint.name: args.checkpoint} if args.checkpoint else write(Path(place))
        images, words = inputs(-(-args.inputs // len(folders)))
        theirs = reference(args, list(folders.values()), images, words, Path(place))
        counts = np.zeros((len(folders), 4), int)
        for i, (name, folder) in enumerate(folders.items()):
            tokens, actions = answers(folder, images, words)
            said = theirs[f"tokens_{i}"] >= 0  # the reference stops where the model says that the text ends
            same = (tokens == theirs[f"tokens_{i}"])[said]
            whole = said.all(1)
            equal = (actions == theirs[f"actions_{i}"])[whole]
            counts[i] = same.sum(), same.size, equal.sum(), equal.size
            print(f"{name:22} tokens {counts[i][0]} of {counts[i][1]} equal, actions {counts[i][2]} of {counts[i][3]}; "
                  f"{len(np.unique(tokens))} different tokens, {(~whole).sum()} answers ended early", flush=True)
    tokens, all_tokens, actions, all_actions = counts.sum(0).tolist()
    print(json.dumps({"inputs": len(images) * len(folders), "tokens": all_tokens, "tokens_equal": tokens,
                      "actions": all_actions, "actions_equal": actions}))


if __name__ == "__main__":
    main()
