"""What a user says of an OpenVLA checkpoint behind its folder: FOLDER?unnorm_key=bridge_orig&center_crop=true."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TypeVar
from urllib.parse import parse_qsl

from vla_ros.errors import ConfigError, UnknownNameError

SWITCH = {"true": True, "false": False}
DTYPES = ("stored", "bfloat16", "float32", "int8", "nf4")
ROTATIONS = ("follow", "hold")
BOUNDS = {"quantiles": ("q01", "q99"), "extremes": ("min", "max")}  # of a data set's numbers: where -1 and 1 lie


@dataclass(frozen=True)
class Options:
    """How a checkpoint is to be run; what is left out is as below.

    unnorm_key:  whose statistics; empty: those of the only data set.
    camera:      by name; empty: the robot's first.
    center_crop: for models that were trained on random crops.
    period:      [s] that one action lasts; None: as known of the data set.
    dtype:       of DTYPES: 'stored', or what the weights are converted to; int8 and nf4 as quantised.py has them.
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


@dataclass(frozen=True)
class OftOptions:
    """How one of OpenVLA-OFT is to be run. spec: the file that says what its numbers mean, where it is not beside the
    weights; bounds: of BOUNDS; the others as above."""

    spec: str = ""
    unnorm_key: str = ""
    bounds: str = "quantiles"
    center_crop: bool = False
    dtype: str = "stored"
    device: str = ""


VALID = {"center_crop": SWITCH, "dtype": DTYPES, "rotation": ROTATIONS, "bounds": BOUNDS}
Kind = TypeVar("Kind", Options, OftOptions)


def read_options(query: str, kind: type[Kind] = Options) -> Kind:
    """Raises UnknownNameError or ConfigError that names what is valid."""
    known = sorted(field.name for field in fields(kind))
    try:
        given = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=True)) if query else {}
    except ValueError as error:
        raise ConfigError(f"options '{query}' must read NAME=VALUE&NAME=VALUE, of {', '.join(known)}") from error
    for name in given:
        if name not in known:
            raise UnknownNameError("option of an OpenVLA checkpoint", name, known)
    for name, valid in VALID.items():
        if name in given and given[name] not in valid:
            raise UnknownNameError(f"value of {name}", given[name], valid)
    if "center_crop" in given:
        given["center_crop"] = SWITCH[given["center_crop"]]
    if "period" in given:
        given["period"] = seconds(given["period"])
    return kind(**given)


def seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value <= 10:
        raise ConfigError(f"period '{text}' must be seconds, above 0 and at most 10")
    return value
