"""What is said over the wire, as maps: a server's metadata, observations in, chunks out.

Keys are in the manner of openpi, so that its client can talk to our server. What openpi has no word for, such as a
refusal or where the model looks, stands beside it under names of our own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from vla_ros.errors import ConfigError, ObservationError, RemoteError
from vla_ros.observing import Observer
from vla_ros.policy import Policy
from vla_ros.profile import RobotProfile
from vla_ros.spec import ActionSpec
from vla_ros.types import ActionChunk, JointState, Look, Observation

IMAGE = "observation/image/{}"  # by the camera's name: uint8 (H, W, 3) RGB
JOINTS, VELOCITIES = "observation/joints", "observation/joint_velocities"  # by joint name [rad or m, /s]
PROMPT, RESET = "prompt", "reset"
# What no step of a robot exceeds, by unit; more is another unit (mm, degrees), or a broken model.
MOST = {"m": 0.5, "rad": math.pi, "1": 1.5, "m/s": 10.0, "rad/s": 20.0}
LONGEST = 1000  # letters of a text


def metadata(policy: Policy, profile: RobotProfile, checkpoint: str) -> dict:
    """What a server says first. checkpoint: what exactly answers, for reports."""
    sizes = {name: [profile.cameras[name].height, profile.cameras[name].width, 3] for name in policy.cameras}
    return {"server": "vla_ros", "policy": policy.name, "checkpoint": checkpoint, "robot": profile.name,
            "cameras": sizes, "joints": needed_joints(profile), "action_spec": policy.spec.to_dict(),
            "keys": [*map(IMAGE.format, policy.cameras), JOINTS, VELOCITIES, PROMPT]}


def needed_joints(profile: RobotProfile) -> list[str]:
    return [*profile.joints, *(profile.gripper.joints if profile.gripper else ())]


def declared_spec(said: Any, place: str) -> ActionSpec:
    """The action spec in a server's metadata. Raises ConfigError when it declares none."""
    declared = said.get("action_spec") if isinstance(said, Mapping) else None
    if not isinstance(declared, Mapping):
        raise ConfigError(f"{place} does not say what its actions mean: its metadata lack 'action_spec', "
                          "as `vla serve` gives it; a file can say it, with ?spec=FILE (docs/remote.md)")
    try:
        return ActionSpec.from_dict(dict(declared))
    except (ConfigError, TypeError, ValueError) as error:
        raise ConfigError(f"{place} declares no usable action spec: {error}") from error


def request(observation: Observation, cameras: tuple[str, ...], reset: bool) -> dict:
    """reset: this observation begins an episode. Raises ObservationError when a camera is missing."""
    require_cameras(observation, cameras)
    return {**{IMAGE.format(name): observation.images[name] for name in cameras},
            JOINTS: dict(observation.joints.positions), VELOCITIES: dict(observation.joints.velocities),
            PROMPT: observation.instruction, RESET: reset}


def require_cameras(observation: Observation, cameras: tuple[str, ...]) -> None:
    missing = [name for name in cameras if name not in observation.images]
    if missing:
        raise ObservationError("camera", f"the observation lacks camera {', '.join(missing)}")


def read_request(said: Any, cameras: tuple[str, ...], observer: Observer) -> Observation:
    """The observation in a request, stamped 0. Raises ObservationError."""
    if not isinstance(said, Mapping):
        raise ObservationError("request", "a request must be a map")
    keys = {name: IMAGE.format(name) for name in cameras}
    missing = [key for key in (*keys.values(), JOINTS, PROMPT) if key not in said]
    if missing:
        raise ObservationError("request", f"the request lacks {', '.join(missing)}")
    images = {name: said[key] for name, key in keys.items()}
    wrong = [keys[name] for name, image in images.items() if not isinstance(image, np.ndarray)]
    if wrong:
        raise ObservationError("request", f"{', '.join(wrong)} must be uint8 (H, W, 3)")
    if not isinstance(said[PROMPT], str) or len(said[PROMPT]) > LONGEST:
        raise ObservationError("request", f"{PROMPT} must be text of at most {LONGEST} letters")
    joints = JointState(numbers(said[JOINTS], JOINTS), numbers(said.get(VELOCITIES, {}), VELOCITIES), 0)
    return observer.observation(images, dict.fromkeys(images, 0), joints, said[PROMPT])


def numbers(said: Any, key: str) -> dict[str, float]:
    """Finite numbers by name, or ObservationError."""
    if not isinstance(said, Mapping) or not all(isinstance(name, str) for name in said):
        raise ObservationError("joints", f"{key} must map names to numbers")
    wrong = [name for name, value in said.items() if not finite(value)]
    if wrong:
        raise ObservationError("joints", f"{key} of {', '.join(wrong)[:LONGEST]} must be finite numbers")
    return {name: float(value) for name, value in said.items()}


def finite(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool) and math.isfinite(value)


def reply(chunk: ActionChunk, seconds: float) -> dict:
    """seconds: what the inference took."""
    made = {"actions": np.asarray(chunk.values, np.float64), "refusal": chunk.refusal, "text": chunk.text,
            "done": chunk.done, "confidence": float(chunk.confidence), "looks": [vars(look) for look in chunk.looks],
            "policy_timing": {f"{stage}_ms": 1e3 * value for stage, value in chunk.timings.items()},
            "server_timing": {"infer_ms": 1e3 * seconds}}
    return made if chunk.tokens is None else made | {"tokens": np.asarray(chunk.tokens, np.int64)}


def read_reply(said: Any, spec: ActionSpec, stamp: int, seconds: float) -> ActionChunk:
    """The chunk in a reply, which took `seconds` in all. Raises RemoteError for one that must not be executed."""
    if not isinstance(said, Mapping) or "actions" not in said:
        raise RemoteError("the reply lacks 'actions'")
    refusal = text(said, "refusal")
    values = actions(said["actions"], spec, 0 if refusal else spec.horizon)
    confidence = said.get("confidence", 1.0)
    if not finite(confidence) or not 0 <= confidence <= 1:
        raise RemoteError(f"confidence {str(confidence)[:20]} must lie between 0 and 1")
    done = said.get("done", False)
    if not isinstance(done, bool | np.bool_):
        raise RemoteError("done must be true or false")
    return ActionChunk(values, spec, stamp, tokens=tokens(said.get("tokens"), values.shape), refusal=refusal,
                       confidence=float(confidence), text=text(said, "text"), timings=timings(said, seconds),
                       looks=looks(said.get("looks", [])), done=bool(done))


def actions(said: Any, spec: ActionSpec, steps: int) -> np.ndarray:
    """float64 (steps, D), finite, and within what robots do. Raises RemoteError."""
    if not isinstance(said, np.ndarray) or said.dtype.kind not in "iuf":
        raise RemoteError(f"actions must be an array of numbers, are {type(said).__name__}")
    if said.shape != (steps, spec.dim):
        raise RemoteError(f"actions of shape {said.shape}, expected ({steps}, {spec.dim})")
    values = said.astype(np.float64)
    require_within_reach(values, spec)
    return values


def require_within_reach(values: np.ndarray, spec: ActionSpec) -> None:
    """Raises RemoteError for values (T, D) that are not finite, or more than any robot does in a step."""
    if not np.isfinite(values).all():
        raise RemoteError("actions are not finite")
    for name, unit, column in zip(spec.names, spec.units, values.T, strict=True):
        if (np.abs(column) > MOST[unit]).any():
            raise RemoteError(f"{name} of {np.abs(column).max():g} {unit} is more than {MOST[unit]:g}: another unit?")


def text(said: Mapping, key: str) -> str:
    value = said.get(key, "")
    if not isinstance(value, str) or len(value) > LONGEST:
        raise RemoteError(f"{key} must be text of at most {LONGEST} letters")
    return value


def tokens(said: Any, shape: tuple[int, ...]) -> np.ndarray | None:
    if said is None:
        return None
    if not isinstance(said, np.ndarray) or said.dtype.kind not in "iu" or said.shape != shape:
        raise RemoteError(f"tokens must be whole numbers {shape}")
    return said.astype(np.int64)


def looks(said: Any) -> tuple[Look, ...]:
    try:
        made = tuple(Look(**look) for look in said)
    except TypeError as error:
        raise RemoteError("looks must be a list of name, u, v and confidence") from error
    if not all(isinstance(look.name, str) and all(map(finite, (look.u, look.v, look.confidence))) for look in made):
        raise RemoteError("looks must have a name and finite numbers")
    return made


def timings(said: Mapping, seconds: float) -> dict[str, float]:
    """[s] by stage: the server's own, and what the way there and back took of `seconds`."""
    stages = milliseconds(said.get("policy_timing"))
    inside = milliseconds(said.get("server_timing")).get("infer", sum(stages.values()))
    return {**(stages or {"infer": inside}), "network": max(0.0, seconds - inside)}


def milliseconds(said: Any) -> dict[str, float]:
    """[s] by name of what ends in _ms; what is no time is left out."""
    if not isinstance(said, Mapping):
        return {}
    return {key.removesuffix("_ms"): value / 1e3 for key, value in said.items()
            if isinstance(key, str) and key.endswith("_ms") and finite(value) and value >= 0}
