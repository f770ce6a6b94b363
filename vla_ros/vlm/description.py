"""What the words of a checkpoint mean as actions, from the file that a person put beside it (docs/vlm.md)."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from urllib.parse import parse_qsl

import numpy as np

from vla_ros.errors import ConfigError, UnknownNameError
from vla_ros.naming import leads_out
from vla_ros.profile import RobotProfile, read_yaml, require
from vla_ros.spec import ActionSpec, require_compatible

FILE = "vla.yaml"  # beside the checkpoint
OPTIONS = ("device", "dtype", "spec")
OF_PI0 = (*OPTIONS, "delay", "execute_steps")
QUANTISED = ("int8", "nf4")
DTYPES = ("stored", "bfloat16", "float32", *QUANTISED)
STEPS = (1, -1)
LONGEST = 4096  # words in an action


@dataclass(frozen=True)
class Bins:
    """`count` equal bins over [-1, 1], a word each. first: id of bin 0; step: 1, or -1 where ids count down."""

    first: int
    count: int = 256
    step: int = 1

    def __post_init__(self):
        require(self.count >= 2, f"count {self.count} must be at least 2")
        require_ids(self.first, self.step, self.count)


@dataclass(frozen=True)
class FastWords:
    """FAST's words within the model's. folder: with its files, from the checkpoint's on; first: id of its word 0; step:
    1, or -1 where ids count down, as in pi0-FAST; end: id of the word that ends an action; most: words in an action."""

    folder: str
    first: int
    end: int
    step: int = 1
    most: int = 256

    def __post_init__(self):
        require_ids(self.first, self.step, 1)
        require(self.end >= 0 and 1 <= self.most <= LONGEST, f"end must be an id, and most 1 to {LONGEST}")
        require(not leads_out(self.folder), f"folder '{self.folder}' leads out of the checkpoint")


@dataclass(frozen=True)
class Description:
    """action: what the numbers mean once they have their units back; low, high: (D,) in those units, where -1 and 1 of
    the model lie. images: cameras of the robot, in the order in which the model reads them. prompt: with {instruction};
    chat: put into the checkpoint's own chat template, behind the images. least: probability at least, of each word,
    that it is one for actions at all; below it the model is taken to say something else, and refuses.
    """

    action: ActionSpec
    low: tuple[float, ...]
    high: tuple[float, ...]
    images: tuple[str, ...]
    prompt: str
    chat: bool = True
    bins: Bins | None = None
    fast: FastWords | None = None
    least: float = 0.5

    def __post_init__(self):
        for name in ("low", "high"):
            given = len(getattr(self, name))
            require(given == self.action.dim, f"{name} needs {self.action.dim} numbers, has {given}")
        require(bool(np.isfinite([self.low, self.high]).all()) and all(map(float.__lt__, self.low, self.high)),
                "each of low must be finite and below that of high")
        require(bool(self.images), "images must name at least one camera")
        require((self.bins is None) != (self.fast is None), "say either bins or fast")
        require(0 <= self.least <= 1, f"least {self.least} must lie in 0 to 1")
        try:
            fields = {name for _, name, _, _ in Formatter().parse(self.prompt) if name is not None}
        except ValueError as error:
            raise ConfigError(f"prompt: {error}") from error
        require(fields == {"instruction"}, "prompt must hold {instruction}, and nothing else in braces")


def require_ids(first: int, step: int, count: int) -> None:
    require(step in STEPS, f"step {step} must be 1 or -1")
    require(min(first, first + step * (count - 1)) >= 0, "ids of words must not be negative")


@dataclass(frozen=True)
class Options:
    """What a user says behind the folder. spec: another file than the one beside; device: as torch names it, '' for a
    GPU where there is one; dtype: 'stored', or what the weights are converted to; delay: [s] from an observation to its
    chunk on the robot, for a pi0 that goes on from what is executed until then; execute_steps: as the control node has
    it, for the same."""

    spec: str = ""
    device: str = ""
    dtype: str = "stored"
    delay: float | None = None
    execute_steps: int = 4  # that of the nodes and of evaluations (test_pi0.py)


def read_options(query: str, options: tuple[str, ...] = OPTIONS) -> Options:
    """NAME=VALUE&NAME=VALUE, of those that there are. Raises UnknownNameError or ConfigError."""
    try:
        given = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=True)) if query else {}
    except ValueError as error:
        raise ConfigError(f"options '{query}' must read NAME=VALUE&NAME=VALUE, of {', '.join(options)}") from error
    for name in given:
        if name not in options:
            raise UnknownNameError("option of a vision-language model", name, options)
    if given.get("dtype", "stored") not in DTYPES:
        raise UnknownNameError("value of dtype", given["dtype"], DTYPES)
    if "delay" in given:
        given["delay"] = seconds(given["delay"])
        require(given.get("dtype") not in QUANTISED, "delay needs weights that are not quantised: it follows gradients")
    if "execute_steps" in given:
        require(given["execute_steps"].isdecimal() and int(given["execute_steps"]) > 0,
                f"execute_steps '{given['execute_steps']}' must be a whole number, from 1 on")
        given["execute_steps"] = int(given["execute_steps"])
    return Options(**given)


def seconds(text: str) -> float:
    with suppress(ValueError):
        if 0 <= float(text) < float("inf"):
            return float(text)
    raise ConfigError(f"delay '{text}' must be a number of seconds, from 0 on")


def file_of(folder: Path, options: str) -> Path | None:
    """The file that declares what a checkpoint's words mean, where there is one."""
    said = dict(parse_qsl(options)).get("spec")
    return Path(said) if said else folder / FILE if (folder / FILE).is_file() else None


def describe(file: Path, profile: RobotProfile) -> Description:
    """Raises ConfigError, UnknownNameError, or ActionError where it does not fit the robot."""
    made = read_yaml(file, Description, "description")
    for camera in made.images:
        if camera not in profile.cameras:
            raise UnknownNameError(f"camera of robot '{profile.name}'", camera, profile.cameras)
    require_compatible(made.action, profile.action)
    return made
