"""From the numbers that a policy says to those of an ActionSpec: adapters, each an inverse pair, one after the other.

T steps, D numbers of a step. Numbers are laid out as position (3), rotation (N, if there is one), the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.spatial.transform import Rotation

from vla_ros.errors import ConfigError, UnknownNameError
from vla_ros.spec import ActionSpec
from vla_ros.types import Pose

PLACE, TURN = slice(0, 3), slice(3, 6)
TURNS = ("droll", "dpitch", "dyaw")


class Adapter(Protocol):
    """backward(forward(x)) is x, up to rounding, and the other way round; str() is for the log.

    at: the end effector's pose at the observation, in the robot's base frame; only Steps reads it.
    """

    def forward(self, rows: np.ndarray, at: Pose | None) -> np.ndarray: ...

    def backward(self, rows: np.ndarray, at: Pose | None) -> np.ndarray: ...


@dataclass(frozen=True)
class Order:
    """Number i becomes what was number order[i]: (T, D) to (T, D). Of a hand's axes, or of joints."""

    order: tuple[int, ...]

    def __post_init__(self):
        if sorted(self.order) != list(range(len(self.order))):
            raise ConfigError(f"order {list(self.order)} must name each of 0 to {len(self.order) - 1} once")

    def __str__(self) -> str:
        return f"order {list(self.order)}"

    def forward(self, rows: np.ndarray, at: Pose | None = None) -> np.ndarray:
        return rows[:, self.order]

    def backward(self, rows: np.ndarray, at: Pose | None = None) -> np.ndarray:
        return rows[:, np.argsort(self.order)]


@dataclass(frozen=True)
class Affine:
    """Times scale, plus offset, both (D,): units, and a gripper's sign and range."""

    scale: tuple[float, ...]
    offset: tuple[float, ...]

    def __post_init__(self):
        if not np.isfinite([self.scale, self.offset]).all() or 0 in self.scale:
            raise ConfigError(f"scale {list(self.scale)} and offset {list(self.offset)} must be finite, scale not 0")

    def __str__(self) -> str:
        return f"scale {list(self.scale)}, offset {list(self.offset)}"

    def forward(self, rows: np.ndarray, at: Pose | None = None) -> np.ndarray:
        return rows * self.scale + self.offset

    def backward(self, rows: np.ndarray, at: Pose | None = None) -> np.ndarray:
        return (rows - self.offset) / self.scale


def to_six(turn: Rotation) -> np.ndarray:
    return turn.as_matrix()[:, :, :2].transpose(0, 2, 1).reshape(len(turn), 6)


def of_six(six: np.ndarray) -> Rotation:
    """The first two columns of a matrix (Zhou et al. 2019, arXiv:1812.07035), made orthogonal to each other."""
    x, y = six[:, :3], six[:, 3:]
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    y = y - (x * y).sum(1, keepdims=True) * x
    y = y / np.linalg.norm(y, axis=1, keepdims=True)
    return Rotation.from_matrix(np.stack([x, y, np.cross(x, y)], 2))


# By name: numbers, from them, to them. Euler: roll, pitch, yaw about fixed axes; a quaternion is x, y, z, w.
ROTATIONS: dict[str, tuple[int, Callable[[np.ndarray], Rotation], Callable[[Rotation], np.ndarray]]] = {
    "axis_angle": (3, Rotation.from_rotvec, Rotation.as_rotvec),
    "euler": (3, lambda said: Rotation.from_euler("xyz", said), lambda turn: turn.as_euler("xyz")),
    "quaternion": (4, Rotation.from_quat, lambda turn: turn.as_quat(canonical=True)),
    "rotation_6d": (6, of_six, to_six),
}


@dataclass(frozen=True)
class Turning:
    """A rotation of one kind to axis times angle [rad]: (T, 3 + N + ...) to (T, 6 + ...)."""

    kind: str

    def __post_init__(self):
        if self.kind not in ROTATIONS:
            raise UnknownNameError("rotation", self.kind, ROTATIONS)

    def __str__(self) -> str:
        return f"{self.kind} to axis times angle"

    @property
    def numbers(self) -> int:
        return ROTATIONS[self.kind][0]

    def forward(self, rows: np.ndarray, at: Pose | None = None) -> np.ndarray:
        _, read, _ = ROTATIONS[self.kind]
        end = 3 + self.numbers
        return np.hstack([rows[:, PLACE], read(rows[:, 3:end]).as_rotvec(), rows[:, end:]])

    def backward(self, rows: np.ndarray, at: Pose | None = None) -> np.ndarray:
        _, _, write = ROTATIONS[self.kind]
        return np.hstack([rows[:, PLACE], write(Rotation.from_rotvec(rows[:, TURN])), rows[:, 6:]])


@dataclass(frozen=True)
class Frame:
    """From the frame that a policy means to the robot's base. rotation: base_from_policy, axis times angle (3,) [rad];
    turns: whether there are rotations; absolute: whether they are poses, else steps about the frame's axes."""

    rotation: tuple[float, ...]
    turns: bool
    absolute: bool

    def __str__(self) -> str:
        return f"frame turned by {list(self.rotation)} rad"

    def forward(self, rows: np.ndarray, at: Pose | None = None) -> np.ndarray:
        return self._turned(rows, Rotation.from_rotvec(self.rotation))

    def backward(self, rows: np.ndarray, at: Pose | None = None) -> np.ndarray:
        return self._turned(rows, Rotation.from_rotvec(self.rotation).inv())

    def _turned(self, rows: np.ndarray, by: Rotation) -> np.ndarray:
        made = rows.copy()
        made[:, PLACE] = by.apply(rows[:, PLACE])
        if self.turns and self.absolute:
            made[:, TURN] = (by * Rotation.from_rotvec(rows[:, TURN])).as_rotvec()
        elif self.turns:
            made[:, TURN] = by.apply(rows[:, TURN])
        return made


@dataclass(frozen=True)
class Steps:
    """Poses in the base frame to steps from the observed one on: each the difference from the one before."""

    turns: bool

    def __str__(self) -> str:
        return "poses to steps"

    def forward(self, rows: np.ndarray, at: Pose | None) -> np.ndarray:
        made = rows.copy()
        made[:, PLACE] = np.diff(rows[:, PLACE], axis=0, prepend=at.position[None])
        if self.turns:
            poses = Rotation.concatenate([Rotation.from_matrix(at.rotation), Rotation.from_rotvec(rows[:, TURN])])
            made[:, TURN] = (poses[1:] * poses[:-1].inv()).as_rotvec()
        return made

    def backward(self, rows: np.ndarray, at: Pose | None) -> np.ndarray:
        made = rows.copy()
        made[:, PLACE] = at.position + np.cumsum(rows[:, PLACE], axis=0)
        turn = Rotation.from_matrix(at.rotation)
        for row in made if self.turns else ():
            turn = Rotation.from_rotvec(row[TURN]) * turn
            row[TURN] = turn.as_rotvec()
        return made


@dataclass(frozen=True)
class Parts:
    """A step to `count` shorter ones, (T, D) to (T * count, D). shared: (D,) whether the numbers are shared out among
    them, as distances are; a velocity, or a gripper, is the same in each."""

    count: int
    shared: tuple[bool, ...]

    def __str__(self) -> str:
        return f"each step in {self.count} parts"

    def forward(self, rows: np.ndarray, at: Pose | None = None) -> np.ndarray:
        return np.repeat(rows / np.where(self.shared, self.count, 1), self.count, axis=0)

    def backward(self, rows: np.ndarray, at: Pose | None = None) -> np.ndarray:
        """Where the parts of a step are not equal: the distance of all, and the last of what is not shared out."""
        steps = rows.reshape(-1, self.count, rows.shape[1])
        return np.where(self.shared, steps.sum(1), steps[:, -1])


@dataclass(frozen=True)
class Adapting:
    """What the numbers of a policy are before they are those of its action, in the order in which it is undone.

    order: for each number, which of the policy's it is. rotation: how turns are said. frame: base_from_policy, axis
    times angle (3,) [rad]. absolute: poses of the hand, not steps. period: [s] one of the policy's steps lasts.
    """

    order: tuple[int, ...] = ()
    rotation: str = "axis_angle"
    frame: tuple[float, ...] = ()
    absolute: bool = False
    period: float | None = None


@dataclass(frozen=True)
class Chain:
    """Adapters, the first of which reads what the policy says. shape: (T, D) of that."""

    adapters: tuple[Adapter, ...]
    shape: tuple[int, int]

    def forward(self, rows: np.ndarray, at: Pose | None) -> np.ndarray:
        for adapter in self.adapters:
            rows = adapter.forward(rows, at)
        return rows

    def backward(self, rows: np.ndarray, at: Pose | None) -> np.ndarray:
        for adapter in reversed(self.adapters):
            rows = adapter.backward(rows, at)
        return rows

    def told(self) -> tuple[str, ...]:
        return tuple(map(str, self.adapters))


def chain(said: Adapting, spec: ActionSpec, scale: Sequence[float] = (), offset: Sequence[float] = ()) -> Chain:
    """spec: what the numbers are in the end. Raises ConfigError or UnknownNameError for what cannot be done."""
    turns, count = all(name in spec.names for name in TURNS), parts(said, spec)
    turning = Turning(said.rotation)
    if said.absolute or said.frame or said.rotation != "axis_angle":
        expected = ("dx", "dy", "dz", *(TURNS if turns else ()))
        if spec.names[:len(expected)] != expected:
            raise ConfigError(f"poses, frames and rotations need names that begin with {', '.join(expected)}; they are "
                              f"{', '.join(spec.names)}")
    if said.rotation != "axis_angle" and not turns:
        raise ConfigError(f"rotation {said.rotation}: the action has no {', '.join(TURNS)}")
    if len(said.frame) not in (0, 3):
        raise ConfigError(f"frame must hold three numbers, has {len(said.frame)}")
    dim = spec.dim + turning.numbers - 3
    for name, given in (("order", said.order), ("scale", scale), ("offset", offset)):
        if len(given) not in (0, dim):
            raise ConfigError(f"{name} needs {dim} numbers, has {len(given)}")
    made: list[Adapter] = []
    made += [Order(said.order)] if said.order else []
    made += [Affine(tuple(scale or [1.0] * dim), tuple(offset or [0.0] * dim))] if scale or offset else []
    made += [turning] if said.rotation != "axis_angle" else []
    made += [Frame(said.frame, turns, said.absolute)] if said.frame else []
    made += [Steps(turns)] if said.absolute else []
    made += [Parts(count, tuple(spec.mode == "delta" and n != "gripper" for n in spec.names))] if count > 1 else []
    return Chain(tuple(made), (spec.horizon // count, dim))


def parts(said: Adapting, spec: ActionSpec) -> int:
    """Steps of the action in one of the policy's. Raises ConfigError unless they are whole."""
    ratio = 1.0 if said.period is None else said.period / spec.period
    count = round(ratio)
    if count < 1 or abs(ratio - count) > 1e-6 or spec.horizon % count:
        raise ConfigError(f"a step of {said.period} s must be whole steps of {spec.period} s, and the horizon "
                          f"{spec.horizon} whole ones of the policy's")
    return count
