"""Small values that the core's tests share: robots, joint states, chunks, observations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from vla_ros.control import Controller
from vla_ros.observing import Observer
from vla_ros.profile import RobotProfile, load_profile
from vla_ros.types import ActionChunk, JointState, Observation

SMOOTH, HUSKY = load_profile("panda"), load_profile("husky")
PANDA = replace(SMOOTH, motion=None)  # each command is where the chunk says, for tests of what comes before the guard
ROBOTS = {"panda": PANDA, "husky": HUSKY}
OPENING = 0.03  # [m] gap that the sample gripper stands at


def joint_state(profile: RobotProfile, stamp: int = 0, q=None) -> JointState:
    """Measured joints at rest at `stamp` [ns]; q: (N,) [rad], else home (arm) or zero (base)."""
    q = np.asarray(q if q is not None else profile.home or np.zeros(len(profile.joints)), float)
    positions = dict(zip(profile.joints, q.tolist(), strict=True))
    if profile.gripper:
        positions |= dict.fromkeys(profile.gripper.joints, OPENING / 2)
    return JointState(positions, dict.fromkeys(positions, 0.0), stamp)


def chunk(profile: RobotProfile, values, stamp: int = 0, **more) -> ActionChunk:
    """values: (T, D) in the robot's own spec."""
    return ActionChunk(np.asarray(values, float).reshape(-1, profile.action.dim), profile.action, stamp, **more)


def observation(profile: RobotProfile, instruction: str = "touch the red cube", stamp: int = 0) -> Observation:
    """Random images of the profile's sizes, joints at home."""
    rng = np.random.default_rng(stamp)
    images = {name: rng.integers(0, 256, (camera.height, camera.width, 3), dtype=np.uint8)
              for name, camera in profile.cameras.items()}
    return Observer(profile).observation(images, dict.fromkeys(images, stamp), joint_state(profile, stamp), instruction)


def ready(profile: RobotProfile, values=None, stamp: int = 0, q=None, **more) -> Controller:
    """A controller that has measured joints at `stamp` [ns] and, when given, accepted `values` for that moment."""
    controller = Controller(profile, **more)
    controller.observe(joint_state(profile, stamp, q))
    if values is not None:
        controller.accept(chunk(profile, values, stamp))
    return controller


def number(bound: float):
    """Ordinary numbers, and the extremes that a broken policy might send."""
    return st.one_of(st.floats(-bound, bound), st.sampled_from([0.0, 1e3, -1e3, 1e308, -1e308, 5e-324]))


def values_of(profile: RobotProfile, bound: float = 0.2, steps: int = 8):
    """Finite chunks (1..steps, D), small and absurd."""
    row = st.lists(number(bound), min_size=profile.action.dim, max_size=profile.action.dim)
    return st.lists(row, min_size=1, max_size=steps).map(np.array)
