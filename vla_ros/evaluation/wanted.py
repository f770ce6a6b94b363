"""From words to a scene in which they make sense: the task whose wording they are, and a seed with their object."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vla_ros.sim.tasks import TASKS, Task
from vla_ros.sim.tasks.wordings import DIRECTIONS, TEMPLATES
from vla_ros.sim.world import COLOURS, SHAPES, Scene

TRIES = 3000  # layouts; one object of one direction is in one of about 70


@dataclass(frozen=True)
class Wanted:
    """What an instruction asks for. direction: a key of DIRECTIONS, or empty."""

    task: str
    colour: str
    shape: str
    direction: str = ""

    def fits(self, scene: Scene) -> bool:
        """Whether the scene's own goal is the same."""
        target = scene.objects[scene.target]
        return (target.colour, target.shape, scene.direction) == (self.colour, self.shape, self.direction)


def tidy(text: str) -> str:
    """Lower case, single spaces, no closing punctuation."""
    return " ".join(text.lower().split()).rstrip(" .!")


def understand(text: str, tasks: Sequence[str] = tuple(TASKS)) -> Wanted | None:
    """What `text` asks for, in the first of `tasks` that has such a wording; None when none has."""
    for task in tasks:
        for template in TEMPLATES[task]:
            match = pattern(template).fullmatch(tidy(text))
            if match:
                found = match.groupdict()
                direction = next((d for d, words in DIRECTIONS.items() if found.get("d") in words), "")
                return Wanted(task, found["colour"], found["shape"], direction)
    return None


def pattern(template: str) -> re.Pattern[str]:
    """A wording as a regular expression with groups colour, shape and, where it has one, d."""
    directions = sorted((word for words in DIRECTIONS.values() for word in words), key=len, reverse=True)
    filled = {"{o}": f"(?P<colour>{'|'.join(COLOURS)}) (?P<shape>{'|'.join(SHAPES)})",
              "{d}": f"(?P<d>{'|'.join(directions)})"}
    return re.compile("".join(filled.get(piece, re.escape(piece)) for piece in re.split(r"(\{[od]\})", template)))


def find_seed(task: Task, wanted: Wanted, first: int) -> int | None:
    """The first seed from `first` on whose layout has the wanted goal; None when there is none among many."""
    seeds = range(first, first + TRIES)
    return next((seed for seed in seeds if wanted.fits(task.layout(np.random.default_rng(seed)))), None)
