"""Videos of episodes that went wrong: each is run again, with the scene and what the model saw side by side."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vla_ros.evaluation.evaluate import USUAL, Episode, Options, run
from vla_ros.evaluation.rollout import Outcome
from vla_ros.evaluation.video import side_by_side, write_mp4
from vla_ros.sim.overview import overview

RATE = 10  # [frames a simulated second]
WIDTH, HEIGHT = 320, 240  # [px] of the overview


@dataclass(frozen=True)
class Film:
    """outcome: of the filmed run; mp4: the file's bytes."""

    outcome: Outcome
    mp4: bytes


def failures(outcomes: Sequence[Outcome], most: int) -> list[Episode]:
    """Up to `most` episodes that went wrong, in turn one of each condition and family, of those that show anything."""
    cells: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in outcomes:
        if not outcome.success and outcome.seconds > 0:
            cells.setdefault((outcome.condition, outcome.task), []).append(outcome)
    depth = max(map(len, cells.values()), default=0)
    turns = [cell[i] for i in range(depth) for cell in cells.values() if i < len(cell)]
    return [Episode(o.task, o.seed, o.condition) for o in turns[:most]]


def film(policy: str, episode: Episode, options: Options = USUAL) -> Film:
    """Runs an episode again, filmed. Under a running clock with measured inference it may end otherwise than before."""
    frames: list[np.ndarray] = []

    def shoot(world, tick) -> None:
        if world.stamp * RATE // 10**9 == len(frames):
            seen = [image for _, image in sorted(world.observe().images.items())][:1]
            frames.append(side_by_side([overview(world, WIDTH, HEIGHT), *seen], HEIGHT))

    outcome = run(policy, episode, options, shoot)
    return Film(outcome, encoded(frames))


def encoded(frames: Sequence[np.ndarray]) -> bytes:
    """b"" without frames."""
    if not frames:
        return b""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "episode.mp4"
        write_mp4(file, frames, RATE)
        return file.read_bytes()
