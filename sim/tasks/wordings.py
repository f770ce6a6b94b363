"""Every wording that the tasks may use, as data: {o} is the object, {d} the direction."""

from __future__ import annotations

import numpy as np

TEMPLATES = {
    "reach": (
        "touch the {o}", "reach the {o}", "reach for the {o}", "go to the {o}", "move to the {o}", "tap the {o}",
        "put your fingers on the {o}", "touch the top of the {o}", "please touch the {o}", "poke the {o}",
    ),
    "push": (
        "push the {o} {d}", "move the {o} {d}", "slide the {o} {d}", "shove the {o} {d}", "nudge the {o} {d}",
        "push {d} the {o}", "please push the {o} {d}", "make the {o} go {d}", "shift the {o} {d}",
    ),
    "pick": (
        "pick up the {o}", "grasp the {o}", "lift the {o}", "pick the {o} up", "grab the {o}", "take the {o}",
        "raise the {o}", "lift up the {o}", "please pick up the {o}", "get the {o}",
    ),
    "drive": (
        "drive to the {o}", "go to the {o}", "head to the {o}", "drive up to the {o}", "move to the {o}",
        "approach the {o}", "roll to the {o}", "please drive to the {o}", "stop in front of the {o}",
    ),
}
DIRECTIONS = {
    "left": ("to the left", "left", "leftwards"),
    "right": ("to the right", "right", "rightwards"),
    "forward": ("forward", "away from you", "forwards"),
    "back": ("back", "towards you", "backwards"),
}


def instruction(family: str, object_words: str, direction: str, rng: np.random.Generator) -> str:
    """A random wording; `direction` is a key of DIRECTIONS, or empty."""
    template = TEMPLATES[family][rng.integers(len(TEMPLATES[family]))]
    synonyms = DIRECTIONS.get(direction, ("",))
    return template.format(o=object_words, d=synonyms[rng.integers(len(synonyms))])
