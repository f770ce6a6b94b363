"""Our demonstrations for the peer: one .npz of plain arrays that needs nothing of ours to be read.

    .venv/bin/python bench/peer/demonstrations.py --demos DEMOS --out FOLDER

Letters: F frames (origin: 0 of episodes, 1 of still scenes), N samples (a frame and an object to touch in it),
T horizon, D action dimensions, E environment state.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from vla_ros.errors import VlaError
from vla_ros.profile import load_profile
from vla_ros.sim.world import COLOURS, MOVABLE, OBJECT_COLOURS, SHAPES
from vla_ros.training import recording
from vla_ros.training.batches import Labeller
from vla_ros.training.instructing import Asked, View

FAMILY, ROBOT = "reach", "panda"
# All still scenes show a beginning; the same table stands under several families' names, and counts once.
TRAIN = (f"{FAMILY}-episode-*", "*-still-*")
HELD_OUT = ("*-held-out-*",)


def distinct(frames: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Without the frames whose image was there before."""
    first = sorted({image.tobytes(): i for i, image in reversed(list(enumerate(frames["image"])))}.values())
    return {name: values[first] for name, values in frames.items()}


def read(demos: Path, patterns: tuple[str, ...]) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The frames of all patterns, and the index of the pattern that each came by (F,)."""
    parts = [distinct(recording.load([demos], pattern)) for pattern in patterns]
    origin = np.repeat(np.arange(len(parts)), [len(part["image"]) for part in parts])
    return {name: np.concatenate([part[name] for part in parts]) for name in recording.FIELDS}, origin


def labelled(frames: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every frame with each object that could be touched in it, and the expert's chunk for that.

    image uint8 (F, H, W, 3); state (F, 4) [m], as a policy of ours gets it; frame (N,): which;
    own (N,): whether the robot was at work on that object; environment_state (N, E): the object's shape and colour,
    one-hot; action (N, T, D) in units.
    """
    rows, targets = [], []
    for row in range(len(frames["image"])):
        there = View.of(frames, row).of_shapes(MOVABLE)
        rows += [row] * len(there)
        targets += there
    rows, targets = np.array(rows), np.array(targets)
    of_each = {name: values[rows] for name, values in frames.items() if name != "image"}
    asked = [[Asked("", "act", FAMILY, int(target))] for target in targets]
    labeller = Labeller(frames, load_profile(ROBOT), words=None, asker=None)  # those two only draw instructions
    action = labeller.values(of_each, asked)[:, 0]
    shape, colour = (of_each[name][np.arange(len(rows)), targets] for name in ("shape", "colour"))
    shapes, colours = (np.array([known.index(one) for one in some]) for known, some in (
        (SHAPES, MOVABLE), (tuple(COLOURS), OBJECT_COLOURS)))
    wanted = np.concatenate([shape[:, None] == shapes, colour[:, None] == colours], axis=1)
    return {"image": frames["image"], "state": frames["proprio"], "frame": rows.astype(np.int64),
            "own": of_each["target"] == targets, "environment_state": wanted.astype(np.float32),
            "action": action.astype(np.float32)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--demos", type=Path, required=True, help="what `vla demos` wrote for the panda")
    parser.add_argument("--out", type=Path, required=True, help="folder for train.npz and held_out.npz")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    try:
        for name, patterns in (("train", TRAIN), ("held_out", HELD_OUT)):
            frames, origin = read(args.demos, patterns)
            made = labelled(frames)
            np.savez(args.out / f"{name}.npz", **made, origin=origin, shapes=MOVABLE, colours=OBJECT_COLOURS)
            print(f"{name}: {len(made['image'])} frames, {len(made['frame'])} samples")
    except VlaError as error:
        print(f"bench/peer: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
