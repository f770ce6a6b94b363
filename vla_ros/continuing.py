"""What of a chunk is still to be executed when the next is asked for: a policy may be given it to go on from.

Real-time chunking (Black et al. 2025, arXiv:2506.07339); the policies that can are in docs/seams.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from vla_ros.decoding import ROTATION, TRANSLATION, Waypoints, between, waypoints
from vla_ros.kinematics import rotation_vector
from vla_ros.spec import ActionSpec
from vla_ros.types import ActionChunk, Observation, Pose

# How far a hand may be behind its target: so many of the chunk's longest steps, as one is that begins to move late and
# catches up, and what is always near [m], [rad]. One that is further away was led elsewhere, or does not follow.
BEHIND, NEAR = 4, (0.01, 0.05)


@dataclass(frozen=True)
class Committed:
    """values (T, D): what is in force from an observation on, as the chunk that answers it would have to say it.

    left: rows that there are, at least 1; below them are zeros. frozen: those of them, the first, that are executed
    before the answer is there, whatever it says.
    """

    values: np.ndarray
    left: int
    frozen: int


class Committing:
    """The chunk of an episode that is in force, and where the robot was when it was observed.

    delay: [s] from an observation to its chunk on the robot, at most. execute_steps: of a chunk, before a newer one
    takes over. Both are told and not measured here, so that a recording gives the same chunks again.
    """

    def __init__(self, spec: ActionSpec, delay: float, execute_steps: int):
        self.spec, self.delay, self.execute_steps = spec, delay, execute_steps
        self._last: tuple[ActionChunk, Observation] | None = None

    def keep(self, chunk: ActionChunk, observation: Observation) -> None:
        """A chunk as it was answered. One that comes early is executed by nobody (nodes/commanding.py).

        Where the robot does not take one (its joint states of that moment are lost, say), another is in force than is
        known here, until another episode. Where nothing is dated, as behind `vla serve`, nothing goes on.
        """
        if self._last is not None and not chunk.refusal:
            running = self._last[0]
            steps = min(self.execute_steps, len(running.values))
            if 0 < chunk.stamp - running.stamp < steps * self.spec.period_ns:
                return
        self._last = None if chunk.refusal else (chunk, observation)

    def at(self, observation: Observation) -> Committed | None:
        """None where nothing is in force, or the hand is not where the chunk has led it."""
        if self._last is None:
            return None
        chunk, before = self._last
        since, end = (observation.stamp - chunk.stamp) / self.spec.period_ns, len(chunk.values)
        left = math.floor(end - since)
        if since <= 0 or left < 1:
            return None
        rows = since + np.arange(left + 1)  # [steps of the chunk] where the rows to be said begin and end
        values = np.zeros((self.spec.horizon, self.spec.dim))
        if self.spec.mode == "velocity":
            index, share = np.divmod(rows[:-1], 1)
            now, after = (chunk.values[np.minimum(index.astype(int) + i, end - 1)] for i in (0, 1))
            values[:left] = (1 - share[:, None]) * now + share[:, None] * after
        else:
            way = waypoints(chunk, before.ee_pose)
            poses = [pose_at(way, row) for row in rows]
            if not follows(observation.ee_pose, poses[0], way, bool(set(ROTATION) & set(self.spec.names))):
                return None
            write_steps(values, [observation.ee_pose, *poses[1:]], self.spec.names)
            if "gripper" in self.spec.names:
                column, index = self.spec.names.index("gripper"), (rows[:-1] + 0.5).astype(int)
                values[:left, column] = chunk.values[np.minimum(index, end - 1), column]
        return Committed(values, left, min(left, math.ceil(self.delay / self.spec.period - 1e-9)))


def write_steps(values: np.ndarray, poses: list[Pose], names: tuple[str, ...]) -> None:
    """The steps from pose to pose, into the first rows of values (T, D); the first makes up for what the hand is
    behind."""
    for row, (a, b) in enumerate(zip(poses, poses[1:], strict=False)):
        said = dict(zip((*TRANSLATION, *ROTATION), (
            *(b.position - a.position), *rotation_vector(b.rotation @ a.rotation.T)), strict=True))
        values[row] = [said.get(name, 0.0) for name in names]


def pose_at(way: Waypoints, row: float) -> Pose:
    index = min(int(row), len(way.positions) - 2)
    a, b = (Pose(way.positions[i], way.rotations[i]) for i in (index, index + 1))
    return between(a, b, row - index)


def follows(hand: Pose, wanted: Pose, way: Waypoints, turns: bool) -> bool:
    """turns: whether the way says anything of rotations."""
    lengths = np.linalg.norm(np.diff(way.positions, axis=0), axis=1)
    if np.linalg.norm(hand.position - wanted.position) > NEAR[0] + BEHIND * lengths.max():
        return False
    angles = [turn_between(a, b) for a, b in zip(way.rotations, way.rotations[1:], strict=False)]
    return not turns or turn_between(hand.rotation, wanted.rotation) <= NEAR[1] + BEHIND * max(angles)


def turn_between(a: np.ndarray, b: np.ndarray) -> float:
    """[rad] between two rotations (3, 3)."""
    return float(np.linalg.norm(rotation_vector(a.T @ b)))
