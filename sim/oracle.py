"""The oracle: the expert as a policy, reading the truth of its world instead of the observation."""

from __future__ import annotations

import numpy as np

from vla_ros.sim.experts import ArmStates, arm_chunk, base_chunk
from vla_ros.sim.tasks.task import direction_vector
from vla_ros.sim.world import RELATIONS, SHAPES, World
from vla_ros.types import ActionChunk, Observation


class OraclePolicy:
    """Needs the world that the observations come from."""

    name = "oracle"
    cameras: tuple[str, ...] = ()

    def __init__(self, world: World):
        self.world = world
        self.spec = world.profile.action

    def infer(self, observation: Observation) -> ActionChunk:
        values = self._arm() if self.world.profile.kind == "arm" else self._base()
        return ActionChunk(values=values, spec=self.spec, stamp=observation.stamp)

    def reset(self) -> None:
        """Nothing to forget."""

    def _arm(self) -> np.ndarray:
        """(T, 4)"""
        return arm_chunk(arm_states(self.world), self.spec.horizon)[0]

    def _base(self) -> np.ndarray:
        """(T, 2)"""
        state, scene = self.world.state, self.world.scene
        offset, yaw = state.objects[scene.target][:2] - state.base[:2], state.base[2]
        seen = [np.cos(yaw) * offset[0] + np.sin(yaw) * offset[1], np.cos(yaw) * offset[1] - np.sin(yaw) * offset[0]]
        return base_chunk([seen], [scene.objects[scene.target].size / 2], state.twist[None], self.spec.horizon)[0]


def arm_states(world: World) -> ArmStates:
    """The one state that an arm's world is in; what its task does not name is zero."""
    state, scene = world.state, world.scene

    def of(index: int) -> tuple:
        """Centre (1, 3), shape and size (1,)."""
        if index < 0:
            return np.zeros((1, 3)), [0], [0.0]
        thing = scene.objects[index]
        return state.objects[index][None], [SHAPES.index(thing.shape)], [thing.size]

    return ArmStates([world.task.name], state.ee[None], [state.gap], *of(scene.target),
                     direction_vector(scene.direction)[None], *of(scene.reference), [RELATIONS.index(scene.relation)])
