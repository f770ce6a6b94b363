"""What a server reads and answers that does not say so itself, from a file that a person wrote (docs/remote.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vla_ros.adapters import Adapting, chain
from vla_ros.errors import ObservationError, RemoteError, UnknownNameError
from vla_ros.kinematics import rotation_vector
from vla_ros.profile import RobotProfile, read_yaml, require
from vla_ros.remote.messages import finite, require_cameras, require_within_reach, timings
from vla_ros.spec import ActionSpec, require_compatible
from vla_ros.types import ActionChunk, Observation

# What a state may hold, of an arm and of its gripper; a minus before a name changes the sign.
ARM: dict[str, Callable[[Observation, RobotProfile], Any]] = {
    "joints": lambda seen, robot: [seen.joints.positions[name] for name in robot.joints],  # (N,) [rad], in its order
    "position": lambda seen, robot: seen.ee_pose.position,  # (3,) [m] of the end effector in the base frame
    "axis_angle": lambda seen, robot: rotation_vector(seen.ee_pose.rotation),  # (3,) [rad] of the same
}
GRIPPER: dict[str, Callable[[Observation, RobotProfile], Any]] = {
    "gap": lambda seen, robot: [seen.gripper],  # [m] between the fingers
    "half_gap": lambda seen, robot: [seen.gripper / 2],
    "opening": lambda seen, robot: [robot.gripper.opening(seen.gripper)],  # 0 closed to 1 open
    "closing": lambda seen, robot: [1 - robot.gripper.opening(seen.gripper)],
}
PARTS = ARM | GRIPPER
THREE = ("position", "axis_angle")  # parts of three numbers


@dataclass(frozen=True)
class Description:
    """images: the robot's camera, by the request's key; state: parts, by key; constants: text, by key.

    action: what the numbers of a reply mean once each was multiplied by scale and offset was added, both (D,), and what
    `adapt` says was undone.
    """

    action: ActionSpec
    images: dict[str, str]
    state: dict[str, tuple[str, ...]] = field(default_factory=dict)
    constants: dict[str, str] = field(default_factory=dict)
    scale: tuple[float, ...] = ()
    offset: tuple[float, ...] = ()
    adapt: Adapting = Adapting()

    def __post_init__(self):
        require(bool(self.images), "images must name at least one")
        chain(self.adapt, self.action, self.scale, self.offset)
        keys = [*self.images, *self.state, *self.constants]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        require(not twice, f"key {', '.join(twice)} has more than one meaning")
        require(all(self.state.values()), f"a state has parts, of {', '.join(PARTS)}")
        for part in self.parts - set(PARTS):
            raise UnknownNameError("part of a state", part, PARTS)

    @property
    def parts(self) -> set[str]:
        """Of all states, without signs."""
        return {part.removeprefix("-") for parts in self.state.values() for part in parts}

    def lengths(self, profile: RobotProfile) -> dict[str, int]:
        """Numbers in each state of a robot."""
        of = dict.fromkeys(THREE, 3) | {"joints": len(profile.joints)}
        return {key: sum(of.get(part.removeprefix("-"), 1) for part in parts) for key, parts in self.state.items()}


class Described:
    """One robot's talk with a server that a file describes. words: the request's key of the instruction."""

    def __init__(self, file: str, profile: RobotProfile, words: str):
        """Raises ConfigError, UnknownNameError, or ActionError where it does not fit the robot."""
        self.profile, self.words = profile, words
        self.description = description = read_yaml(Path(file), Description, "description")
        require(words not in {*description.images, *description.state, *description.constants},
                f"{file}: key '{words}' is that of the instruction")
        for camera in description.images.values():
            if camera not in profile.cameras:
                raise UnknownNameError(f"camera of robot '{profile.name}'", camera, profile.cameras)
        lacking = {**({} if profile.kind == "arm" else ARM), **({} if profile.gripper else GRIPPER)}
        for part in sorted(description.parts & set(lacking)):
            raise UnknownNameError(f"part of a state of robot '{profile.name}'", part, set(PARTS) - set(lacking))
        self.spec = description.action
        self.chain = chain(description.adapt, self.spec, description.scale, description.offset)
        self.adapters = self.chain.told()
        self._at = None  # the hand's pose in the observation that is being answered
        require_compatible(self.spec, profile.action)
        self.cameras = tuple(dict.fromkeys(description.images.values()))
        self.name, self.checkpoint = Path(file).stem, ""

    def request(self, observation: Observation, reset: bool) -> dict:
        """reset: not said, for there is no word for it. Raises ObservationError."""
        require_cameras(observation, self.cameras)
        self._at = observation.ee_pose
        if self.description.parts & set(GRIPPER) and observation.gripper is None:
            raise ObservationError("joints", f"joint states lack {', '.join(self.profile.gripper.joints)}")
        images = {key: observation.images[camera] for key, camera in self.description.images.items()}
        state = {key: self._state(observation, parts) for key, parts in self.description.state.items()}
        return {**images, **state, **self.description.constants, self.words: observation.instruction}

    def chunk(self, said: Any, stamp: int, seconds: float) -> ActionChunk:
        """The chunk in a reply, which took `seconds` in all: actions, or a map that has them, as openpi's.

        Raises RemoteError for one that must not be executed.
        """
        values = table(said.get("actions") if isinstance(said, Mapping) else said)
        times = timings(said, seconds) if isinstance(said, Mapping) else {"infer": seconds}
        if values.shape != self.chain.shape:
            raise RemoteError(f"actions of shape {values.shape}, its description says {self.chain.shape}")
        try:
            with np.errstate(all="ignore"):  # what comes of it is not finite, and said to be
                values = self.chain.forward(values, self._at)
        except ValueError as error:  # of a quaternion of zeros, say
            raise RemoteError(f"actions that cannot be meant: {error}") from error
        require_within_reach(values, self.spec)
        return ActionChunk(values, self.spec, stamp, timings=times)

    def _state(self, observation: Observation, parts: tuple[str, ...]) -> np.ndarray:
        """float32 (parts' lengths together,)."""
        signed = [(-1.0 if part.startswith("-") else 1.0)
                  * np.asarray(PARTS[part.removeprefix("-")](observation, self.profile)) for part in parts]
        return np.concatenate(signed).astype(np.float32)


def table(said: Any) -> np.ndarray:
    """float64 (T, D) of an array (T, D) or (D,), or of a list of either numbers or arrays. Raises RemoteError."""
    if not isinstance(said, list) or all(map(finite, said)):
        return np.atleast_2d(row(said))
    try:
        return np.stack([row(one) for one in said])
    except ValueError as error:
        raise RemoteError("actions are of different lengths") from error


def row(said: Any) -> np.ndarray:
    if isinstance(said, np.ndarray) and said.dtype.kind in "iuf" or isinstance(said, list) and all(map(finite, said)):
        return np.asarray(said, np.float64)
    raise RemoteError(f"actions must be an array of numbers, are {type(said).__name__}")
