"""The first inference of a policy, which is the slowest, before a robot waits for it. No ROS."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vla_ros.errors import CheckpointError, VlaError
from vla_ros.observing import Observer
from vla_ros.policy import Policy, goes_on_after
from vla_ros.profile import RobotProfile
from vla_ros.types import JointState

WORDS = "touch the red cube"


def warm_up(policy: Policy, profile: RobotProfile) -> None:
    """An inference about a robot at home that sees noise, and another that goes on from it where the policy does; the
    policy forgets them again.

    Raises CheckpointError when the policy cannot infer, whatever it raised.
    """
    random = np.random.default_rng(0)  # a picture of one colour would be refused
    sizes = {name: (profile.cameras[name].height, profile.cameras[name].width, 3) for name in policy.cameras}
    images = {name: random.integers(0, 256, size, dtype=np.uint8) for name, size in sizes.items()}
    positions = dict(zip(profile.joints, profile.home or [0.0] * len(profile.joints), strict=True))
    if profile.gripper:
        positions |= dict.fromkeys(profile.gripper.joints, profile.gripper.open / 2)
    joints = JointState(positions, dict.fromkeys(positions, 0.0), 0)
    observer = Observer(profile)
    try:
        for stamp in (0,) if goes_on_after(policy) is None else (0, policy.spec.period_ns):
            then = replace(joints, stamp=stamp)
            policy.infer(observer.observation(images, dict.fromkeys(images, stamp), then, WORDS))
        policy.reset()
    except VlaError:
        raise
    except Exception as error:  # whatever a policy raises
        raise CheckpointError(f"policy '{policy.name}' cannot infer: {type(error).__name__}: {error}") from error
