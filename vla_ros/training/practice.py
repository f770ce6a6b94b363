"""Practice: closed-loop episodes without images, in which the model acts and the expert says what was right.

The action expert of the model needs words, places and proprioception, and no picture: places are projected as the
camera would see them, and labels follow from the state. Thousands of states a second, each one that the model itself
got into (DAgger, Ross et al. 2011), where a rendered demonstration gives hundreds that the expert got into.

Letters: T texts, N robots, L text tokens, D proprioception, Q action tokens.
"""

from __future__ import annotations

import numpy as np
import torch

from vla_ros.model.modeling import VlaModel
from vla_ros.sim.appearance import displaced, rotation
from vla_ros.sim.cameras import camera_from_parent, intrinsics, inverse, rigid
from vla_ros.sim.experts import FAMILIES
from vla_ros.sim.tasks.layout import draw_until
from vla_ros.sim.world import RELATIONS, SHAPES
from vla_ros.training import recording, trainer
from vla_ros.training.batches import VECTORS, Drill, Labeller
from vla_ros.training.bodies import Arms, Bases, Wanted
from vla_ros.training.demos import DISPLACED
from vla_ros.training.instructing import NONE, Asked, View
from vla_ros.transforms import QuantileNormaliser

EPISODE = 20  # decisions until a text gets new scenes
LED = 30  # action steps at most that the expert led an episode that is begun in its midst
GUIDED = 0.3  # share of the decisions that the expert's chunk is executed instead of the model's
STILL = 0.002  # [m, m/s] and less in every step: there is nothing left to do
OVER = 0.5  # share of the robots that have nothing left to do that begin anew, at each decision
MISTAKEN = 0.03  # share of the shapes that are taken for others
JITTER = (0.25, 1.0)  # [px] standard deviation of the looks, one for each robot


class Practice:
    """N robots that act as the model says. labeller: draws scenes and instructions.

    parts: batches that the robots are shared out to. All move together, and many cost little more than a few.
    """

    def __init__(self, model: VlaModel, labeller: Labeller, proprio: QuantileNormaliser, actions: QuantileNormaliser,
                 texts: int, robots: int, parts: int = 1):
        self.model, self.labeller, self.proprio, self.actions = model, labeller, proprio, actions
        profile = labeller.profile
        self.texts, self.each, self.parts = texts, robots // texts, parts
        self.owner = np.repeat(np.arange(texts), self.each)
        self.arm = profile.kind == "arm"
        self.bodies = (Arms if self.arm else Bases)(profile, len(self.owner))
        self.camera = profile.cameras[recording.CAMERA]
        self.camera_from_body = np.tile(camera_from_parent(self.camera), (len(self.owner), 1, 1))
        self.jitter = np.ones((len(self.owner), 1, 1))
        self.asked: list[Asked | None] = [None] * texts
        self.told = Wanted.nothing(len(self.owner))
        self.still = np.zeros(len(self.owner), bool)
        self.last: Drill | None = None

    def batch(self, rng: np.random.Generator, step: int) -> Drill:
        """What some of the robots are in now; when each had its turn, all act on what they were in."""
        fresh = step % trainer.SAVE_EVERY == 0 or self.last is None  # a run resumed there does as one that never ended
        if fresh or step % self.parts == 0:
            self.last = self._all(rng, step // self.parts, fresh)
        first, end = ((step % self.parts + i) * self.texts // self.parts for i in (0, 1))
        rows, d = slice(first * self.each, end * self.each), self.last
        return Drill(d.text[first:end], d.owner[rows] - first, d.proprio[rows], d.look[rows], d.shape[rows],
                     d.actions[rows])

    def _all(self, rng: np.random.Generator, decision: int, fresh: bool) -> Drill:
        if fresh:
            self._renew(np.arange(self.texts), rng)
            self.bodies.lead(rng.integers(0, LED + 1, len(self.owner)) * (rng.random(len(self.owner)) < 0.7))
        else:
            self._act(rng)
            self._leave_what_is_over(rng)
            self._renew(np.flatnonzero((decision + np.arange(self.texts)) % EPISODE == 0), rng)
        labels = self.bodies.labels()
        self.still = (np.abs(labels[..., :3]) < STILL).all((1, 2))
        bins = self.labeller.bins.encode(self.actions.normalise(labels)).reshape(len(self.owner), -1)
        text = self.labeller._encode([[asked.text for asked in self.asked]])[0]
        felt = self.proprio.normalise(self.bodies.proprio()).astype(np.float32)
        return Drill(*map(torch.from_numpy, (text, self.owner, felt, self._looks(rng), self._shapes(rng), bins)))

    @torch.no_grad()
    def _act(self, rng: np.random.Generator) -> None:
        """One decision of every robot, mostly the model's."""
        drill = self.last.to(self.model.device)
        with torch.autocast(self.model.device.type, torch.bfloat16):
            intent = self.model.intend(drill.text)[drill.owner]
            logits = self.model.act(intent, drill.look, drill.proprio, drill.shape)
        guided = rng.random((len(self.owner), 1)) < GUIDED
        bins = np.where(guided, drill.actions.cpu().numpy(), logits.argmax(-1).cpu().numpy())
        chunks = self.actions.unnormalise(self.labeller.bins.decode(bins.reshape(*self._shape, -1)))
        self.bodies.follow(chunks, rng.integers(1, 5, len(self.owner)), rng)

    def _leave_what_is_over(self, rng: np.random.Generator) -> None:
        """Other scenes for most of those that are done: an episode ends there. Else what a robot is in after it let
        something go is a success nearly always, and it learns to wait there also when it is none."""
        over = self.still & (rng.random(len(self.still)) < OVER)
        rows = np.flatnonzero(over & (self.told.family != FAMILIES.index("stop")) if self.arm else over)
        self.bodies.renew(rows, self.told.take(rows), rng)

    @property
    def _shape(self) -> tuple[int, int]:
        return len(self.owner), self.labeller.profile.action.horizon

    def _renew(self, slots: np.ndarray, rng: np.random.Generator) -> None:
        """Other instructions, scenes and cameras for the robots of some texts."""
        if not len(slots):
            return
        f = self.labeller._draw(rng, len(slots), self.labeller.clear)
        views, wanted = [View.of(f, i) for i in range(len(slots))], []
        for slot, view in zip(slots, views, strict=True):
            asked = draw_until(lambda view=view: self.labeller.asker.ask(rng, view, False),
                               lambda drawn: drawn.verdict == "act")
            self.asked[slot] = asked
            shapes = [SHAPES.index(view.kinds[i][0]) if i != NONE else 0 for i in (asked.target, asked.reference)]
            family = FAMILIES.index(asked.family) if self.arm else 0
            wanted.append((family, VECTORS[asked.direction], RELATIONS.index(asked.relation), *shapes))
        rows = np.flatnonzero(np.isin(self.owner, slots))
        told = Wanted(*(np.array(column) for column in zip(*wanted, strict=True)))
        told = told.take(np.repeat(np.arange(len(slots)), self.each))
        self.told.put(rows, told)
        self.bodies.renew(rows, told, rng)
        self.jitter[rows] = rng.uniform(*JITTER, (len(rows), 1, 1))
        for row in rows:
            self.camera_from_body[row] = self._mounted(rng)

    def _mounted(self, rng: np.random.Generator) -> np.ndarray:
        """(4, 4) from the frame that the camera is mounted on to its optical frame, displaced or not."""
        if rng.random() >= DISPLACED:
            return camera_from_parent(self.camera)
        look = displaced(rng)
        return inverse(rigid(rotation(look.turn), look.shift)) @ camera_from_parent(self.camera)

    def _shapes(self, rng: np.random.Generator) -> np.ndarray:
        """(N, 2) of target and reference, as well as a model sees them."""
        shape = np.column_stack([self.told.shape, self.told.reference_shape])
        named = np.array([(a.target != NONE, a.reference != NONE) for a in self.asked])[self.owner]
        shape = np.where(named, shape, len(SHAPES))
        return np.where(rng.random(shape.shape) < MISTAKEN, rng.integers(len(SHAPES) + 1, size=shape.shape), shape)

    def _looks(self, rng: np.random.Generator) -> np.ndarray:
        """Look tokens (N, 6) of what the instructions name, as well as a model sees."""
        points, m = self.bodies.points(), self.camera_from_body
        optical = np.einsum("nij,npj->npi", m[:, :3, :3], points) + m[:, None, :3, 3]
        pixels = optical @ intrinsics(self.camera).T
        noise = rng.normal(0, 1, (*points.shape[:2], 2)) * self.jitter
        pixels = pixels[..., :2] / np.maximum(pixels[..., 2:], 1e-3) + noise
        named = np.array([(a.target != NONE, a.reference != NONE, self.arm) for a in self.asked])[self.owner]
        place = np.where(named, 0, self.model.config.grid**2 + 1)
        hidden = ((pixels[:, 2] < 0) | (pixels[:, 2] >= self.model.config.image_size)).any(1)
        place[hidden & named[:, 2], 2] = self.model.config.grid**2
        place = torch.from_numpy(place)
        return self.model.look.tokens(torch.from_numpy(pixels), place).flatten(1).numpy()
