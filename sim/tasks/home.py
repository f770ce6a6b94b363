"""Home: the end effector goes back to where it is in the home pose, and rests there."""

from __future__ import annotations

import numpy as np

from vla_ros.sim.motion import home_position
from vla_ros.sim.tasks.layout import arm_scene, arm_start, draw_until, table_objects
from vla_ros.sim.world import Scene, WorldState

NEAR = 0.025  # [m]
FAR = 0.10  # [m] from it, at least, in the beginning


class Home:
    name = "home"
    robot = "panda"
    time_limit = 8.0
    hold = 0.3  # too long to pass through it at speed

    def layout(self, rng: np.random.Generator) -> Scene:
        start = draw_until(lambda: arm_start(rng), lambda s: away_from_home(s[:3]) > FAR)
        return arm_scene(rng, self.name, table_objects(rng), named=0, start=start)

    def progress(self, initial: WorldState, state: WorldState, scene: Scene) -> tuple[float, bool]:
        left = away_from_home(state.ee)
        return left, left < NEAR


def away_from_home(position) -> float:
    """[m] from the home position."""
    return float(np.linalg.norm(np.asarray(position) - home_position(Home.robot)))
