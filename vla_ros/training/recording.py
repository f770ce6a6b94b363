"""Frames for training: what the robot saw, and the truth from which any instruction's expert label follows.

Letters: F frames, M = MOST objects in a frame (fewer are padded), D proprioception. Shards are .npz without pickle.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from vla_ros.errors import ConfigError
from vla_ros.observing import proprioception
from vla_ros.sim.tasks.task import DIRECTION_VECTORS
from vla_ros.sim.world import COLOURS, RELATIONS, SHAPES

MOST = 8
CAMERA = "front"  # the one that the native model reads
DIRECTIONS = ("", *DIRECTION_VECTORS)
FIELDS = ("image", "proprio", "gap", "ee", "base", "hand", "objects", "pixels", "shape", "colour", "size", "task",
          "target", "reference", "direction", "relation", "episode")


def frame(world, observation) -> dict[str, np.ndarray]:
    """One frame of a world: image uint8 (H, W, 3); proprio (D,); ee (3,), gap [m]; base (x, y [m], yaw [rad]).

    hand (2,): where the end effector is in the image [px], -1 for a base, which has none.
    Per object: position (M, 3) [m] in the world frame, pixels (M, 2) in the image, shape and colour (M,) indices
    (-1: none; of an object: a colour without a name; len(SHAPES): a shape without one), size (M,) [m]. target,
    reference: indices of objects, -1 for none; direction, relation: indices.
    """
    state, scene, profile = world.state, world.scene, world.profile
    count = len(scene.objects)
    pixels = world.pixels(CAMERA, state.objects)

    def pad(values, fill):
        return np.concatenate([values, np.full((MOST - count, *np.shape(values)[1:]), fill)])

    return {
        "image": observation.images[CAMERA],
        "proprio": proprioception(observation, profile.kind).astype(np.float32),
        "ee": np.float32(state.ee if state.ee is not None else np.zeros(3)),
        "gap": np.float32(state.gap or 0.0),
        "base": np.float32(state.base if state.base is not None else np.zeros(3)),
        "hand": np.float32(world.pixels(CAMERA, state.ee[None])[0] if state.ee is not None else (-1.0, -1.0)),
        "objects": pad(state.objects, 0.0).astype(np.float32),
        "pixels": pad(pixels, -1.0).astype(np.float32),
        "shape": pad([index(o.shape, SHAPES) if o.plain else len(SHAPES) for o in scene.objects], -1).astype(np.int8),
        "colour": pad([index(o.colour, COLOURS) for o in scene.objects], -1).astype(np.int8),
        "size": pad([o.size for o in scene.objects], 0.0).astype(np.float32),
        "task": np.str_(world.task.name),
        "target": np.int8(scene.target),
        "reference": np.int8(scene.reference),
        "direction": np.int8(DIRECTIONS.index(scene.direction)),
        "relation": np.int8(RELATIONS.index(scene.relation)),
        "episode": np.int64(scene.seed),
    }


def index(item, items) -> int:
    """Where it is among them, -1 where it is not."""
    return list(items).index(item) if item in items else -1


def save(file: Path, frames: list[dict]) -> None:
    """Writes a shard whole or not at all."""
    part = file.with_suffix(f".{os.getpid()}.part")
    with part.open("wb") as out:
        np.savez_compressed(out, **{name: np.stack([f[name] for f in frames]) for name in FIELDS})
    part.rename(file)


def load(folders: list[Path], pattern: str = "*") -> dict[str, np.ndarray]:
    """All frames of some folders' shards whose names match, field by field."""
    files = sorted(file for folder in folders for file in Path(folder).glob(f"{pattern}.npz"))
    if not files:
        raise ConfigError(f"no demonstrations in {', '.join(map(str, folders))}; make them with `vla demos`")
    with ThreadPoolExecutor() as pool:  # unpacking frees the interpreter
        shards = list(pool.map(read, files))
    return {name: np.concatenate([shard[name] for shard in shards]) for name in FIELDS}


def read(file: Path) -> dict[str, np.ndarray]:
    with np.load(file, allow_pickle=False) as data:
        return {name: data[name] for name in FIELDS}
