"""The nouns that pass between the parts. Frozen, plain, no heavy imports.

Dimension letters: H image height, W image width, T steps of a chunk, D dimensions of an action, N joints.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from vla_ros.spec import ActionSpec


def frozen(array, dtype=None) -> np.ndarray:
    """A read-only copy of an array."""
    copy = np.array(array, dtype=dtype)
    copy.setflags(write=False)
    return copy


@dataclass(frozen=True)
class Pose:
    """A rigid transform. position [m] (3,), rotation matrix (3, 3)."""

    position: np.ndarray
    rotation: np.ndarray


@dataclass(frozen=True)
class JointState:
    """Measured joints, by name. positions [rad or m], velocities [rad/s or m/s], stamp [ns]."""

    positions: Mapping[str, float]
    velocities: Mapping[str, float]
    stamp: int


@dataclass(frozen=True)
class Observation:
    """Everything that a policy may look at, of one moment.

    images:     by camera name, uint8 (H, W, 3) RGB.
    joints:     measured joints.
    instruction: words.
    stamps:     header stamp of every part [ns]: 'joints' and each camera's name.
    ee_pose:    base_from_ee, by forward kinematics; None for a robot without an arm.
    gripper:    gap between the fingers [m]; None without a gripper.
    base_twist: measured (forward speed [m/s], yaw rate [rad/s]); None for a robot without wheels.
    """

    images: Mapping[str, np.ndarray]
    joints: JointState
    instruction: str
    stamps: Mapping[str, int]
    ee_pose: Pose | None = None
    gripper: float | None = None
    base_twist: tuple[float, float] | None = None

    @property
    def stamp(self) -> int:
        """[ns] the oldest part: the moment that an answer to this observation is about."""
        return min(self.stamps.values())


@dataclass(frozen=True)
class Look:
    """Where a model looks, in the first camera of its policy.

    name: "target" or "reference"; u, v: [px] to the right and down, whole numbers at pixel centres; confidence: 0 to 1.
    """

    name: str
    u: float
    v: float
    confidence: float


@dataclass(frozen=True)
class ActionChunk:
    """What a policy answers.

    values:     (T, D) in the units of spec; (0, D) when it refuses.
    tokens:     (T, D) the action token ids that the values were decoded from, or None.
    stamp:      [ns] of the observation that it answers.
    confidence: 0 to 1.
    refusal:    why nothing will be done; empty when something will.
    text:       what the model said before it acted (where it looks), for people.
    timings:    seconds per stage.
    looks:      where the model looked; they do not travel with the chunk.
    done:       the policy says that nothing is left to do; one that cannot tell never does.
    """

    values: np.ndarray
    spec: ActionSpec
    stamp: int
    tokens: np.ndarray | None = None
    confidence: float = 1.0
    refusal: str = ""
    text: str = ""
    timings: Mapping[str, float] = field(default_factory=dict)
    looks: tuple[Look, ...] = ()
    done: bool = False


@dataclass(frozen=True)
class Answer:
    """What a policy says to a question about an image. confidence: 0 to 1; timings: seconds per stage."""

    text: str
    confidence: float
    timings: Mapping[str, float]


@dataclass(frozen=True)
class JointCommand:
    """Joint position targets by name [rad or m], to be reached one control period from now."""

    positions: Mapping[str, float]
    velocities: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class TwistCommand:
    """Base velocity: forward v [m/s], yaw rate w [rad/s], in the base frame (REP-103)."""

    v: float
    w: float


Command = JointCommand | TwistCommand
