"""What the arm's experts know: the present state of a robot, of an object and of what it is to be put to."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace

import numpy as np

from vla_ros.sim.motion import home_position

FAMILIES = ("reach", "push", "pick", "place", "next_to", "stack", "away", "home", "stop")  # of the arm


@dataclass(frozen=True)
class ArmStates:
    """N states with what is wanted in each; positions [m] in the base frame. What a family does not use may be zero.

    family (N,): names or indices into FAMILIES; ee (N, 3); gap (N,) [m]; target (N, 3): centre of the named object;
    shape (N,): its index into SHAPES; size (N,) [m]; direction (N, 2): unit vector of a push, or zero;
    reference (N, 3), reference_shape, reference_size (N,): of the object that the target is put to;
    relation (N,): index into RELATIONS; home (3,): where home is.
    """

    family: np.ndarray
    ee: np.ndarray
    gap: np.ndarray
    target: np.ndarray
    shape: np.ndarray
    size: np.ndarray
    direction: np.ndarray
    reference: np.ndarray
    reference_shape: np.ndarray
    reference_size: np.ndarray
    relation: np.ndarray
    home: np.ndarray = field(default_factory=home_position)

    def arrays(self) -> ArmStates:
        """The same as new arrays, the family as indices."""
        family = [FAMILIES.index(f) if isinstance(f, str) else int(f) for f in np.asarray(self.family).tolist()]
        whole = {"family": family} | {n: getattr(self, n) for n in ("shape", "reference_shape", "relation")}
        return ArmStates(**{f.name: np.array(whole[f.name], int) if f.name in whole
                            else np.array(getattr(self, f.name), float) for f in fields(self)})

    def take(self, rows: np.ndarray) -> ArmStates:
        """Some of the states, by indices or by a mask (N,)."""
        return replace(self, **{f.name: getattr(self, f.name)[rows] for f in fields(self) if f.name != "home"})
