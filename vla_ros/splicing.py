"""How a newer chunk takes over from the one that runs: strategies by name, each a function of spans, moment and period.

It gives every chunk that has a step in force its share of what is commanded, oldest first; the shares add up to 1.
What is mixed is what chunks command, poses in the base frame or velocities: their values, deltas from different
observations, must not be. The gripper is never mixed.

switch:   the newest alone.
ensemble: all of them, older ones a little more (temporal ensembling, Zhao et al. 2023, arXiv:2304.13705).
blend:    the newest takes over from those before within BLEND_STEPS steps, or as many as those have left.

Real-time chunking (Black et al. 2025, arXiv:2506.07339) has the policy itself go on from the steps that are already
committed. Most policies here cannot: they read an observation alone and give all steps at once, or word by word. pi0,
which integrates a flow, can (vlm/flow.py); what it answers is spliced like any chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from vla_ros.errors import UnknownNameError

DECAY = 0.01  # of an ensemble's weights from one chunk to the next newer one, as in the paper
BLEND_STEPS = 2  # action steps


@dataclass(frozen=True)
class Span:
    """When a chunk is in force. since: [ns] of its first command; end: [ns] when its steps are over."""

    since: int
    end: int


Splice = Callable[[Sequence[Span], int, int], list[float]]  # spans of at least one chunk, now [ns], step's period [ns]


def switch(spans: Sequence[Span], now: int, period: int) -> list[float]:
    return [0.0] * (len(spans) - 1) + [1.0]


def ensemble(spans: Sequence[Span], now: int, period: int) -> list[float]:
    weights = np.exp(-DECAY * np.arange(len(spans)))
    return (weights / weights.sum()).tolist()


def blend(spans: Sequence[Span], now: int, period: int) -> list[float]:
    """Where a third chunk comes before the second has taken over, it takes over from their mix."""
    shares = [1.0]
    for before, span in pairwise(spans):
        length = min(BLEND_STEPS * period, before.end - span.since)
        taken = smooth((now - span.since) / length)
        shares = [share * (1 - taken) for share in shares] + [taken]
    return shares


def smooth(x: float) -> float:
    """From 0 to 1 for x from 0 to 1, flat at both ends: no step of velocity where a crossfade begins and ends."""
    x = min(max(x, 0.0), 1.0)
    return x * x * (3 - 2 * x)


SPLICES: dict[str, Splice] = {"switch": switch, "ensemble": ensemble, "blend": blend}
DEFAULT = "blend"  # docs/seams.md has what speaks for it


def get_splice(name: str) -> Splice:
    """A strategy by name, or UnknownNameError."""
    if name not in SPLICES:
        raise UnknownNameError("splice", name, SPLICES)
    return SPLICES[name]
