"""RobotProfile: one YAML file a robot, read strictly, so that a misspelt key is an error and not a default."""

from __future__ import annotations

import importlib.util
import types
import typing
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path

import yaml

from vla_ros.errors import ConfigError, UnknownNameError
from vla_ros.spec import ActionSpec

INTERFACES = {"arm": ("joint_trajectory", "position", "velocity"), "base": ("twist",)}


@dataclass(frozen=True)
class Camera:
    """A pinhole camera with square pixels. fov_deg: vertical [deg]; position, look_at [m] in the parent frame."""

    width: int
    height: int
    fov_deg: float
    parent: str
    position: tuple[float, ...]
    look_at: tuple[float, ...]


@dataclass(frozen=True)
class Gripper:
    """Parallel gripper: each joint carries half of the gap; open, closed: gap [m]."""

    joints: tuple[str, ...]
    open: float
    closed: float


@dataclass(frozen=True)
class Wheels:
    """Differential drive: joint names, radius and separation [m], multiplier as in diff_drive_controller."""

    left: tuple[str, ...]
    right: tuple[str, ...]
    radius: float
    separation: float
    separation_multiplier: float = 1.0


@dataclass(frozen=True)
class BaseLimits:
    """v [m/s], w [rad/s], v_acceleration [m/s^2], w_acceleration [rad/s^2]."""

    v: float
    w: float
    v_acceleration: float
    w_acceleration: float


@dataclass(frozen=True)
class Workspace:
    """[m] the box that the end effector may be in, base frame."""

    min: tuple[float, ...]
    max: tuple[float, ...]


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
    gripper: Gripper | None = None
    workspace: Workspace | None = None
    wheels: Wheels | None = None
    limits: BaseLimits | None = None

    def __post_init__(self):
        if self.kind not in INTERFACES:
            raise UnknownNameError("robot kind", self.kind, INTERFACES)
        if self.command.interface not in INTERFACES[self.kind]:
            raise UnknownNameError(f"command interface for an {self.kind}", self.command.interface, INTERFACES[self.kind])
        needs = {"arm": ("ee_frame", "home", "workspace"), "base": ("wheels", "limits")}[self.kind]
        missing = [key for key in needs if not getattr(self, key)]
        if missing:
            raise ConfigError(f"robot '{self.name}' of kind {self.kind} needs {', '.join(missing)}")
        if self.control_rate < 50:
            raise ConfigError(f"robot '{self.name}': control_rate {self.control_rate} Hz must be at least 50")
        ticks = self.action.period * self.control_rate
        if abs(ticks - round(ticks)) > 1e-6:
            raise ConfigError(f"robot '{self.name}': the action period must be a whole number of control periods, is {ticks}")

    @property
    def control_period_ns(self) -> int:
        return round(1e9 / self.control_rate)

    @property
    def ticks_per_step(self) -> int:
        """Control ticks in one action step."""
        return round(self.action.period * self.control_rate)

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


def ament_share(package: str) -> str:
    try:
        from ament_index_python.packages import get_package_share_directory
        return get_package_share_directory(package)
    except Exception as error:  # ament_index_python is absent without ROS, and raises its own kinds with it
        raise ConfigError(f"package '{package}' is neither a Python package nor in the ament index") from error


def config_folder() -> Path:
    """The folder of the shipped configuration: the source tree's, else the installed share folder's."""
    here = Path(__file__).resolve().parent
    for folder in (here.parent / "config", here / "config"):
        if folder.is_dir():
            return folder
    return Path(ament_share("vla_ros"), "config")


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
    try:
        data = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {str(error).splitlines()[0]}") from error
    try:
        return build(RobotProfile, data, "robot")
    except UnknownNameError as error:
        raise ConfigError(f"{path}: {error}") from error
    except (ConfigError, TypeError, ValueError) as error:
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
    return cls(**{k: convert(hints[k], v, f"{where}.{k}") for k, v in data.items()})


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
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ConfigError(f"{where} must be {hint.__name__}, is {value!r}")
    return value
