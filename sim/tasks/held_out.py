"""Kinds of objects that training never shows, so that an evaluation can tell whether colour and shape are understood
apart."""

from __future__ import annotations

from collections.abc import Iterable

from vla_ros.sim.world import SceneObject

HELD_OUT_PAIRS = (  # shape, colour: each of the oldest colours once
    ("cube", "purple"), ("cylinder", "orange"), ("ball", "green"), ("cone", "blue"), ("cylinder", "yellow"),
    ("ball", "red"),
)


def has_held_out(objects: Iterable[SceneObject]) -> bool:
    """Whether a scene shows one of HELD_OUT_PAIRS: no layout does."""
    return any((thing.shape, thing.colour) in HELD_OUT_PAIRS for thing in objects)
