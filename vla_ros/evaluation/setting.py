"""What an episode is made of, as a condition sets it: scene, looks, clock, camera, and what counts as right."""

from __future__ import annotations

from dataclasses import dataclass

from vla_ros.sim.appearance import PLAIN, Appearance
from vla_ros.sim.tasks import Task
from vla_ros.sim.world import Scene

DONE, REFUSED, STILL = "done", "refused", "still"  # right is: the predicate held; a refusal; no motion
LIVE, FROZEN, BLACK = "live", "frozen", "black"  # what the cameras deliver: pictures, the first one for ever, nothing


@dataclass(frozen=True)
class Change:
    """From `after` [s] on, or (None) when what was told first is done: the words of `scene`, judged by `task`."""

    after: float | None
    task: Task
    scene: Scene


@dataclass(frozen=True)
class Setting:
    """task: whose predicate judges the scene; latency [s]: injected under a running clock, None: the clock waits."""

    task: Task
    scene: Scene
    appearance: Appearance = PLAIN
    latency: float | None = None
    pictures: str = LIVE
    right: str = DONE
    change: Change | None = None
