"""The instruction of a scene, in words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vla_ros import words
from vla_ros.sim.world import SceneObject

SPATIAL = ("reach", "pick", "away")  # families whose object may be named by where it is: it stays there


def wording(rng: np.random.Generator, family: str, objects: Sequence[SceneObject], target: int = -1,
            reference: int = -1, key: str = "", templates=None) -> str:
    """A random instruction. target, reference: indices of objects, -1 for none; key: a direction or a relation;
    templates: as for words.instruction."""
    kinds = [(thing.shape, thing.colour) for thing in objects]
    positions = np.array([thing.position[:2] for thing in objects])

    def named(index: int) -> str:
        return words.refer(rng, kinds, positions, index, spatial=family in SPATIAL) if index >= 0 else ""

    return words.instruction(family, rng, o=named(target), r=named(reference), d=key, templates=templates)
