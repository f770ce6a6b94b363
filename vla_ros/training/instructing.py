"""Instructions for frames: what could be asked of the robot in this very scene, and what must be refused.

The same image is given several instructions, mostly not the one that the robot was carrying out: other words want
other actions, which makes the model listen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla_ros import words
from vla_ros.referring import NONE, Kind, Phrase, by_kind, phrase, whole_names
from vla_ros.sim.tasks import TASKS
from vla_ros.sim.tasks.held_out import HELD_OUT_PAIRS
from vla_ros.sim.tasks.layout import draw_until
from vla_ros.sim.tasks.wordings import SPATIAL
from vla_ros.sim.world import COLOURS, CONTAINERS, FLAT_TOPS, MOVABLE, OBJECT_COLOURS, RELATIONS, SHAPES
from vla_ros.synonyms import one_of, synonyms
from vla_ros.training.recording import DIRECTIONS

ABSENT, REFUSED = 0.12, 0.06  # shares of the instructions: about things that are not there; impossible or nonsense
INVENTED = 0.2  # share of what is not there that there is not at all
OWN = 0.3  # share of the images whose first instruction is the one being carried out
STACKABLE = ("cube", "cylinder", "cone")
CANONICAL = 0.25  # share of the objects that are plainly called 'red cube': what they are called else is harder
ROUGH = 0.25  # share of the wordings with typos and the like
FILLED = 0.15  # share with a word that there is not, where it names nothing: 'zorply touch the red cube'
# How often a family is drawn, 1 if it is not here: seldom what is learnt at once, often what few scenes allow.
WEIGHTS = {"home": 0.3, "stop": 0.3, "away": 0.6, "next_to": 1.8, "stack": 3.0, "place": 4.0}


NOTHING = ("", "")  # a kind


@dataclass(frozen=True)
class Asked:
    """One instruction. verdict: act, absent, impossible or nonsense; target, reference: object, NONE: not named;
    target_there, reference_there: False for what is named and absent; direction, relation: keys; marks: objects by
    whose places the words tell where target and reference are; named: their kinds, '' for what has none, where these
    alone name them."""

    text: str
    verdict: str
    family: str = ""
    target: int = NONE
    reference: int = NONE
    direction: str = ""
    relation: str = ""
    target_there: bool = True
    reference_there: bool = True
    marks: tuple[int, int] = (NONE, NONE)
    named: tuple[Kind, Kind] = (NOTHING, NOTHING)


@dataclass(frozen=True)
class View:
    """One frame's objects: kinds (shape, colour) by name ('': it has none), positions (M, 3) [m]; and what the robot
    was doing."""

    kinds: list[tuple[str, str]]
    positions: np.ndarray
    family: str
    target: int
    reference: int
    direction: str
    relation: str

    @classmethod
    def of(cls, f: dict[str, np.ndarray], row: int) -> View:
        count = int((f["shape"][row] >= 0).sum())
        kinds = [(SHAPES[s] if s < len(SHAPES) else "", tuple(COLOURS)[c] if c >= 0 else "")
                 for s, c in zip(f["shape"][row][:count], f["colour"][row][:count], strict=True)]
        return cls(kinds, f["objects"][row][:count], str(f["task"][row]), int(f["target"][row]),
                   int(f["reference"][row]), DIRECTIONS[f["direction"][row]], RELATIONS[f["relation"][row]])

    def of_shapes(self, shapes, but: int = NONE) -> list[int]:
        return [i for i, (shape, _) in enumerate(self.kinds) if shape in shapes and i != but and self.apart(i)]

    def apart(self, index: int) -> bool:
        """Whether it can be told to be moved: where its colour has no name, its shape has to set it apart."""
        return all(self.kinds[index]) or bool(self.kinds[index][0]) and any(by_kind(self.kinds, index))


class Asker:
    """Draws instructions of one robot's families.

    templates: family -> wordings; focus: share of the instructions about the object that the robot was at work on. The
    last centimetres are where actions must be exact, and a random object is hardly ever that near.
    """

    def __init__(self, robot: str, templates=None, focus: float = 0.0):
        self.families = [name for name, task in TASKS.items() if task.robot == robot]
        self.templates, self.focus = templates, focus
        weights = np.array([WEIGHTS.get(family, 1.0) for family in self.families])
        self.drawn = weights / weights.sum()
        self.spatial = any(family in SPATIAL for family in self.families)

    def ask(self, rng: np.random.Generator, view: View, first: bool) -> Asked:
        """first: the first instruction on an image is often the robot's own."""
        if first and rng.random() < OWN and all(view.apart(i) for i in (view.target, view.reference) if i != NONE):
            return self._word(rng, view, view.family, view.target, view.reference, view.direction, view.relation)
        if rng.random() < REFUSED:
            kind = "nonsense" if rng.random() < 0.4 else "impossible"
            text = draw_until(lambda: words.refused_instruction(kind, rng), lambda text: not names_held_out(text))
            return Asked(self._rough(rng, text), kind)
        family, target, reference, direction, relation = self._draw(rng, view)
        if rng.random() < ABSENT:
            return self._absent(rng, view, family, target, reference, direction, relation)
        return self._word(rng, view, family, target, reference, direction, relation)

    def _draw(self, rng, view: View) -> tuple[str, int, int, str, str]:
        """A family that this scene allows, and its objects."""
        focused = view.target >= 0 and rng.random() < self.focus
        while True:
            family = self.families[rng.choice(len(self.families), p=self.drawn)]
            target, reference, direction, relation = NONE, NONE, "", ""
            if family in ("home", "stop"):
                return family, target, reference, direction, relation
            options = view.of_shapes(STACKABLE if family == "stack" else MOVABLE)
            if not options:
                continue
            target = view.target if focused and view.target in options else pick(rng, options)
            if family == "push":
                direction = pick(rng, DIRECTIONS[1:])
            if family in REFERENCES:
                shapes, relations = REFERENCES[family]
                others = view.of_shapes(shapes, target)
                if not others:
                    continue
                focused_too = focused and view.reference in others
                reference, relation = view.reference if focused_too else pick(rng, others), pick(rng, relations)
            return family, target, reference, direction, relation

    def _word(self, rng, view: View, family, target, reference, direction, relation) -> Asked:
        """Where one family's objects are named by where they are, any family's may be: that is hard to learn, and each
        frame stands for itself."""
        def name(index: int) -> Phrase:
            if index == NONE:
                return Phrase("")
            return phrase(rng, view.kinds, view.positions[:, :2], index, self.spatial, CANONICAL)
        o, r = name(target), name(reference)
        text = words.instruction(family, rng, o=o.text, r=r.text, d=direction or relation, templates=self.templates)
        return Asked(self._rough(rng, text), "act", family, target, reference, direction, relation,
                     marks=(o.mark, r.mark), named=tuple(
                         NOTHING if said.placed or index == NONE else view.kinds[index]
                         for said, index in ((o, target), (r, reference))))

    def _absent(self, rng, view: View, family, target, reference, direction, relation) -> Asked:
        """As drawn, but one of its objects is not in the scene."""
        if family in ("home", "stop"):
            return self._word(rng, view, family, target, reference, direction, relation)
        lacks_reference = reference != NONE and rng.random() < 0.4
        if lacks_reference and family == "place":
            missing = [c for c in CONTAINERS if not view.of_shapes((c,))]
            lacks_reference = bool(missing)
        o = words.refer(rng, view.kinds, view.positions[:, :2], target, spatial=False)
        r = words.refer(rng, view.kinds, view.positions[:, :2], reference, spatial=False) if reference != NONE else ""
        named = [NOTHING if index == NONE else view.kinds[index] for index in (target, reference)]
        if lacks_reference and family == "place":
            r = pick(rng, missing)
            named[1] = (r, "")
        elif lacks_reference:
            r, named[1] = absent_words(rng, view.kinds)
        else:
            o, named[0] = absent_words(rng, view.kinds)
        text = words.instruction(family, rng, o=o, r=r, d=direction or relation, templates=self.templates)
        return Asked(self._rough(rng, text), "absent", family, target, reference, direction, relation,
                     target_there=lacks_reference, reference_there=not lacks_reference, named=tuple(named))

    @staticmethod
    def _rough(rng, text: str) -> str:
        if rng.random() < FILLED:
            word = words.invented(rng) + pick(rng, ("ly", "ly", ""))
            text = pick(rng, (f"{word} {text}", f"{word}, {text}", f"{text} {word}", f"{text}, {word}"))
        return words.perturb(text, rng) if rng.random() < ROUGH else text


# What the reference may be, and how the object is to stand to it, by family.
REFERENCES = {"place": (CONTAINERS, ("in",)), "next_to": (MOVABLE, tuple(r for r in RELATIONS[2:] if "top" not in r)),
              "stack": (FLAT_TOPS, ("on top of",))}


def pick(rng: np.random.Generator, options):
    return options[int(rng.integers(len(options)))]


def names_held_out(text: str) -> bool:
    """Whether a text names one of HELD_OUT_PAIRS. Training never does: they must not come to mean 'not there'."""
    said = f" {words.plain(text)}"
    return any(f" {name}" in said for kind in HELD_OUT_PAIRS for name in whole_names(kind))


def absent_words(rng: np.random.Generator, kinds: list[Kind]) -> tuple[str, Kind]:
    """Words for a movable thing that is not in the scene, mostly sharing shape or colour with one that is; its kind.

    Pairs that are kept out of training are not named either: they must not come to mean 'not there'. A word that there
    is not names nothing that is there. Where nothing has a whole name, a shape is named that there is not.
    """
    movable = [kind for kind in kinds if kind[0] in MOVABLE]
    if movable and not any(map(all, movable)):
        lacking = [shape for shape in MOVABLE if shape not in dict(movable)]
        if not lacking:
            return words.invented(rng), NOTHING
        shape = pick(rng, lacking)
        return one_of(rng, synonyms().nouns(shape)), (shape, "")
    if rng.random() < INVENTED:
        colour = "" if rng.random() < 0.6 else pick(rng, OBJECT_COLOURS)
        return f"{colour} {words.invented(rng)}".strip(), ("", colour)
    while True:
        shape, colour = pick(rng, MOVABLE), pick(rng, OBJECT_COLOURS)
        if movable and rng.random() < 0.7:
            near = pick(rng, movable)
            shape, colour = (near[0], colour) if rng.random() < 0.5 else (shape, near[1])
        if (shape, colour) not in kinds and (shape, colour) not in HELD_OUT_PAIRS:
            return words.object_words(shape, colour, rng), (shape, colour)
