"""A checkpoint beside a robot, read from its files alone: weights are opened last, and only there is torch needed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from vla_ros.doctor.finding import Finding, error, ok, or_ok, warning
from vla_ros.errors import CheckpointError
from vla_ros.observing import PROPRIOCEPTION
from vla_ros.profile import RobotProfile
from vla_ros.spec import ActionSpec
from vla_ros.transforms import SMALLEST_SPAN

FILES = ("config.json", "model.safetensors", "tokenizer.json")
MODEL_TYPE = "vla_ros"
NARROW = 0.02  # share of the widest span of the same unit, below which a dimension hardly ever moved in training
TRAIN_AGAIN = "take the statistics again from demonstrations in which every dimension moves, and train on them"


@dataclass(frozen=True)
class Checkpoint:
    """A folder, the robot that it is meant for, and the settings of its config.json."""

    folder: Path
    profile: RobotProfile
    config: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path, profile: RobotProfile) -> Checkpoint:
        """Raises CheckpointError for a config.json that cannot be read, or is of another kind of model."""
        try:
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        except OSError as reason:
            raise CheckpointError(f"cannot read {folder / 'config.json'}: {reason.strerror}") from reason
        except ValueError as reason:
            raise CheckpointError(f"{folder / 'config.json'} is not JSON: {reason}") from reason
        kind = config.get("model_type") if isinstance(config, dict) else None
        if kind != MODEL_TYPE:
            raise CheckpointError(f"checkpoint {folder} is of type '{kind}', expected '{MODEL_TYPE}'")
        return cls(folder, profile, config)

    def setting(self, name: str, kind: type | tuple[type, ...]) -> Any:
        """A value of config.json; CheckpointError where it is missing or of another type."""
        value = self.config.get(name)
        if not isinstance(value, kind) or isinstance(value, bool):
            words = " or ".join(k.__name__ for k in (kind if isinstance(kind, tuple) else (kind,)))
            raise CheckpointError(f"{name} of config.json must be {words}, is {value!r}")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        values = self.setting(name, list)
        if not all(isinstance(value, str) for value in values):
            raise CheckpointError(f"{name} of config.json must be a list of words, is {values!r}")
        return tuple(values)

    def numbers(self, name: str) -> np.ndarray:
        """(D,); what is not finite stays, and is for the checks."""
        values = self.setting(name, list)
        if not all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
            raise CheckpointError(f"{name} of config.json must be a list of numbers, is {values!r}")
        return np.array(values, float)

    @cached_property
    def spec(self) -> ActionSpec:
        """Raises CheckpointError or ConfigError."""
        try:
            return ActionSpec.from_dict(self.setting("action_spec", dict))
        except (TypeError, ValueError, AttributeError) as reason:
            raise CheckpointError(f"action_spec of config.json is malformed: {reason}") from reason

    @property
    def cameras(self) -> tuple[str, ...]:
        """In the order in which the model reads them."""
        return self.texts("cameras") if "cameras" in self.config else (self.setting("camera", str),)

    def span(self, part: str) -> dict[str, tuple[float, float]]:
        """(q01, q99) by name of 'action' or 'proprio': those that have two finite numbers in order."""
        names = self.spec.names if part == "action" else self.texts("proprio_names")
        pairs = zip(self.numbers(f"{part}_low").tolist(), self.numbers(f"{part}_high").tolist(), strict=False)
        return {name: pair for name, pair in zip(names, pairs, strict=False)
                if np.isfinite(pair).all() and pair[1] - pair[0] >= SMALLEST_SPAN}


def files(c: Checkpoint) -> Iterator[Finding]:
    missing = [name for name in FILES if not (c.folder / name).is_file()]
    if missing:
        yield error("files", f"{c.folder} lacks {', '.join(missing)}", "the policy node cannot open it, and ends",
                    "copy the whole folder that training wrote, without links that lead nowhere")
    else:
        yield ok("files", f"{', '.join(FILES)} are there")


def trained_on(c: Checkpoint) -> Iterator[Finding]:
    robot = c.setting("robot", str)
    if robot == c.profile.name:
        yield ok("trained on", f"'{robot}', as the profile's name")
    else:
        yield warning("trained on", f"the checkpoint was trained on '{robot}', the profile is of '{c.profile.name}'",
                      "another body, or cameras elsewhere, are nothing that the model has seen, whatever else agrees",
                      f"give the profile of '{robot}', or a checkpoint that was trained on '{c.profile.name}'")


def action_statistics(c: Checkpoint) -> list[Finding]:
    units = dict(zip(c.spec.names, c.spec.units, strict=True))
    return or_ok(statistics(c, "action", units), "action statistics",
                 f"q01 and q99 of {', '.join(c.spec.names)} are finite and apart")


def proprioception_statistics(c: Checkpoint) -> list[Finding]:
    names = c.texts("proprio_names")
    return or_ok(statistics(c, "proprio", dict.fromkeys(names, "")), "proprioception statistics",
                 f"q01 and q99 of {', '.join(names)} are finite and apart")


def statistics(c: Checkpoint, part: str, units: Mapping[str, str]) -> Iterator[Finding]:
    """units: by dimension; those of the same unit are compared, but for the empty one."""
    check = {"action": "action statistics", "proprio": "proprioception statistics"}[part]
    low_name, high_name = f"{part}_low", f"{part}_high"
    lacking = [name for name in (low_name, high_name) if c.config.get(name) is None]
    if lacking:
        yield error(check, f"config.json lacks {' and '.join(lacking)}",
                    "without them the model's numbers have no unit: any motion may come out", TRAIN_AGAIN)
        return
    low, high, names = c.numbers(low_name), c.numbers(high_name), list(units)
    if not len(low) == len(high) == len(names):
        yield error(check, f"{low_name} has {len(low)} numbers, {high_name} {len(high)}, for {len(names)} dimensions: "
                    f"{', '.join(names)}", "each dimension would be scaled by another's range", TRAIN_AGAIN)
        return
    for name, a, b in zip(names, low.tolist(), high.tolist(), strict=True):
        if not np.isfinite([a, b]).all():
            yield error(check, f"{name} runs from {a} to {b}", "what is scaled by it is not finite: the guard refuses "
                        "every command", TRAIN_AGAIN)
        elif b <= a:
            yield error(check, f"{name}: q01 {a:g} is not below q99 {b:g}", "the sign of the motion is turned around, "
                        "or every motion is the same", TRAIN_AGAIN)
        elif b - a < SMALLEST_SPAN:
            yield error(check, f"{name}: q01 {a:g} all but reaches q99 {b:g}", "dividing by what lies between makes "
                        "noise as large as a motion", TRAIN_AGAIN)
        else:
            alike = [h - m for n, m, h in zip(names, low.tolist(), high.tolist(), strict=True)
                     if units[n] and units[n] == units[name] and np.isfinite(h - m)]
            if alike and b - a < NARROW * max(alike):
                yield warning(check, f"{name} spans {b - a:g} {units[name]}, others of its unit up to "
                              f"{max(alike):g} {units[name]}", "the model has hardly seen it move, and will hardly "
                              "move it", TRAIN_AGAIN)


def proprioception(c: Checkpoint) -> Iterator[Finding]:
    """Its names against what the robot feels, and its places and gap against what the robot can reach."""
    names, felt = c.texts("proprio_names"), PROPRIOCEPTION[c.profile.kind]
    check, body = "proprioception", c.span("proprio")
    if names != felt:
        yield error(check, f"the checkpoint reads {', '.join(names)}; robot '{c.profile.name}' feels {', '.join(felt)}",
                    "each number would be taken for another", f"train with proprio_names {list(felt)}")
        return
    if c.profile.kind != "arm":
        yield ok(check, f"{', '.join(names)}, as the robot feels")
        return
    box, gripper = c.profile.workspace, c.profile.gripper
    room = {axis: (low, high) for axis, low, high in zip("xyz", box.min, box.max, strict=True)}
    room |= {"gap": (gripper.closed, gripper.open)} if gripper else {}
    problems = [n for n in room if n in body and not (body[n][0] <= room[n][1] and room[n][0] <= body[n][1])]
    wide = [n for n in room if n in body and n not in problems
            and body[n][1] - body[n][0] > 2 * (room[n][1] - room[n][0])]
    for name in problems + wide:
        yield error(check, f"{name} ran from {body[name][0]:g} to {body[name][1]:g} in training; the robot's runs "
                    f"from {room[name][0]:g} to {room[name][1]:g} m", "the model would see itself where it never was: "
                    "another unit or another frame", "metres in base_frame, for the training and for the profile")
    if not problems + wide:
        yield ok(check, f"{', '.join(names)}, in the range of the robot's")


def weights(c: Checkpoint) -> Iterator[Finding]:
    """Opens the policy as the policy node does."""
    from vla_ros.policies import open_policy
    why = "the policy node ends with this very error"
    try:
        open_policy(f"{c.folder}/", c.profile)
    except ImportError as reason:
        yield warning("weights", f"not opened: {reason}", "the policy node needs it", "pip install the package's "
                      "dependencies")
    except Exception as reason:  # whatever a library raises for a torn file: it is the finding
        yield error("weights", " ".join(str(reason).split()) or type(reason).__name__, why,
                    "take model.safetensors and config.json from the same training, and this package's version of then")
    else:
        yield ok("weights", "they open, and fit config.json")
