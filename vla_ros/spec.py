"""ActionSpec: what the numbers of an action mean. Policies and robots both declare one."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace

from vla_ros.errors import ActionError, ConfigError

ARM_UNITS = {"dx": "m", "dy": "m", "dz": "m", "droll": "rad", "dpitch": "rad", "dyaw": "rad", "gripper": "1"}
BASE_UNITS = {"v": "m/s", "w": "rad/s"}
MODES = ("delta", "velocity")
GRIPPERS = ("open_is_one", "")
LONGEST = 10_000  # steps in a chunk


@dataclass(frozen=True)
class ActionSpec:
    """The meaning of one action vector and of a chunk of them.

    names:   one per dimension. End-effector steps: dx dy dz droll dpitch dyaw, and gripper; base: v w.
    units:   SI, one per dimension; the gripper is a fraction.
    frame:   frame in which the motion is expressed.
    mode:    'delta' (added to the pose at the chunk's observation, step after step) or 'velocity'.
    gripper: 'open_is_one' (1 open, 0 closed) or '' for a robot without a gripper.
    period:  [s] one step of the chunk.
    horizon: steps in a chunk.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    frame: str
    mode: str
    gripper: str
    period: float
    horizon: int

    def __post_init__(self):
        object.__setattr__(self, "names", tuple(self.names))
        object.__setattr__(self, "units", tuple(self.units))
        known = {"delta": ARM_UNITS, "velocity": BASE_UNITS}.get(self.mode)
        if known is None:
            raise ConfigError(f"action mode '{self.mode}' is not one of {', '.join(MODES)}")
        wrong = [n for n in self.names if n not in known]
        if wrong or not self.names or len(set(self.names)) != len(self.names):
            raise ConfigError(f"action names {list(self.names)} must be distinct and among {', '.join(known)}")
        expected = tuple(known[n] for n in self.names)
        if self.units != expected:
            raise ConfigError(f"action units {list(self.units)} do not match {list(expected)} for {list(self.names)}")
        if self.gripper not in GRIPPERS:
            raise ConfigError(f"gripper convention '{self.gripper}' is not one of {GRIPPERS}")
        if not 0 < self.period < float("inf") or not 1 <= self.horizon <= LONGEST:
            raise ConfigError(f"action period {self.period} s must be positive and horizon {self.horizon} from 1 to "
                              f"{LONGEST}")

    @property
    def dim(self) -> int:
        return len(self.names)

    @property
    def period_ns(self) -> int:
        return round(self.period * 1e9)

    def told(self) -> str:
        """In words, for a log."""
        gripper = f", gripper {self.gripper}" if self.gripper else ""
        return f"{', '.join(self.names)} as {self.mode} in {self.frame}{gripper}, steps of {self.period:g} s"

    def to_dict(self) -> dict:
        return asdict(replace(self, names=self.names)) | {"names": list(self.names), "units": list(self.units)}

    @classmethod
    def from_dict(cls, data: dict) -> ActionSpec:
        missing = [f.name for f in fields(cls) if f.name not in data]
        if missing:
            raise ConfigError(f"action spec lacks {', '.join(missing)}")
        return cls(**{f.name: data[f.name] for f in fields(cls)})


def require_compatible(policy: ActionSpec, robot: ActionSpec) -> None:
    """Raises ActionError naming every difference that would make the robot do something else than was meant.

    The horizon may differ: it is how far a policy looks ahead, not what its numbers mean.
    """
    checked = ("names", "units", "frame", "mode", "gripper", "period")
    differ = [f"{k}: policy {getattr(policy, k)!r}, robot {getattr(robot, k)!r}" for k in checked
              if getattr(policy, k) != getattr(robot, k)]
    if differ:
        raise ActionError("spec", "policy and robot disagree on what an action means: " + "; ".join(differ))
