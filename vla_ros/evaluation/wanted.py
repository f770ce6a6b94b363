"""From words to a scene in which they make sense: the task whose wording they are, and a seed with their objects."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from vla_ros.referring import Kind, by_kind, by_place, whole_names
from vla_ros.sim.tasks import TASKS, Task
from vla_ros.sim.tasks.held_out import HELD_OUT_PAIRS
from vla_ros.sim.world import CONTAINERS, FLAT_TOPS, MOVABLE, RELATIONS, Scene
from vla_ros.synonyms import synonyms
from vla_ros.words import HELD_OUT, TRAIN, load_wordings, plain

TRIES = 10_000  # layouts, some seconds; two given objects in a given relation are in one of about 2000
REFERENCES = {"place": CONTAINERS, "next_to": MOVABLE, "stack": FLAT_TOPS}  # shapes of what the object is put to
KEYS = {"push": tuple(synonyms().directions), "place": ("in",), "next_to": RELATIONS[2:-1], "stack": ("on top of",)}


@dataclass(frozen=True)
class Wanted:
    """What an instruction asks for.

    target, reference: (shape, colour), the colour of a container empty; None where the instruction names none.
    key: a direction or a relation, or empty.
    """

    task: str
    target: Kind | None = None
    reference: Kind | None = None
    key: str = ""

    @property
    def possible(self) -> bool:
        """Whether the family has to do with such objects."""
        if self.reference and (self.reference[0] not in REFERENCES[self.task] or self.reference == self.target):
            return False
        return self.target is None or self.target[0] in MOVABLE

    def fits(self, scene: Scene) -> bool:
        """Whether the scene's own goal is the same."""
        goal = kind_of(scene, scene.target), kind_of(scene, scene.reference), scene.relation or scene.direction
        return goal == (self.target, self.reference, self.key)


def kind_of(scene: Scene, index: int) -> Kind | None:
    if index < 0:
        return None
    thing = scene.objects[index]
    return thing.shape, "" if thing.shape in CONTAINERS else thing.colour


def understand(text: str, tasks: Sequence[str] = tuple(TASKS)) -> Wanted | None:
    """What `text` asks for, in the first of `tasks` that has such a wording for such objects; None when none has.

    Objects are to be named by colour and shape, or as a container; case and punctuation do not matter.
    """
    return next((wanted for task, o, r, key in readings(text, names(), name_pattern(), tasks)
                 if (wanted := Wanted(task, o, r, key)).possible), None)


def goal_in(text: str, scene: Scene, positions: np.ndarray, tasks: Sequence[str]) -> tuple[str, Scene] | None:
    """The task, and the scene with the goal that `text` asks for among the objects that are there, named by kind or by
    place; None when no wording of `tasks` does. positions: (M, 2) [m] of the objects now, in the robot's frame; empty
    where it goes about, and 'leftmost' has no meaning that stays."""
    kinds = [(thing.shape, thing.colour) for thing in scene.objects]
    known = {}
    for index in range(len(kinds)):
        placed = by_place(kinds, positions, index) if len(positions) else []
        known |= {plain(name): index for group in by_kind(kinds, index) for name in group}
        known |= {plain(named.text): index for group in placed for named in group}
    for task, o, r, key in readings(text, known, pattern_of(known), tasks):
        target, reference = (-1 if index is None else index for index in (o, r))
        if Wanted(task, kind_of(scene, target), kind_of(scene, reference), key).possible:
            direction, relation = (key, "") if task == "push" else ("", key)
            return task, replace(scene, target=target, reference=reference, direction=direction, relation=relation,
                                 instruction=text)
    return None


def readings(text: str, known: Mapping, pattern: re.Pattern[str], tasks: Sequence[str]) -> Iterable[tuple]:
    """What `text` may mean, in the order of `tasks`: task, what o and r stand for in `known` or None, and the key."""
    said = plain(text)
    form, found = pattern.sub("{}", said), [known[name] for name in pattern.findall(said)]
    fitting = [(task, dict(zip(slots, found, strict=True)), key) for task, slots, key in forms().get(form, ())
               if len({*zip(slots, found, strict=True)}) == len({*slots})]  # the same object wherever it is named
    for wanted in tasks:
        yield from ((task, of.get("o"), of.get("r"), key) for task, of, key in fitting if task == wanted)


@cache
def names() -> dict[str, Kind]:
    """Everything that an object may be called, with colour and shape."""
    return {plain(name): kind for kind in synonyms().kinds() for name in whole_names(kind)}


@cache
def name_pattern() -> re.Pattern[str]:
    return pattern_of(names())


def pattern_of(known: Iterable[str]) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{'|'.join(sorted(known, key=len, reverse=True))})\b")


@cache
def forms() -> dict[str, list[tuple[str, str, str]]]:
    """The shipped wordings, with {} for each object, to those that they are of: task, o and r in order, key."""
    found: dict[str, list[tuple[str, str, str]]] = {}
    for table in map(load_wordings, (TRAIN, HELD_OUT)):
        for task in TASKS:
            for template in table.get(task, ()):
                slots = "".join(re.findall(r"\{([or])\}", template))
                bare = template.replace("{o}", "{}").replace("{r}", "{}")
                for key in KEYS.get(task, ("",)):
                    for phrase in phrases(key) if "{d}" in bare else ("",):
                        same = found.setdefault(plain(bare.replace("{d}", phrase)), [])
                        same += [(task, slots, key)] * ((task, slots, key) not in same)
    return found


def phrases(key: str) -> set[str]:
    """All words for a direction or a relation, whatever the container."""
    containers = synonyms().in_container if key == "in" else ()
    return {phrase for reference in ("", *containers) for phrase in synonyms().prepositions(key, reference)}


def find_seed(task: Task, wanted: Wanted, first: int) -> int | None:
    """The first seed from `first` on whose layout has the wanted goal; None when there is none among many."""
    if {wanted.target, wanted.reference} & set(HELD_OUT_PAIRS):
        return None  # no layout shows them
    seeds = range(first, first + TRIES)
    return next((seed for seed in seeds if wanted.fits(task.layout(np.random.default_rng(seed)))), None)
