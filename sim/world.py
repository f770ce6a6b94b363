"""The World: a simulator behind four verbs, and what it can tell about itself.

World frame: the arm's base frame (table top at z = 0), or the ground below a wheeled base (z = 0, x forward at yaw 0).
Dimension letters: M objects.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from vla_ros.profile import RobotProfile
from vla_ros.types import Command, JointState, Observation, frozen

if TYPE_CHECKING:
    from vla_ros.sim.appearance import Appearance
    from vla_ros.sim.tasks.task import Task

SHAPES = ("cube", "cylinder", "ball", "cone", "tray", "plate")
MOVABLE = SHAPES[:4]
CONTAINERS = ("tray", "plate")  # they stay where they are; at most one of each in a scene
FLAT_TOPS = ("cube", "cylinder")  # can carry another object
TALL = 1.45  # height over diameter of cylinder and cone: seen from the front they must not pass for cubes
CONE_TOP = 0.4  # a cone is cut off where its diameter is this share of its base's: a parallel gripper can hold it
TRAY = (0.011, 0.003, 0.005)  # [m] height of its rims, of its floor, and thickness of its rims
PLATE_HEIGHT = 0.006  # [m]
COLOURS = {  # RGB, 0 to 1
    "red": (0.85, 0.08, 0.08), "green": (0.10, 0.65, 0.15), "blue": (0.10, 0.25, 0.90),
    "yellow": (0.95, 0.85, 0.05), "purple": (0.55, 0.10, 0.70), "orange": (1.00, 0.45, 0.00),
    "pink": (1.00, 0.55, 0.75), "black": (0.10, 0.10, 0.10),
    "grey": (0.45, 0.47, 0.50), "white": (0.97, 0.97, 0.97),  # of the tray, of the plate
}
OBJECT_COLOURS = tuple(COLOURS)[:8]
# How an object is to lie to another; left, right, in front and behind as the robot sees it: +y, -y, -x, +x.
RELATIONS = ("", "in", "next to", "left of", "right of", "in front of", "behind", "on top of")

CORNERS = frozen([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
HALF_HEIGHTS = frozen([0.5, TALL / 2, 0.5, TALL / 2, 0.0, 0.0])  # in sizes
FLAT_HALF_HEIGHTS = frozen([0.0, 0.0, 0.0, 0.0, TRAY[0] / 2, PLATE_HEIGHT / 2])  # [m]
GRIP_WIDTHS = frozen([1.0, 1.0, 1.0, (1 + CONE_TOP) / 2, 1.0, 1.0])  # in sizes


def half_height(shape: np.ndarray, size: np.ndarray) -> np.ndarray:
    """[m] from the centre to the top of upright objects: shape index into SHAPES (...), size [m] (...)."""
    shape = np.asarray(shape)
    return HALF_HEIGHTS[shape] * np.asarray(size) + FLAT_HALF_HEIGHTS[shape]


def support_height(shape: np.ndarray, size: np.ndarray) -> np.ndarray:
    """[m] from the centre up to where another object rests: the top, but in a tray its floor. Shapes as above."""
    inside = np.where(np.asarray(shape) == SHAPES.index("tray"), TRAY[0] - TRAY[1], 0.0)
    return half_height(shape, size) - inside


def grip_width(shape: np.ndarray, size: np.ndarray) -> np.ndarray:
    """[m] between fingers that hold an object at the height of its centre. Shapes as above."""
    return GRIP_WIDTHS[np.asarray(shape)] * np.asarray(size)


UNSTRETCHED = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class SceneObject:
    """A thing to be named. colour: one of COLOURS, or '#rrggbb' where there is no word for it; size: edge or diameter
    [m]; position (3,) of its centre [m]; yaw [rad]; world frame. stretch along its own axes, and sides, where
    it is not round: of what is only to look at, has no word for its shape, and stays where it is."""

    shape: str
    colour: str
    size: float
    position: tuple[float, float, float]
    yaw: float = 0.0
    stretch: tuple[float, float, float] = UNSTRETCHED
    sides: int = 0

    @property
    def plain(self) -> bool:
        """Whether there is a word for its shape."""
        return self.stretch == UNSTRETCHED and not self.sides

    @property
    def words(self) -> str:
        return f"{self.colour} {self.shape}" if self.shape in MOVABLE and self.colour in COLOURS else self.shape

    @property
    def half_height(self) -> float:
        return float(half_height(SHAPES.index(self.shape), self.size)) * self.stretch[2]

    @property
    def support_height(self) -> float:
        return float(support_height(SHAPES.index(self.shape), self.size))

    def corners(self) -> np.ndarray:
        """(8, 3) [m] corners of the bounding box."""
        box = CORNERS * [self.size / 2, self.size / 2, self.half_height]
        c, s = np.cos(self.yaw), np.sin(self.yaw)
        return box @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]).T + self.position


@dataclass(frozen=True)
class Scene:
    """How an episode begins.

    target:    index of the object that the instruction names; -1 where it names none.
    direction: left, right, forward, back; empty where the task has none.
    start:     arm: end effector x, y, z and gap [m]; base: x, y [m] and yaw [rad].
    reference: index of the object that the target is to be put in `relation` to; -1 without a relation.
    relation:  one of RELATIONS.
    """

    objects: tuple[SceneObject, ...]
    target: int
    direction: str
    instruction: str
    start: tuple[float, ...]
    seed: int = 0
    reference: int = -1
    relation: str = ""


@dataclass(frozen=True)
class WorldState:
    """The truth, which no robot can measure; for predicates, experts and labels. World frame.

    ee (3,) [m] and gap [m]: None without an arm. base (x, y [m], yaw [rad]), twist (v [m/s], w [rad/s]): None without
    wheels. objects (M, 3) [m]; quaternions (M, 4) as x, y, z, w. touched (M,) bool: by the fingers, or by the base.
    """

    stamp: int
    objects: np.ndarray
    quaternions: np.ndarray
    touched: np.ndarray
    ee: np.ndarray | None = None
    gap: float | None = None
    base: np.ndarray | None = None
    twist: np.ndarray | None = None


@dataclass(frozen=True)
class Progress:
    """distance: left to do [m]; satisfied: the predicate holds now; success: it held long enough in this episode."""

    distance: float
    satisfied: bool
    success: bool


@dataclass
class Score:
    """Counts for how long a task's predicate has held; success stays until the next episode."""

    task: Task
    scene: Scene
    initial: WorldState
    control_rate: float
    progress: Progress = field(init=False)
    held: int = 0

    def __post_init__(self):
        self.progress = Progress(0.0, False, False)
        self.update(self.initial)

    def update(self, state: WorldState) -> None:
        """Once a tick."""
        distance, satisfied = self.task.progress(self.initial, state, self.scene)
        self.held = self.held + 1 if satisfied else 0
        done = self.held >= max(1, round(self.task.hold * self.control_rate))
        self.progress = Progress(float(distance), bool(satisfied), self.progress.success or done)


@runtime_checkable
class World(Protocol):
    """A robot, objects and a clock that stands still between steps."""

    @property
    def profile(self) -> RobotProfile: ...

    @property
    def task(self) -> Task: ...

    @property
    def scene(self) -> Scene:
        """What reset laid out."""
        ...

    @property
    def stamp(self) -> int:
        """[ns] simulated since reset."""
        ...

    @property
    def state(self) -> WorldState: ...

    @property
    def progress(self) -> Progress: ...

    def joints(self) -> JointState:
        """Measured joints, without rendering."""
        ...

    def reset(self, seed: int, task: Task | None = None) -> None:
        """Lays out an episode of `task` (None: as before); the same seed gives the same episode, bit for bit."""
        ...

    def lay_out(self, scene: Scene, task: Task | None = None, appearance: Appearance = ...) -> None:
        """Begins an episode from a scene that was made elsewhere."""
        ...

    def instruct(self, scene: Scene, task: Task | None = None) -> None:
        """Other words, or another task, for what lies there now; it is judged from this moment on."""
        ...

    def step(self, command: Command | None) -> None:
        """One control period. None: an arm keeps its targets, a base stands still."""
        ...

    def observe(self) -> Observation:
        """Renders the cameras; every stamp is the world's own."""
        ...

    def close(self) -> None:
        """May be called twice."""
        ...
