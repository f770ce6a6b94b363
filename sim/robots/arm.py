"""A fixed arm with a parallel gripper, driven by joint targets."""

from __future__ import annotations

import numpy as np

from vla_ros.kinematics import ArmKinematics, gripper_gap
from vla_ros.profile import RobotProfile
from vla_ros.sim.cameras import rigid
from vla_ros.sim.engine import Engine, names
from vla_ros.sim.meshes import urdf_file
from vla_ros.sim.motion import start_joints
from vla_ros.sim.world import Scene
from vla_ros.types import Command, JointCommand, JointState

POSITION_GAIN = 0.5  # share of the position error that a joint motor removes in one physics step
GRIP_FORCE = 25.0  # [N] each finger
MIMIC_FORCE = 60.0  # [N] that keeps both fingers at the same opening
ARM_RGBA, FINGER_RGBA = (0.93, 0.93, 0.93, 1.0), (0.25, 0.25, 0.28, 1.0)


class ArmBody:
    """The arm of a profile in an Engine. load() after every restart of the engine."""

    def __init__(self, engine: Engine, profile: RobotProfile, kinematics: ArmKinematics, visuals: str):
        self.engine, self.profile, self.kinematics, self.visuals = engine, profile, kinematics, visuals

    def load(self, scene: Scene) -> None:
        with urdf_file(self.profile.urdf_path(), self.visuals) as file:
            self.body = self.engine.loadURDF(file, useFixedBase=True)
        self.links, self.index = names(self.engine, self.body)
        self.links[self.profile.base_frame] = -1
        infos = {name: self.engine.getJointInfo(self.body, i) for name, i in self.index.items()}
        self.limits = {name: (info[10], info[11]) for name, info in infos.items()}  # [N or Nm], [/s]
        self.fingers = [self.index[j] for j in self.profile.gripper.joints] if self.profile.gripper else []
        self._couple_fingers()
        self._paint()
        self._place(scene.start)

    def _couple_fingers(self) -> None:
        """Both fingers move as one, as the real gripper's do; PyBullet ignores the URDF's mimic tag."""
        if len(self.fingers) != 2:
            return
        gear = self.engine.createConstraint(self.body, self.fingers[0], self.body, self.fingers[1],
                                            self.engine.JOINT_GEAR, [1, 0, 0], [0, 0, 0], [0, 0, 0])
        self.engine.changeConstraint(gear, gearRatio=-1, erp=0.2, maxForce=MIMIC_FORCE)
        for finger in self.fingers:
            self.engine.changeDynamics(self.body, finger, lateralFriction=1.5, spinningFriction=0.05)

    def _paint(self) -> None:
        for link in self.links.values():
            self.engine.changeVisualShape(self.body, link, rgbaColor=FINGER_RGBA if link in self.fingers else ARM_RGBA)

    def _place(self, start: tuple[float, ...]) -> None:
        self.targets = start_joints(self.profile, self.kinematics, start)
        self.speeds: dict[str, float] = {}
        for name, value in self.targets.items():
            self.engine.resetJointState(self.body, self.index[name], value)

    def apply(self, command: Command | None) -> None:
        """None keeps the last targets."""
        if isinstance(command, JointCommand):
            self.targets |= command.positions
            self.speeds = {} if command.positions else dict(command.velocities)
        elif command is None and self.speeds:
            self.hold()
        for name, value in self.targets.items():
            self._drive(name, value)

    def hold(self) -> None:
        """Ends a motion by velocities where it is."""
        self.speeds = {}
        self.targets |= self.joints(0).positions

    def _drive(self, name: str, target: float) -> None:
        force, speed = self.limits[name]
        if name in self.speeds:
            self.engine.setJointMotorControl2(self.body, self.index[name], self.engine.VELOCITY_CONTROL,
                                              targetVelocity=self.speeds[name], force=force)
            return
        gripping = self.index[name] in self.fingers
        self.engine.setJointMotorControl2(
            self.body, self.index[name], self.engine.POSITION_CONTROL, targetPosition=target, targetVelocity=0.0,
            force=GRIP_FORCE if gripping else force, maxVelocity=speed,
            positionGain=0.2 if gripping else POSITION_GAIN, velocityGain=1.0)

    def joints(self, stamp: int) -> JointState:
        states = self.engine.getJointStates(self.body, [self.index[n] for n in self.targets])
        return JointState({n: s[0] for n, s in zip(self.targets, states, strict=True)},
                          {n: s[1] for n, s in zip(self.targets, states, strict=True)}, stamp)

    def link_pose(self, frame: str) -> np.ndarray:
        """world_from_frame (4, 4)."""
        if self.links[frame] < 0:
            return np.eye(4)
        state = self.engine.getLinkState(self.body, self.links[frame], computeForwardKinematics=1)
        return rigid(np.reshape(self.engine.getMatrixFromQuaternion(state[5]), (3, 3)), state[4])

    def measures(self) -> dict:
        """The arm's part of WorldState."""
        joints = self.joints(0)
        return {"ee": self.kinematics.forward(self.kinematics.vector(joints)).position,
                "gap": gripper_gap(self.profile, joints)}

    def touches(self, contact: tuple) -> bool:
        """Whether a contact point is one of the fingers."""
        return contact[3] in self.fingers
