"""From words to a scene in which they make sense: the task whose wording they are, and a seed with their objects."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from vla_ros.referring import Kind, whole_names
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
    said, known = plain(text), names()
    form, kinds = name_pattern().sub("{}", said), [known[name] for name in name_pattern().findall(said)]
    fitting = [Wanted(task, *(dict(zip(slots, kinds, strict=True)).get(slot) for slot in "or"), key)
               for task, slots, key in forms().get(form, ())
               if len({*zip(slots, kinds, strict=True)}) == len({*slots})]  # the same object wherever it is named
    possible = [wanted for task in tasks for wanted in fitting if wanted.task == task and wanted.possible]
    return possible[0] if possible else None


@cache
def names() -> dict[str, Kind]:
    """Everything that an object may be called, with colour and shape."""
    return {plain(name): kind for kind in synonyms().kinds() for name in whole_names(kind)}


@cache
def name_pattern() -> re.Pattern[str]:
    return re.compile(rf"\b(?:{'|'.join(sorted(names(), key=len, reverse=True))})\b")


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
