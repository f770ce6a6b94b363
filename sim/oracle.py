"""The oracle: the expert as a policy, reading the truth of its world instead of the observation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla_ros.profile import RobotProfile
from vla_ros.sim.experts import ArmStates, arm_chunk, base_chunk
from vla_ros.sim.tasks.task import direction_vector
from vla_ros.sim.world import RELATIONS, SHAPES, World
from vla_ros.types import ActionChunk, Observation


@dataclass(frozen=True)
class Truth:
    """What an expert knows of a moment, world frame. objects (M, 3) [m], with shapes and sizes [m]; target, reference:
    indices, -1 for none; ee (3,), gap [m] of an arm; base (x, y [m], yaw [rad]) and twist (v, w) of a base."""

    task: str
    shapes: tuple[str, ...]
    sizes: tuple[float, ...]
    objects: np.ndarray
    target: int
    reference: int = -1
    direction: str = ""
    relation: str = ""
    ee: np.ndarray | None = None
    gap: float = 0.0
    base: np.ndarray | None = None
    twist: np.ndarray | None = None

    @classmethod
    def of(cls, world: World) -> Truth:
        state, scene = world.state, world.scene
        return cls(world.task.name, tuple(o.shape for o in scene.objects), tuple(o.size for o in scene.objects),
                   state.objects, scene.target, scene.reference, scene.direction, scene.relation, state.ee,
                   state.gap or 0.0, state.base, state.twist)


class OraclePolicy:
    """Needs the world that the observations come from."""

    name = "oracle"
    cameras: tuple[str, ...] = ()

    def __init__(self, world: World):
        self.world = world
        self.spec = world.profile.action

    def infer(self, observation: Observation) -> ActionChunk:
        values = expert_values(self.world.profile, Truth.of(self.world))
        return ActionChunk(values=values, spec=self.spec, stamp=observation.stamp)

    def reset(self) -> None:
        """Nothing to forget."""


def expert_values(profile: RobotProfile, truth: Truth) -> np.ndarray:
    """What the expert would do (T, D)."""
    if profile.kind == "arm":
        return arm_chunk(arm_states(truth), profile.action.horizon)[0]
    offset, yaw = truth.objects[truth.target][:2] - truth.base[:2], truth.base[2]
    seen = [np.cos(yaw) * offset[0] + np.sin(yaw) * offset[1], np.cos(yaw) * offset[1] - np.sin(yaw) * offset[0]]
    return base_chunk([seen], [truth.sizes[truth.target] / 2], truth.twist[None], profile.action.horizon)[0]


def arm_states(truth: Truth) -> ArmStates:
    """The one state that an arm's world is in; what its task does not name is zero."""
    def of(index: int) -> tuple:
        """Centre (1, 3), shape and size (1,)."""
        if index < 0:
            return np.zeros((1, 3)), [0], [0.0]
        return truth.objects[index][None], [SHAPES.index(truth.shapes[index])], [truth.sizes[index]]

    return ArmStates([truth.task], truth.ee[None], [truth.gap], *of(truth.target),
                     direction_vector(truth.direction)[None], *of(truth.reference), [RELATIONS.index(truth.relation)])
