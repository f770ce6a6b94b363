"""HoldPolicy: stays where it is. For trying a system without a model."""

from __future__ import annotations

import numpy as np

from vla_ros.errors import ObservationError
from vla_ros.profile import RobotProfile
from vla_ros.types import ActionChunk, Observation


class HoldPolicy:
    """Zero motion; the gripper keeps its measured opening."""

    name = "hold"

    def __init__(self, profile: RobotProfile):
        self.profile = profile
        self.spec = profile.action
        self.cameras = tuple(profile.cameras)

    def infer(self, observation: Observation) -> ActionChunk:
        values = np.zeros((self.spec.horizon, self.spec.dim))
        if "gripper" in self.spec.names:
            if observation.gripper is None:
                raise ObservationError("joints", f"joint states lack {', '.join(self.profile.gripper.joints)}")
            opening = self.profile.gripper.opening(observation.gripper)
            values[:, self.spec.names.index("gripper")] = np.clip(opening, 0, 1)
        return ActionChunk(values, self.spec, observation.stamp)

    def reset(self) -> None:
        """Remembers nothing."""
