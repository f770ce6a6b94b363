"""Many robots at once that move exactly as they are told: what practice.py lets the model act in.

No image and no physics: kinematics alone (sim/motion.py), so a thousand episodes cost what one costs in the simulator.
N robots; positions [m].
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from vla_ros.profile import RobotProfile
from vla_ros.sim import motion
from vla_ros.sim.experts import ArmStates, arm_chunk, base_chunk
from vla_ros.sim.experts.arm import after_step, arm_action
from vla_ros.sim.motion import Solids
from vla_ros.sim.tasks import drive, layout
from vla_ros.sim.world import CONTAINERS, SHAPES, half_height

KNOCK = 0.001  # [m] by which every step of an arm misses
SLIP, MISHAP = (0.002, 0.012), 0.2  # [m] by which what is let go comes to lie aside, usually and in a share of cases
LAG = (0.85, 1.0)  # share of a commanded step that an arm does
HELD, NEAR = 0.2, 0.3  # shares of the arms that begin with the object in hand, and close to it
CONTAINER_INDICES = [SHAPES.index(c) for c in CONTAINERS]


@dataclass(frozen=True)
class Wanted:
    """What N robots are told: family, direction (N, 2), relation (N,) as ArmStates has them; shape, reference_shape
    (N,): indices into SHAPES."""

    family: np.ndarray
    direction: np.ndarray
    relation: np.ndarray
    shape: np.ndarray
    reference_shape: np.ndarray

    def take(self, rows: np.ndarray) -> Wanted:
        return Wanted(*(getattr(self, f.name)[rows] for f in fields(self)))

    def put(self, rows: np.ndarray, others: Wanted) -> None:
        for f in fields(self):
            getattr(self, f.name)[rows] = getattr(others, f.name)

    @classmethod
    def nothing(cls, count: int) -> Wanted:
        zeros = np.zeros(count, int)
        return cls(zeros, np.zeros((count, 2)), zeros.copy(), zeros.copy(), zeros.copy())


class Arms:
    """N arms, each with the objects that its instruction names."""

    def __init__(self, profile: RobotProfile, count: int):
        self.profile, self.count = profile, count
        self.box = np.array([profile.workspace.min, profile.workspace.max])
        zeros = np.zeros(count)
        self.states = ArmStates(zeros, np.zeros((count, 3)), zeros, np.zeros((count, 3)), zeros, zeros,
                                np.zeros((count, 2)), np.zeros((count, 3)), zeros, zeros, zeros).arrays()
        self.lag = np.ones((count, 1))

    def renew(self, rows: np.ndarray, wanted: Wanted, rng: np.random.Generator) -> None:
        """New scenes and starts for some of the arms."""
        n, s = len(rows), self.states
        contained = np.isin(wanted.reference_shape, CONTAINER_INDICES)[:, None]
        boxes = np.where(contained, np.array(layout.CONTAINER_BOX)[:, None], np.array(layout.TABLE_BOX)[:, None])
        reference = rng.uniform(*boxes)
        target = rng.uniform(*layout.TABLE_BOX, (16, n, 2))
        clear = np.linalg.norm(target - reference, axis=-1) > layout.SPACING[0]
        target = target[np.argmax(clear, axis=0), np.arange(n)]
        size = rng.uniform(*layout.TABLE_SIZES, n)
        containers = {SHAPES.index(kind): size for kind, (_, size) in layout.CONTAINER_KINDS.items()}
        reference_size = np.array([containers.get(int(k), 0.0) for k in wanted.reference_shape])
        reference_size = np.where(reference_size > 0, reference_size, rng.uniform(*layout.TABLE_SIZES, n))
        s.family[rows], s.direction[rows], s.relation[rows] = wanted.family, wanted.direction, wanted.relation
        s.shape[rows], s.size[rows] = wanted.shape, size
        s.reference_shape[rows], s.reference_size[rows] = wanted.reference_shape, reference_size
        s.target[rows] = np.column_stack([target, half_height(wanted.shape, size)])
        s.reference[rows] = np.column_stack([reference, half_height(wanted.reference_shape, reference_size)])
        self.lag[rows, 0] = rng.uniform(*LAG, n)
        self._start(rows, rng)

    def _start(self, rows: np.ndarray, rng: np.random.Generator) -> None:
        """Anywhere over the table, close to the object, or with the object in hand."""
        n, s = len(rows), self.states
        solids = Solids.of(s.shape[rows], s.size[rows])
        grip, kind = solids.grip_point(s.target[rows]), rng.random(n)
        ee = rng.uniform(*layout.START_BOX, (n, 3))
        beside = grip + rng.normal(0, [0.025, 0.025, 0.0], (n, 3)) + rng.uniform(0, 1, (n, 1)) * [0.0, 0.0, 0.1]
        ee = np.where((kind < NEAR + HELD)[:, None], beside, ee)
        gap = rng.uniform(0, layout.START_GAP, n)
        held = kind < HELD
        lifted = grip + rng.normal(0, [0.003, 0.003, 0.003], (n, 3)) + rng.uniform(0, 0.2, (n, 1)) * [0.0, 0.0, 1.0]
        spread = rng.uniform(*layout.TABLE_BOX, (n, 2))  # an object on its way may be anywhere
        lifted[:, :2] = np.where((rng.random(n) < 0.5)[:, None], spread, lifted[:, :2])
        ee = np.clip(np.where(held[:, None], lifted, ee), *self.box)
        target = s.target[rows]
        target[held] = (ee + s.target[rows] - grip)[held]
        target[:, 2] = np.maximum(target[:, 2], solids.half_height)
        s.target[rows], s.ee[rows] = target, ee
        s.gap[rows] = np.where(held, solids.width_at(ee, target), gap)

    def proprio(self) -> np.ndarray:
        """(N, 4) as observing.PROPRIOCEPTION has it."""
        return np.column_stack([self.states.ee, self.states.gap])

    def points(self) -> np.ndarray:
        """(N, 3, 3) target, reference and hand in the frame that the cameras are mounted in."""
        return np.stack([self.states.target, self.states.reference, self.states.ee], axis=1)

    def labels(self) -> np.ndarray:
        """The expert's chunks (N, T, 4)."""
        return arm_chunk(self.states, self.profile.action.horizon)

    def lead(self, steps: np.ndarray) -> None:
        """The expert moves each arm by so many steps (N,)."""
        for i in range(int(steps.max(initial=0))):
            self._move(arm_action(self.states), steps > i)

    def follow(self, chunks: np.ndarray, steps: np.ndarray, rng: np.random.Generator) -> None:
        """Each arm does the first steps (N,) of its chunk (N, T, 4), with what it lags and misses; and what it lets go
        does not come to rest exactly where it was let go."""
        for i in range(int(steps.max())):
            action = np.concatenate([chunks[:, i, :3] * self.lag + rng.normal(0, KNOCK, (self.count, 3)),
                                     np.clip(chunks[:, i, 3:], 0, 1)], axis=1)
            held, high = self._held(), self.states.target.copy()
            self._move(action, steps > i)
            self._slip(held & ~self._held(), high, rng)

    def _slip(self, let_go: np.ndarray, high: np.ndarray, rng: np.random.Generator) -> None:
        """high (N, 3): from where it was let go."""
        s, solids = self.states, Solids.of(self.states.shape, self.states.size)
        carrier = Solids.of(s.reference_shape, s.reference_size)
        aside = np.where(rng.random((self.count, 1)) < MISHAP, SLIP[1], SLIP[0])
        high[:, :2] = s.target[:, :2] + aside * rng.normal(0, 1, (self.count, 2))
        rest = np.column_stack([high[:, :2], solids.rest_height(high, s.reference, carrier)])
        s.target[let_go] = rest[let_go]

    def _held(self) -> np.ndarray:
        s = self.states
        return motion.grasps(s.ee, s.gap, s.target, Solids.of(s.shape, s.size))

    def _move(self, action: np.ndarray, rows: np.ndarray) -> None:
        s, action = self.states, action.copy()
        action[:, :3] = np.clip(s.ee + action[:, :3], *self.box) - s.ee
        after = after_step(s, action, Solids.of(s.shape, s.size), Solids.of(s.reference_shape, s.reference_size))
        for name in ("ee", "gap", "target"):
            getattr(s, name)[rows] = getattr(after, name)[rows]


class Bases:
    """N bases, each with the object that it is told to drive to."""

    def __init__(self, profile: RobotProfile, count: int):
        self.profile, self.count = profile, count
        self.target, self.size = np.zeros((count, 3)), np.zeros(count)  # the target in the frame of base_link
        self.twist = np.zeros((count, 2))

    def renew(self, rows: np.ndarray, wanted: Wanted, rng: np.random.Generator) -> None:
        n, limits = len(rows), self.profile.limits
        sizes = np.array([drive.SIZES.get(shape, (0.3, 0.3)) for shape in SHAPES])[wanted.shape]
        ahead = rng.uniform(np.where(rng.random(n) < 0.3, 0.9, drive.NEAREST), drive.FARTHEST)
        self.size[rows] = rng.uniform(sizes[:, 0], sizes[:, 1])
        height = half_height(wanted.shape, self.size[rows]) - motion.BASE_HEIGHT
        self.target[rows] = np.column_stack([ahead, ahead * rng.uniform(-drive.ASIDE, drive.ASIDE, n), height])
        moving = (rng.random(n) < 0.5)[:, None]
        self.twist[rows] = moving * rng.uniform([-0.1 * limits.v, -limits.w], [limits.v, limits.w], (n, 2))

    def proprio(self) -> np.ndarray:
        """(N, 2) as observing.PROPRIOCEPTION has it."""
        return self.twist

    def points(self) -> np.ndarray:
        """(N, 3, 3) target, and nothing for reference and hand."""
        return np.stack([self.target, np.zeros_like(self.target), np.zeros_like(self.target)], axis=1)

    def labels(self) -> np.ndarray:
        """The expert's chunks (N, T, 2)."""
        return base_chunk(self.target[:, :2], self.size / 2, self.twist, self.profile.action.horizon,
                          self.profile.name)

    def lead(self, steps: np.ndarray) -> None:
        """The expert moves each base by so many steps (N,)."""
        for i in range(int(steps.max(initial=0))):
            self._move(base_chunk(self.target[:, :2], self.size / 2, self.twist, 1, self.profile.name)[:, 0], steps > i)

    def follow(self, chunks: np.ndarray, steps: np.ndarray, rng: np.random.Generator) -> None:
        """Each base does the first steps (N,) of its chunk (N, T, 2)."""
        for i in range(int(steps.max())):
            self._move(chunks[:, i] * rng.uniform(0.95, 1.02, (self.count, 1)), steps > i)

    def _move(self, twist: np.ndarray, rows: np.ndarray) -> None:
        twist = motion.limit_twist(twist, self.twist, self.profile.limits, self.profile.action.period)
        x, y, yaw = motion.drive(np.zeros((self.count, 3)), twist, self.profile.action.period).T
        offset, c, s = self.target[:, :2] - np.column_stack([x, y]), np.cos(yaw), np.sin(yaw)
        seen = np.column_stack([c * offset[:, 0] + s * offset[:, 1], c * offset[:, 1] - s * offset[:, 0]])
        self.target[rows, :2], self.twist[rows] = seen[rows], twist[rows]
