"""What a user says of an OpenVLA checkpoint behind its folder: FOLDER?unnorm_key=bridge_orig&center_crop=true."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qsl

from vla_ros.errors import ConfigError, UnknownNameError

SWITCH = {"true": True, "false": False}
DTYPES = ("stored", "bfloat16", "float32")
ROTATIONS = ("follow", "hold")
OPTIONS = ("camera", "center_crop", "device", "dtype", "period", "rotation", "unnorm_key")


@dataclass(frozen=True)
class Options:
    """How a checkpoint is to be run; what is left out is as below.

    unnorm_key:  whose statistics; empty: those of the only data set.
    camera:      by name; empty: the robot's first.
    center_crop: for models that were trained on random crops.
    period:      [s] that one action lasts; None: as known of the data set.
    dtype:       'stored', or what the weights are converted to.
    device:      as torch names it; empty: a GPU where there is one.
    rotation:    'follow' turns the hand as the model says; 'hold' leaves that out, for robots that keep theirs upright.
    """

    unnorm_key: str = ""
    camera: str = ""
    center_crop: bool = False
    period: float | None = None
    dtype: str = "stored"
    device: str = ""
    rotation: str = "follow"


def read_options(query: str) -> Options:
    """Raises UnknownNameError or ConfigError that names what is valid."""
    try:
        given = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=True)) if query else {}
    except ValueError as error:
        raise ConfigError(f"options '{query}' must read NAME=VALUE&NAME=VALUE, of {', '.join(OPTIONS)}") from error
    for name in given:
        if name not in OPTIONS:
            raise UnknownNameError("option of an OpenVLA checkpoint", name, OPTIONS)
    for name, valid in {"center_crop": SWITCH, "dtype": DTYPES, "rotation": ROTATIONS}.items():
        if name in given and given[name] not in valid:
            raise UnknownNameError(f"value of {name}", given[name], valid)
    if "center_crop" in given:
        given["center_crop"] = SWITCH[given["center_crop"]]
    if "period" in given:
        given["period"] = seconds(given["period"])
    return Options(**given)


def seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= 10:
        raise ConfigError(f"period '{text}' must be seconds, above 0 and at most 10")
    return value
