"""Batches: several instructions on each image, every one labelled by the expert; and questions with their answers.

Letters: B images, K texts an image, L text tokens, P proprioception, T horizon, D action dimensions, Q = T * D.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from vla_ros.model import vocabulary as vocab
from vla_ros.model.vocabulary import Words
from vla_ros.profile import RobotProfile
from vla_ros.referring import ONES
from vla_ros.sim.experts import ArmStates, arm_chunk, base_chunk
from vla_ros.sim.questions import Question, ask
from vla_ros.sim.tasks.held_out import HELD_OUT_PAIRS
from vla_ros.sim.tasks.layout import draw_until
from vla_ros.sim.tasks.task import DIRECTION_VECTORS
from vla_ros.sim.world import COLOURS, CONTAINERS, MOVABLE, OBJECT_COLOURS, RELATIONS, SHAPES
from vla_ros.synonyms import one_of, synonyms
from vla_ros.tokens import UniformBins
from vla_ros.training.instructing import NONE, Asked, Asker, View, names_held_out
from vla_ros.training.recording import CAMERA, index
from vla_ros.transforms import QuantileNormaliser
from vla_ros.words import object_words

VECTORS = {"": (0.0, 0.0), **DIRECTION_VECTORS}
KINDS = [*((s, c) for s in MOVABLE for c in OBJECT_COLOURS if (s, c) not in HELD_OUT_PAIRS),
         *((s, "") for s in CONTAINERS)]  # what training names and shows
NAMES = [len(KINDS), len(OBJECT_COLOURS), len(MOVABLE)]  # whole names, colours alone, shapes alone
PATCH, THERE_NOT, NOWHERE, UNKNOWN = range(4)  # where a look ends; UNKNOWN counts for nothing


NAMED_KINDS = [*KINDS, *(("", c) for c in OBJECT_COLOURS), *((s, "") for s in MOVABLE)]
# Shapes and colours that are never shown together. The last of each is none of them, and was with all.
UNSEEN = np.array([[s in MOVABLE and c in OBJECT_COLOURS and (s, c) not in KINDS for c in [*OBJECT_COLOURS, ""]]
                   for s in [*MOVABLE, ""]])
# By shape and colour: which whole name, which colour and which shape; -1: none of NAMES.
KIND_OF = np.array([[(index((s, "" if s in CONTAINERS else c), KINDS),
                      -1 if s in CONTAINERS else index(c, OBJECT_COLOURS), index(s, MOVABLE))
                     for c in [*COLOURS, "none"]] for s in [*SHAPES, "none"]])


class Tensors:
    """A dataclass of tensors that moves as one."""

    def to(self, device):
        return type(self)(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


@dataclass(frozen=True)
class Batch(Tensors):
    """image uint8 (B, H, W, 3); text (B, K, L) ids; proprio (B, P) normalised; verdict (B, K) index into VERDICTS;
    where (B, K, 3) of PATCH..UNKNOWN, for target, reference and hand; point (B, K, 3, 2) [px] of them; actions
    (B, K, Q) bins, of no meaning where the verdict is not 'act'. mark (B, K, 2): the objects that are landmarks of
    target and reference, NONE without. said (B, K, 2, 2): shape and colour of them, where their kinds alone name them,
    -1 without. shape (B, K, 2): what they are, by SHAPES, len(SHAPES) without. pixels (B, M, 2) and shapes (B, M) of
    all objects; names (N, L) ids of the NAMES, and kind (B, M, 3), which of each sort is the object's, -1 for none."""

    image: Tensor
    text: Tensor
    proprio: Tensor
    verdict: Tensor
    where: Tensor
    point: Tensor
    mark: Tensor
    said: Tensor
    shape: Tensor
    actions: Tensor
    pixels: Tensor
    shapes: Tensor
    kind: Tensor
    names: Tensor


@dataclass(frozen=True)
class Questions(Tensors):
    """image uint8 (B, H, W, 3); text (B, K, L) ids; where, point, mark and pixels as in Batch, for what is asked about;
    answer (B, K, A): <answer>, the words, <end>, padding; counted bool (B, K, M): the objects that it counts."""

    image: Tensor
    text: Tensor
    where: Tensor
    point: Tensor
    mark: Tensor
    pixels: Tensor
    answer: Tensor
    counted: Tensor


@dataclass(frozen=True)
class Drill(Tensors):
    """States without images, see practice.py. text (T, L) ids; owner (N,): which text; proprio (N, D) normalised;
    look (N, 6) token ids; shape (N, 2) of target and reference, as in Batch; actions (N, Q) bins."""

    text: Tensor
    owner: Tensor
    proprio: Tensor
    look: Tensor
    shape: Tensor
    actions: Tensor


class Labeller:
    """Labels frames (see recording.py) for instructions that it draws."""

    def __init__(self, frames: dict[str, np.ndarray], profile: RobotProfile, words: Words, asker: Asker,
                 answer_length: int = 8):
        self.frames, self.profile, self.words, self.asker = frames, profile, words, asker
        self.count, self.answer_length = len(frames["image"]), answer_length
        named = (frames["colour"] >= 0) & (frames["shape"] < len(SHAPES)) | (frames["shape"] < 0)
        self.clear = np.flatnonzero(named.all(-1))  # frames in which all have whole names
        self.bins = UniformBins()

    def batch(self, rng: np.random.Generator, images: int, instructions: int, proprio: QuantileNormaliser,
              actions: QuantileNormaliser | None) -> Batch:
        """A random batch; actions=None leaves the action labels out."""
        f = self._draw(rng, images)
        asked = self._asked(rng, f, instructions)
        labels = np.zeros((images, instructions, 0), np.int64)
        if actions is not None:
            values = actions.normalise(self.values(f, asked))
            labels = self.bins.encode(values).reshape(images, instructions, -1)
        where = [[(place(a, a.target, a.target_there), place(a, a.reference, a.reference_there), self._hand(hand))
                  for a in row] for row, hand in zip(asked, f["hand"], strict=True)]
        point = points(f, [[(a.target, a.reference) for a in row] for row in asked])
        mark = np.array([[a.marks for a in row] for row in asked])
        said = np.array([[[parts_of(kind) for kind in a.named] for a in row] for row in asked])
        shapes = np.where((f["shape"] >= 0) & (f["shape"] < len(SHAPES)), f["shape"], len(SHAPES)).astype(np.int64)
        shape = shape_of(shapes, [[(a.target, a.reference) for a in row] for row in asked])
        text = [[a.text for a in row] for row in asked]
        verdict = [[vocab.VERDICTS.index(a.verdict) for a in row] for row in asked]
        names = self._encode([[f"the {name}" for name in names_of_all(rng)]])[0]
        return Batch(*map(torch.from_numpy, (
            f["image"], self._encode(text), proprio.normalise(f["proprio"]).astype(np.float32), np.array(verdict),
            np.array(where), point, mark, said, shape, labels, f["pixels"], shapes, KIND_OF[f["shape"], f["colour"]],
            names)))

    def questions(self, rng: np.random.Generator, images: int, questions: int) -> tuple[Questions, list[list[str]]]:
        """Questions about random frames, and their kinds; about none with a thing that has no whole name."""
        f = self._draw(rng, images, self.clear)
        asked = [[self._question(rng, view) for _ in range(questions)]
                 for view in (View.of(f, i) for i in range(images))]
        answers = np.zeros((images, questions, self.answer_length), np.int64)
        counted = np.zeros((images, questions, f["pixels"].shape[1]), bool)
        for i, row in enumerate(asked):
            for j, question in enumerate(row):
                ids = [vocab.ANSWER, *self.words.ids(question.answer), vocab.END]
                answers[i, j, :len(ids)], counted[i, j, list(question.counted)] = ids, True
        text = self._encode([[q.question for q in row] for row in asked])
        where = np.array([[(sought(q), NOWHERE, UNKNOWN) for q in row] for row in asked])
        point = points(f, [[(q.about, NONE) for q in row] for row in asked])
        mark = np.array([[(q.mark, NONE) for q in row] for row in asked])
        made = Questions(*map(torch.from_numpy, (f["image"], text, where, point, mark, f["pixels"], answers, counted)))
        return made, [[q.kind for q in row] for row in asked]

    @staticmethod
    def _question(rng: np.random.Generator, view: View) -> Question:
        return draw_until(lambda: ask(rng, view.kinds, view.positions[:, :2]),
                          lambda drawn: not names_held_out(drawn.question))

    def _draw(self, rng, images: int, among: np.ndarray | None = None) -> dict[str, np.ndarray]:
        among = np.arange(self.count) if among is None else among
        rows = among[rng.integers(len(among), size=images)]
        return {name: values[rows] for name, values in self.frames.items()}

    def _asked(self, rng, f, count: int) -> list[list[Asked]]:
        views = [View.of(f, i) for i in range(len(f["image"]))]
        return [[self.asker.ask(rng, view, j == 0) for j in range(count)] for view in views]

    def _hand(self, pixel: np.ndarray) -> int:
        """Where the look for the hand should end: a base has none, and an arm's may be out of view."""
        if self.profile.kind != "arm":
            return NOWHERE
        camera = self.profile.cameras[CAMERA]
        return PATCH if ((pixel >= 0) & (pixel < [camera.width, camera.height])).all() else THERE_NOT

    def _encode(self, texts: list[list[str]]) -> np.ndarray:
        """(B, K, L) ids, as long as the longest; what is too long is cut, as long nonsense may be."""
        ids = [[[vocab.BOS, *self.words.ids(text)][:self.words.length] for text in row] for row in texts]
        out = np.full((len(ids), len(ids[0]), max(len(i) for row in ids for i in row)), vocab.PAD, np.int64)
        for i, row in enumerate(ids):
            for j, text in enumerate(row):
                out[i, j, :len(text)] = text
        return out

    def values(self, f: dict[str, np.ndarray], asked: list[list[Asked]]) -> np.ndarray:
        """The expert's chunks (B, K, T, D) in units; zeros where nothing is to be done."""
        return expert_chunks(self.profile, f, asked)

    def statistics(self, rng: np.random.Generator,
                   samples: int = 4000) -> tuple[QuantileNormaliser, QuantileNormaliser]:
        """Normalisers of proprioception and of actions; a gripper fraction spans 0 to 1."""
        f = self._draw(rng, samples)
        asked = self._asked(rng, f, 2)
        values = self.values(f, asked)[np.array([[a.verdict == "act" for a in row] for row in asked])]
        actions = QuantileNormaliser.of(values.reshape(-1, self.profile.action.dim))
        names = self.profile.action.names
        if "gripper" in names:
            actions.low[names.index("gripper")], actions.high[names.index("gripper")] = 0.0, 1.0
        return QuantileNormaliser.of(f["proprio"]), actions


def expert_chunks(profile: RobotProfile, f: dict[str, np.ndarray], asked: list[list[Asked]]) -> np.ndarray:
    """What the expert would do in frames f: chunks (B, K, T, D) in units; zeros where nothing is to be done."""
    b, k = len(asked), len(asked[0])
    rows = np.repeat(np.arange(b), k)
    flat = [a for row in asked for a in row]
    target = np.array([max(a.target, 0) for a in flat])
    horizon = profile.action.horizon
    if profile.kind == "base":
        offset, yaw = f["objects"][rows, target][:, :2] - f["base"][rows, :2], f["base"][rows, 2]
        c, s = np.cos(yaw), np.sin(yaw)
        seen = np.stack([c * offset[:, 0] + s * offset[:, 1], c * offset[:, 1] - s * offset[:, 0]], 1)
        radius = f["size"][rows, target] / 2
        return base_chunk(seen, radius, f["proprio"][rows], horizon, profile.name).reshape(b, k, horizon, -1)
    reference = np.array([max(a.reference, 0) for a in flat])
    shapes = np.minimum(f["shape"], len(SHAPES) - 1)  # one without a name is nobody's target
    states = ArmStates(
        family=np.array([a.family or "stop" for a in flat]), ee=f["ee"][rows], gap=f["gap"][rows],
        target=f["objects"][rows, target], shape=shapes[rows, target], size=f["size"][rows, target],
        direction=np.array([VECTORS[a.direction] for a in flat]), reference=f["objects"][rows, reference],
        reference_shape=shapes[rows, reference], reference_size=f["size"][rows, reference],
        relation=np.array([RELATIONS.index(a.relation) for a in flat]))
    return arm_chunk(states, horizon).reshape(b, k, horizon, -1)


def parts_of(kind: tuple[str, str]) -> tuple[int, int]:
    """Which of MOVABLE and of OBJECT_COLOURS a kind is, -1 for none."""
    return index(kind[0], MOVABLE), index(kind[1], OBJECT_COLOURS)


def names_of_all(rng: np.random.Generator) -> list[str]:
    """Words for each of NAMES."""
    return [*(object_words(shape, colour, rng) for shape, colour in KINDS),
            *(f"{one_of(rng, synonyms().colours[colour])} {one_of(rng, ONES)}" for colour in OBJECT_COLOURS),
            *(one_of(rng, synonyms().nouns(shape)) for shape in MOVABLE)]


def points(f: dict[str, np.ndarray], named: list[list[tuple[int, int]]]) -> np.ndarray:
    """(B, K, 3, 2) [px] of target and reference, by their objects, and of the hand; of no meaning for NONE."""
    chosen = np.maximum(np.array(named), 0)
    objects = f["pixels"][np.arange(len(chosen))[:, None, None], chosen]
    return np.concatenate([objects, np.broadcast_to(f["hand"][:, None, None], (*chosen.shape[:2], 1, 2))], 2)


def shape_of(shapes: np.ndarray, named: list[list[tuple[int, int]]]) -> np.ndarray:
    """(B, K, 2) of shapes (B, M), by their objects; len(SHAPES) for NONE."""
    chosen = np.array(named)
    found = shapes[np.arange(len(chosen))[:, None, None], np.maximum(chosen, 0)]
    return np.where(chosen == NONE, len(SHAPES), found)


def sought(question: Question) -> int:
    """Where the look for what a question is about should end."""
    if question.about == NONE:
        return THERE_NOT if question.absent else UNKNOWN
    return PATCH


def place(asked: Asked, index: int, there: bool) -> int:
    """Where the look for one of an instruction's objects should end."""
    if asked.verdict in ("impossible", "nonsense"):
        return UNKNOWN
    if not there:
        return THERE_NOT
    return NOWHERE if index == NONE else PATCH
