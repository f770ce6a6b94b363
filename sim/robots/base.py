"""A wheeled base with differential drive, driven by velocities."""

from __future__ import annotations

import numpy as np

from vla_ros.kinematics import wheel_speeds
from vla_ros.profile import RobotProfile
from vla_ros.sim.cameras import rigid
from vla_ros.sim.engine import Engine, names
from vla_ros.sim.meshes import urdf_file
from vla_ros.sim.world import Scene
from vla_ros.types import Command, JointState, TwistCommand

WHEEL_TORQUE = 60.0  # [Nm] each wheel
WHEEL_FRICTION = 0.9
# Share of the friction along each axis of a wheel: little along its axle. With full friction there, turning on the spot
# slips and sticks, and its rate varies by half; so it stays within 4 % of what the wheels' speeds say.
WHEEL_GRIP = (1.0, 0.1, 1.0)


class BaseBody:
    """The base of a profile in an Engine. load() after every restart of the engine."""

    def __init__(self, engine: Engine, profile: RobotProfile, visuals: str):
        self.engine, self.profile, self.visuals = engine, profile, visuals

    def load(self, scene: Scene) -> None:
        x, y, yaw = scene.start
        with urdf_file(self.profile.urdf_path(), self.visuals) as file:
            self.body = self.engine.loadURDF(file, [x, y, 0.0], self.engine.getQuaternionFromEuler([0, 0, yaw]))
        self.links, self.index = names(self.engine, self.body)
        self.engine.setPhysicsEngineParameter(enableConeFriction=0)  # the cone ignores WHEEL_GRIP
        for name in self.profile.joints:
            self.engine.changeDynamics(self.body, self.index[name], lateralFriction=WHEEL_FRICTION,
                                       anisotropicFriction=WHEEL_GRIP)

    def apply(self, command: Command | None) -> None:
        """None stands still."""
        twist = command if isinstance(command, TwistCommand) else TwistCommand(0.0, 0.0)
        for name, speed in wheel_speeds(self.profile, twist.v, twist.w).items():
            self.engine.setJointMotorControl2(self.body, self.index[name], self.engine.VELOCITY_CONTROL,
                                              targetVelocity=speed, force=WHEEL_TORQUE)

    def joints(self, stamp: int) -> JointState:
        wheels = self.profile.joints
        states = self.engine.getJointStates(self.body, [self.index[n] for n in wheels])
        return JointState({n: s[0] for n, s in zip(wheels, states, strict=True)},
                          {n: s[1] for n, s in zip(wheels, states, strict=True)}, stamp)

    def link_pose(self, frame: str) -> np.ndarray:
        """world_from_frame (4, 4)."""
        state = self.engine.getLinkState(self.body, self.links[frame], computeForwardKinematics=1)
        return rigid(np.reshape(self.engine.getMatrixFromQuaternion(state[5]), (3, 3)), state[4])

    def measures(self) -> dict:
        """The base's part of WorldState: pose and velocity of the base frame in the plane."""
        index = self.links[self.profile.base_frame]
        state = self.engine.getLinkState(self.body, index, computeLinkVelocity=1, computeForwardKinematics=1)
        rotation = np.reshape(self.engine.getMatrixFromQuaternion(state[5]), (3, 3))
        yaw = float(np.arctan2(rotation[1, 0], rotation[0, 0]))
        forward = float(np.dot(rotation[:, 0], state[6]))
        return {"base": np.array([state[4][0], state[4][1], yaw]), "twist": np.array([forward, state[7][2]])}

    def touches(self, contact: tuple) -> bool:
        """Any part of the base counts."""
        return True
