"""What a model's actions mean, and how they become those of a robot: steps of its hand, in metres and radians."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vla_ros.errors import ActionError, CheckpointError, ConfigError, UnknownNameError
from vla_ros.openvla.configuration import open_config
from vla_ros.openvla.options import Options
from vla_ros.openvla.statistics import Statistics, choose, stored
from vla_ros.profile import RobotProfile
from vla_ros.spec import ARM_UNITS, ActionSpec, require_compatible

PERIODS = {"bridge_orig": 0.2, "bridge_dataset": 0.2, "bridge_oxe": 0.2}  # [s] BridgeData V2 was recorded at 5 Hz
TURNS = ("droll", "dpitch", "dyaw")
FARTHEST = 1.0  # [m] between the quantiles of a translation: what goes farther in one step is in no metres


@dataclass(frozen=True)
class Fitting:
    """spec: of the chunks. columns: those of the model's dimensions that are kept. parts: the equal steps that an
    action becomes, where the robot's period is a fraction of the model's."""

    spec: ActionSpec
    columns: tuple[int, ...]
    parts: int

    def steps(self, action: np.ndarray) -> np.ndarray:
        """The model's action (7,) in its units to the chunk's values (T, D)."""
        share = np.array([1 if name == "gripper" else self.parts for name in self.spec.names])
        return np.tile(action[list(self.columns)] / share, (self.parts, 1))

    def told(self) -> tuple[str, ...]:
        """What is done to an action, in words."""
        left = [name for i, name in enumerate(ARM_UNITS) if i not in self.columns]
        return (*([f"without {', '.join(left)}"] if left else []),
                *([f"each step in {self.parts} parts"] if self.parts > 1 else []))

    def tokens(self, tokens: np.ndarray) -> np.ndarray:
        """(7,) to (T, D): those that each of the values comes from."""
        return np.tile(tokens[list(self.columns)], (self.parts, 1))


@dataclass(frozen=True)
class Plan:
    """How a checkpoint is to be run on a robot; known before its weights are read. camera: the name of the image."""

    statistics: Statistics
    fitting: Fitting
    camera: str


def plan(folder: Path, options: Options, profile: RobotProfile) -> Plan:
    """Raises CheckpointError, ConfigError or UnknownNameError. Needs no torch."""
    statistics = choose(stored(folder, open_config(folder)), options.unnorm_key)
    camera = options.camera or next(iter(profile.cameras))
    if camera not in profile.cameras:
        raise UnknownNameError(f"camera of robot '{profile.name}'", camera, profile.cameras)
    return Plan(statistics, fit(statistics, options, profile), camera)


def require_fitting(spec: ActionSpec, profile: RobotProfile) -> None:
    """require_compatible, and what would help where it is the turns that the robot does not make."""
    try:
        require_compatible(spec, profile.action)
    except ActionError as error:
        if set(spec.names) - set(profile.action.names) == set(TURNS):
            raise ActionError(error.reason, f"{error}; FOLDER?rotation=hold leaves the model's turns out") from error
        raise


def fit(statistics: Statistics, options: Options, profile: RobotProfile) -> Fitting:
    """Raises CheckpointError or ConfigError for actions that are not seven, not in metres, or of unknown period."""
    if statistics.dim != len(ARM_UNITS):
        raise CheckpointError(f"actions of '{statistics.key}' have {statistics.dim} numbers, expected "
                              f"{len(ARM_UNITS)}: {', '.join(ARM_UNITS)}")
    span = float((statistics.high - statistics.low)[:3].max())
    if span > FARTHEST:
        raise CheckpointError(f"actions of '{statistics.key}' span {span:.2f} in one step: no metres, but units of "
                              "some controller, of which the checkpoint says nothing")
    period = options.period or PERIODS.get(statistics.key)
    if period is None:
        raise ConfigError(f"how long an action of '{statistics.key}' lasts is not in the checkpoint: say "
                          "FOLDER?period=SECONDS")
    meant = ActionSpec(tuple(ARM_UNITS), tuple(ARM_UNITS.values()), profile.base_frame, "delta", "open_is_one",
                       period, horizon=1)
    columns = tuple(i for i, name in enumerate(meant.names) if name not in TURNS or options.rotation == "follow")
    ratio = period / profile.action.period
    parts = round(ratio) if ratio >= 1 and abs(ratio - round(ratio)) < 1e-6 else 1
    spec = replace(meant, names=tuple(meant.names[i] for i in columns), units=tuple(meant.units[i] for i in columns),
                   period=profile.action.period if parts > 1 else period, horizon=parts)
    return Fitting(spec, columns, parts)
