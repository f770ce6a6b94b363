"""The oracle: the expert as a policy, reading the truth of its world instead of the observation."""

from __future__ import annotations

import numpy as np

from vla_ros.sim.experts import arm_chunk, base_chunk
from vla_ros.sim.tasks.task import direction_vector
from vla_ros.sim.world import SHAPES, World
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
        state, scene = self.world.state, self.world.scene
        thing = scene.objects[scene.target]
        return arm_chunk([self.world.task.name], state.ee[None], [state.gap], state.objects[scene.target][None],
                         [SHAPES.index(thing.shape)], [thing.size], direction_vector(scene.direction)[None],
                         self.spec.horizon)[0]

    def _base(self) -> np.ndarray:
        """(T, 2)"""
        state, scene = self.world.state, self.world.scene
        offset, yaw = state.objects[scene.target][:2] - state.base[:2], state.base[2]
        seen = [np.cos(yaw) * offset[0] + np.sin(yaw) * offset[1], np.cos(yaw) * offset[1] - np.sin(yaw) * offset[0]]
        return base_chunk([seen], [scene.objects[scene.target].size / 2], state.twist[None], self.spec.horizon)[0]
