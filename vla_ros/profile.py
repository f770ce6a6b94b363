"""RobotProfile: one YAML file a robot, read strictly, so that a misspelt key is an error and not a default."""

from __future__ import annotations

import importlib.util
import math
import types
import typing
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path

import yaml

from vla_ros.errors import ConfigError, UnknownNameError
from vla_ros.paths import ament_share, data_folder
from vla_ros.spec import ActionSpec


def require(holds: bool, text: str) -> None:
    """Raises ConfigError with `text` unless it holds."""
    if not holds:
        raise ConfigError(text)


def require_positive(part, *names: str) -> None:
    for name in names:
        require(getattr(part, name) > 0, f"{name} {getattr(part, name)} must be positive")


INTERFACES = {"arm": ("joint_trajectory", "position", "velocity"), "base": ("twist",)}
LASTING = ("velocity", "twist")  # interfaces whose last command moves on, where their controller has no timeout


@dataclass(frozen=True)
class Camera:
    """A pinhole camera with square pixels. fov_deg: vertical [deg]; position, look_at [m] in the parent frame.

    max_age: [s] older images are refused; None: the profile's max_observation_age.
    """

    width: int
    height: int
    fov_deg: float
    parent: str
    position: tuple[float, ...]
    look_at: tuple[float, ...]
    max_age: float | None = None

    def __post_init__(self):
        require_positive(self, "width", "height", *(["max_age"] if self.max_age is not None else []))
        require(0 < self.fov_deg < 180, f"fov_deg {self.fov_deg} must lie between 0 and 180")
        require(len(self.position) == len(self.look_at) == 3, "position and look_at must hold three numbers each")


@dataclass(frozen=True)
class Gripper:
    """Parallel gripper: each joint carries half of the gap; open, closed: gap [m]."""

    joints: tuple[str, ...]
    open: float
    closed: float

    def __post_init__(self):
        require(0 <= self.closed < self.open, f"closed {self.closed} must be at least 0 and less than open {self.open}")
        require(bool(self.joints), "joints must name at least one joint")

    def opening(self, gap: float) -> float:
        """0 closed to 1 open, of a gap [m]; beyond them where the fingers are."""
        return (gap - self.closed) / (self.open - self.closed)


@dataclass(frozen=True)
class Wheels:
    """Differential drive: joint names, radius and separation [m], multiplier as in diff_drive_controller."""

    left: tuple[str, ...]
    right: tuple[str, ...]
    radius: float
    separation: float
    separation_multiplier: float = 1.0

    def __post_init__(self):
        require_positive(self, "radius", "separation", "separation_multiplier")
        require(bool(self.left and self.right), "left and right must each name at least one joint")


@dataclass(frozen=True)
class BaseLimits:
    """v [m/s], w [rad/s], v_acceleration [m/s^2], w_acceleration [rad/s^2]."""

    v: float
    w: float
    v_acceleration: float
    w_acceleration: float

    def __post_init__(self):
        require_positive(self, "v", "w", "v_acceleration", "w_acceleration")


@dataclass(frozen=True)
class MotionLimits:
    """Of an arm's joints, in the profile's order: acceleration [rad/s^2], jerk [rad/s^3]."""

    acceleration: tuple[float, ...]
    jerk: tuple[float, ...]

    def __post_init__(self):
        for name in ("acceleration", "jerk"):
            values = getattr(self, name)
            require(all(value > 0 for value in values), f"{name} {list(values)} must be positive")


@dataclass(frozen=True)
class Workspace:
    """[m] the box that the end effector may be in, base frame."""

    min: tuple[float, ...]
    max: tuple[float, ...]

    def __post_init__(self):
        require(len(self.min) == len(self.max) == 3, "min and max must hold three numbers each")
        require(all(a < b for a, b in zip(self.min, self.max, strict=True)), "min must be less than max on every axis")


@dataclass(frozen=True)
class CommandInterface:
    """interface: joint_trajectory, position, velocity or twist; topic: relative name."""

    interface: str
    topic: str


@dataclass(frozen=True)
class RobotProfile:
    """What has to be known about a robot; units stand in the YAML files of config/robots."""

    name: str
    kind: str
    urdf: str
    base_frame: str
    joints: tuple[str, ...]
    cameras: dict[str, Camera]
    action: ActionSpec
    command: CommandInterface
    control_rate: float
    max_observation_age: float
    max_skew: float
    chunk_timeout: float
    ee_frame: str = ""
    home: tuple[float, ...] = ()
    velocity_scale: float = 1.0
    position_margin: float = 0.0
    motion: MotionLimits | None = None
    gripper: Gripper | None = None
    workspace: Workspace | None = None
    wheels: Wheels | None = None
    limits: BaseLimits | None = None

    def __post_init__(self):
        if self.kind not in INTERFACES:
            raise UnknownNameError("robot kind", self.kind, INTERFACES)
        if self.command.interface not in INTERFACES[self.kind]:
            kind = f"command interface for kind {self.kind}"
            raise UnknownNameError(kind, self.command.interface, INTERFACES[self.kind])
        needs = {"arm": ("ee_frame", "home", "workspace"), "base": ("wheels", "limits")}[self.kind]
        missing = [key for key in needs if not getattr(self, key)]
        require(not missing, f"a robot of kind {self.kind} needs {', '.join(missing)}")
        require(self.control_rate >= 50, f"control_rate {self.control_rate} Hz must be at least 50")
        ticks = self.action.period * self.control_rate
        require(abs(ticks - round(ticks)) < 1e-6, f"the action period must be whole control periods, is {ticks}")
        require_positive(self, "max_observation_age", "max_skew", "chunk_timeout")
        require(0 < self.velocity_scale <= 1, f"velocity_scale {self.velocity_scale} must be above 0 and at most 1")
        require(bool(self.joints and self.cameras), "joints and cameras must not be empty")
        mode = {"arm": "delta", "base": "velocity"}[self.kind]
        require(self.action.mode == mode, f"action mode '{self.action.mode}' does not move a {self.kind}: use {mode}")
        if self.kind == "arm":
            require(len(self.home) == len(self.joints), f"home needs {len(self.joints)} numbers, has {len(self.home)}")
            require(self.position_margin >= 0, f"position_margin {self.position_margin} must not be negative")
            for name, values in vars(self.motion).items() if self.motion else ():
                require(len(values) == len(self.joints),
                        f"motion.{name} needs {len(self.joints)} numbers, has {len(values)}")
        else:
            require(self.motion is None, "motion holds limits of an arm's joints: a base has limits")
            wheels = self.wheels.left + self.wheels.right
            require(set(wheels) <= set(self.joints), f"wheels {list(wheels)} must be among joints {list(self.joints)}")

    @property
    def control_period_ns(self) -> int:
        return round(1e9 / self.control_rate)

    @property
    def ticks_per_step(self) -> int:
        """Control ticks in one action step."""
        return round(self.action.period * self.control_rate)

    def max_age(self, source: str) -> float:
        """[s] that a part of an observation may be old: of a camera, by its name, or of any other source."""
        camera = self.cameras.get(source)
        return self.max_observation_age if camera is None or camera.max_age is None else camera.max_age

    def urdf_path(self) -> Path:
        """The description's file; package:// names a Python package or an ament package's share folder."""
        return resolve_uri(self.urdf)


def resolve_uri(uri: str) -> Path:
    """package://NAME/rest or a plain path to an existing file, or ConfigError."""
    path = Path(uri)
    if uri.startswith("package://"):
        package, _, rest = uri.removeprefix("package://").partition("/")
        spec = importlib.util.find_spec(package)
        if spec and spec.submodule_search_locations:
            path = Path(list(spec.submodule_search_locations)[0], rest)
        else:
            path = Path(ament_share(package), rest)
    if not path.is_file():
        raise ConfigError(f"no such file: {uri}")
    return path


def config_folder() -> Path:
    """The folder of the shipped configuration."""
    return data_folder("config")


@cache
def load_profile(name_or_file: str) -> RobotProfile:
    """A shipped robot by name ('panda', 'husky') or any profile by its file name (*.yaml)."""
    path = Path(name_or_file)
    if path.suffix not in (".yaml", ".yml"):
        shipped = {p.stem: p for p in (config_folder() / "robots").glob("*.yaml")}
        if name_or_file not in shipped:
            raise UnknownNameError("robot", name_or_file, shipped)
        path = shipped[name_or_file]
    if not path.is_file():
        raise ConfigError(f"no robot file {path}")
    return read_yaml(path, RobotProfile, "robot")


def read_yaml(path: Path, hint, where: str):
    """A YAML file as the type that `hint` names (see `convert`), or a ConfigError that names the file and the place."""
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    try:
        return convert(hint, data, where)
    except (ConfigError, UnknownNameError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from error


def build(cls, data, where: str):
    """A dataclass from plain data: unknown and missing keys and wrong types are errors that name the place."""
    if not isinstance(data, dict):
        raise ConfigError(f"{where} must be a mapping, is {type(data).__name__}")
    hints = typing.get_type_hints(cls)
    known = {f.name: f for f in fields(cls)}
    for key in data:
        if key not in known:
            raise UnknownNameError(f"key in {where}", key, known)
    missing = [n for n, f in known.items() if n not in data and f.default is MISSING and f.default_factory is MISSING]
    if missing:
        raise ConfigError(f"{where} lacks {', '.join(missing)}")
    values = {k: convert(hints[k], v, f"{where}.{k}") for k, v in data.items()}
    try:
        return cls(**values)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def convert(hint, value, where: str):
    """`value` as the type that `hint` names, or ConfigError."""
    if isinstance(hint, types.UnionType):
        hint = next(a for a in typing.get_args(hint) if a is not type(None))
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if is_dataclass(hint):
        return build(hint, value, where)
    if origin is dict:
        if not isinstance(value, dict):
            raise ConfigError(f"{where} must be a mapping")
        return {str(k): convert(args[1], v, f"{where}.{k}") for k, v in value.items()}
    if origin is tuple:
        if not isinstance(value, list):
            raise ConfigError(f"{where} must be a list")
        return tuple(convert(args[0], v, f"{where}[{i}]") for i, v in enumerate(value))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ConfigError(f"{where} must be {hint.__name__}, is {value!r}")
    if hint is float and not math.isfinite(value):
        raise ConfigError(f"{where} must be finite, is {value}")
    return value
