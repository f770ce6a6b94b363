"""Batches: several instructions on each image, every one labelled by the expert.

The instructions are mostly not the one that the robot was carrying out: the same image with other words wants other
actions, which makes the model listen. Letters: B images, K instructions an image, L text tokens, P proprioception,
T horizon, D action dimensions, Q = T * D.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla_ros.model.vocabulary import Words
from vla_ros.profile import RobotProfile
from vla_ros.sim.experts import FAMILIES, arm_chunk, base_chunk
from vla_ros.sim.tasks import TASKS
from vla_ros.sim.tasks.task import DIRECTION_VECTORS
from vla_ros.sim.tasks.wordings import instruction
from vla_ros.sim.world import COLOURS, SHAPES
from vla_ros.tokens import UniformBins
from vla_ros.training.recording import DIRECTIONS
from vla_ros.transforms import QuantileNormaliser

ABSENT = 0.12  # share of the instructions that name an object that is not there
OWN = 0.3  # share of the images whose first instruction is the one being carried out
VECTORS = np.array([(0.0, 0.0), *DIRECTION_VECTORS.values()])


@dataclass(frozen=True)
class Batch:
    """image uint8 (B, H, W, 3); text (B, K, L) ids; proprio (B, P) normalised; there (B, K) bool: the object exists;
    point (B, K, 2) [px] of the named object; actions (B, K, Q) bins, of no meaning where not there."""

    image: np.ndarray
    text: np.ndarray
    proprio: np.ndarray
    there: np.ndarray
    point: np.ndarray
    actions: np.ndarray


class Labeller:
    """Draws instructions for frames (see recording.py) and labels them."""

    def __init__(self, frames: dict[str, np.ndarray], profile: RobotProfile, words: Words):
        self.frames, self.profile, self.words = frames, profile, words
        self.tasks = [name for name, task in TASKS.items() if task.robot == profile.name]
        self.count = len(frames["image"])
        self.bins = UniformBins()

    def batch(self, rng: np.random.Generator, images: int, instructions: int, proprio: QuantileNormaliser,
              actions: QuantileNormaliser | None, focus: float = 0.0) -> Batch:
        """A random batch; actions=None leaves the action labels out.

        focus: share of the instructions that are about the object that the robot was at work on. The last centimetres
        are where actions must be exact, and a random object is hardly ever that near.
        """
        rows = rng.integers(self.count, size=images)
        f = {name: values[rows] for name, values in self.frames.items()}
        text, there, chosen, task, direction = self._ask(rng, f, instructions, focus)
        labels = np.zeros((images, instructions, 0), np.int64)
        if actions is not None:
            values = actions.normalise(self.values(f, chosen, task, direction))
            labels = self.bins.encode(values).reshape(images, instructions, -1)
        point = np.take_along_axis(f["pixels"], chosen[..., None], 1)
        return Batch(f["image"], text, proprio.normalise(f["proprio"]).astype(np.float32), there, point, labels)

    def _ask(self, rng, f, k: int, focus: float = 0.0):
        """Draws K instructions an image: text ids (B, K, L), there, object, task and direction indices (B, K)."""
        b = len(f["image"])
        text = np.zeros((b, k, self.words.length), np.int64)
        there = rng.random((b, k)) >= ABSENT
        chosen, task, direction = (np.zeros((b, k), np.int64) for _ in range(3))
        for i in range(b):
            kinds = list(zip(f["shape"][i], f["colour"][i], strict=True))
            kinds = [kind for kind in kinds if kind[0] >= 0]
            for j in range(k):
                task[i, j] = rng.integers(len(self.tasks))
                direction[i, j] = rng.integers(1, len(DIRECTIONS))
                chosen[i, j] = rng.integers(len(kinds))
                if j == 0 and rng.random() < OWN:
                    there[i, j], chosen[i, j] = True, f["target"][i]
                    task[i, j] = self.tasks.index(str(f["task"][i]))
                    direction[i, j] = f["direction"][i] or direction[i, j]
                elif focus and rng.random() < focus:
                    there[i, j], chosen[i, j] = True, f["target"][i]
                kind = kinds[chosen[i, j]] if there[i, j] else absent_kind(rng, kinds)
                text[i, j] = self._text(rng, kind, self.tasks[task[i, j]], DIRECTIONS[direction[i, j]])
        return text, there, chosen, task, direction

    def _text(self, rng, kind, task: str, direction: str) -> list[int]:
        words = f"{tuple(COLOURS)[kind[1]]} {SHAPES[kind[0]]}"
        return self.words.encode(instruction(task, words, direction if task == "push" else "", rng))

    def values(self, f, chosen, task, direction) -> np.ndarray:
        """The expert's chunks (B, K, T, D) in units: for objects `chosen`, tasks and directions (B, K), indices."""
        b, k = chosen.shape
        rows = np.repeat(np.arange(b), k)
        target = f["objects"][rows, chosen.ravel()]
        size = f["size"][rows, chosen.ravel()]
        horizon = self.profile.action.horizon
        if self.profile.kind == "base":
            offset, yaw = target[:, :2] - f["base"][rows, :2], f["base"][rows, 2]
            c, s = np.cos(yaw), np.sin(yaw)
            seen = np.stack([c * offset[:, 0] + s * offset[:, 1], c * offset[:, 1] - s * offset[:, 0]], 1)
            out = base_chunk(seen, size / 2, f["proprio"][rows], horizon, self.profile.name)
        else:
            family = np.array([FAMILIES.index(name) for name in self.tasks])[task.ravel()]
            vector = VECTORS[np.where(family == FAMILIES.index("push"), direction.ravel(), 0)]
            shape = f["shape"][rows, chosen.ravel()]
            out = arm_chunk(family, f["ee"][rows], f["gap"][rows], target, shape, size, vector, horizon)
        return out.reshape(b, k, horizon, -1)

    def statistics(self, rng: np.random.Generator,
                   samples: int = 4000) -> tuple[QuantileNormaliser, QuantileNormaliser]:
        """Normalisers of proprioception and of actions; a gripper fraction spans 0 to 1."""
        rows = rng.integers(self.count, size=samples)
        f = {name: values[rows] for name, values in self.frames.items()}
        _, _, chosen, task, direction = self._ask(rng, f, 2)
        values = self.values(f, chosen, task, direction).reshape(-1, self.profile.action.dim)
        actions = QuantileNormaliser.of(values)
        names = self.profile.action.names
        if "gripper" in names:
            actions.low[names.index("gripper")], actions.high[names.index("gripper")] = 0.0, 1.0
        return QuantileNormaliser.of(f["proprio"]), actions


def absent_kind(rng: np.random.Generator, kinds: list) -> tuple[int, int]:
    """A shape and colour that no object has, mostly sharing one of them with an object that is there."""
    while True:
        kind = (int(rng.integers(len(SHAPES))), int(rng.integers(len(COLOURS))))
        like = kinds[rng.integers(len(kinds))]
        if rng.random() < 0.35:
            kind = (like[0], kind[1])
        elif rng.random() < 0.5:
            kind = (kind[0], like[1])
        if kind not in kinds:
            return kind
