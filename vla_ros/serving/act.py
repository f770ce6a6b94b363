"""OpenVLA's REST: one image and an instruction in, one action out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from vla_ros.errors import ObservationError
from vla_ros.observing import Observer
from vla_ros.remote.json_arrays import pack, unpack
from vla_ros.remote.messages import LONGEST, numbers
from vla_ros.serving.asked import Asked
from vla_ros.types import ActionChunk, JointState, Observation

IMAGE, INSTRUCTION, NORMS, TWICE = "image", "instruction", "unnorm_key", "encoded"
JOINTS, VELOCITIES = "joints", "joint_velocities"  # not OpenVLA's: by joint name [rad or m, /s]


def read(data: bytes, cameras: tuple[str, ...], observer: Observer) -> Asked:
    """Each request is an episode of its own: there is no word in it by which to tell robots apart.

    'image' is that of the policy's first camera; others are under their names. Joints may be left away where the policy
    does not need them. Raises RemoteError or ObservationError.
    """
    said = unpack(data)
    twice = isinstance(said, Mapping) and set(said) == {TWICE}
    if twice:
        require(isinstance(said[TWICE], str), f"{TWICE} must be text of JSON")
        said = unpack(said[TWICE])
    return Asked(observation(said, cameras, observer), True, lambda chunk, seconds: reply(chunk, twice))


def observation(said: Any, cameras: tuple[str, ...], observer: Observer) -> Observation:
    """Stamped 0."""
    require(isinstance(said, Mapping), "a request must be a map")
    images = dict(zip((IMAGE, *cameras[1:]), cameras, strict=True))
    known = (*images, INSTRUCTION, NORMS, JOINTS, VELOCITIES)
    for key in said:
        require(key in known, f"unknown key '{key[:20]}'; available: {', '.join(known)}")
    lacking = [key for key in (*images, INSTRUCTION) if key not in said]
    require(not lacking, f"the request lacks {', '.join(lacking)}")
    robot, norms = observer.profile.name, said.get(NORMS)
    require(norms is None or isinstance(norms, str) and norms == robot,
            f"{NORMS} must be '{robot}' or left away: the actions are of that robot")
    for key in images:
        require(isinstance(said[key], np.ndarray), f"{key} must be uint8 (H, W, 3), as json_numpy encodes it")
    words = said[INSTRUCTION]
    require(isinstance(words, str) and len(words) <= LONGEST, f"{INSTRUCTION} must be text, {LONGEST} letters at most")
    pictures = {camera: said[key] for key, camera in images.items()}
    stamps = dict.fromkeys(pictures, 0)
    if JOINTS in said:
        joints = JointState(numbers(said[JOINTS], JOINTS), numbers(said.get(VELOCITIES, {}), VELOCITIES), 0)
        return observer.observation(pictures, stamps, joints, words)
    for camera, picture in pictures.items():
        observer.check_image(camera, picture)
    return Observation(pictures, JointState({}, {}, 0), words, {"joints": 0, **stamps})


def reply(chunk: ActionChunk, twice: bool) -> bytes:
    """The first action of the chunk, (D,) float64: that of the moment of the image. A refusal is a text."""
    if chunk.refusal:
        return error(f"refused: {chunk.refusal}")
    made = pack(np.asarray(chunk.values[0], np.float64))
    return pack(made.decode()) if twice else made


def error(why: str) -> bytes:
    """What is no action, as OpenVLA's clients look at the body alone."""
    return pack(f"error: {why}")


def require(holds: bool, why: str) -> None:
    if not holds:
        raise ObservationError("request", why)
