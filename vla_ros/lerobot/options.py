"""What a user says of a LeRobot checkpoint: lerobot:FOLDER?python=DIR/bin/python&deadline=2. No heavy imports."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl

from vla_ros.errors import ConfigError, UnknownNameError
from vla_ros.remote.address import DEADLINE, seconds

PREFIX = "lerobot:"
PYTHON = "LEROBOT_PYTHON"  # environment: the interpreter, where an address names none
FILE = "vla.yaml"  # beside the checkpoint: what its numbers mean
OPTIONS = ("deadline", "device", "python", "spec", "start", "vlm")
START = 120.0  # [s] that loading may take
INSTALL = ("LeRobot runs in an environment of its own: python3 -m venv DIR && DIR/bin/pip install lerobot aiohttp "
           f"msgpack, then lerobot:FOLDER?python=DIR/bin/python, or {PYTHON} in the environment")


@dataclass(frozen=True)
class Options:
    """folder: of the checkpoint; python: of LeRobot's environment; spec: file that says what the numbers mean.

    deadline, start: [s] of an answer, and of loading; device: as torch names it, empty: the checkpoint's.
    vlm: folder of SmolVLA's backbone (its configuration and tokenizer), empty: as the checkpoint names it.
    """

    folder: Path
    python: str
    spec: Path
    deadline: float = DEADLINE
    start: float = START
    device: str = ""
    vlm: str = ""


def is_lerobot(source: str) -> bool:
    return source.startswith(PREFIX)


def read_options(source: str) -> Options:
    """Raises UnknownNameError or ConfigError that names what is valid."""
    name, _, query = source.removeprefix(PREFIX).partition("?")
    try:
        given = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=True)) if query else {}
    except ValueError as error:
        raise ConfigError(f"options '{query}' must read NAME=VALUE&NAME=VALUE, of {', '.join(OPTIONS)}") from error
    for option in given:
        if option not in OPTIONS:
            raise UnknownNameError("option of a LeRobot checkpoint", option, OPTIONS)
    if not name:
        raise ConfigError(f"'{source}' names no folder: lerobot:FOLDER?python=DIR/bin/python")
    folder = Path(name)
    times = {key: seconds(given[key], key) for key in ("deadline", "start") if key in given}
    return Options(folder, given.get("python") or os.environ.get(PYTHON, ""), Path(given.get("spec") or folder / FILE),
                   **times, device=given.get("device", ""), vlm=given.get("vlm", ""))


def require_python(options: Options) -> str:
    """Its interpreter. Raises ConfigError where none is named, or none is there."""
    found = shutil.which(options.python) if options.python else None
    if found is None:
        raise ConfigError(f"no Python at '{options.python}': {INSTALL}" if options.python else INSTALL)
    return found
