"""Kinematics of a robot profile: where the end effector is, and which joints take it elsewhere.

The only module that knows Pinocchio and pink.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
import pink
import pinocchio as pin

from vla_ros.errors import ActionError, ConfigError
from vla_ros.profile import RobotProfile
from vla_ros.types import JointState, Pose

SOLVER = "daqp"


def place_of(model: pin.Model, joint: str) -> int:
    """Of a joint's velocity among all."""
    return model.joints[model.getJointId(joint)].idx_v


class ArmKinematics:
    """An arm reduced to the profile's joints. Vectors q are (N,) in the profile's order [rad]."""

    def __init__(self, profile: RobotProfile):
        self.profile = profile
        try:
            full = pin.buildModelFromUrdf(str(profile.urdf_path()))
        except ValueError as error:
            raise ConfigError(f"robot '{profile.name}': {error}") from error
        missing = [j for j in profile.joints if not full.existJointName(j)]
        if missing or not full.existFrame(profile.ee_frame):
            raise ConfigError(f"robot '{profile.name}': {missing or profile.ee_frame} not in {profile.urdf}")
        fingers = [n for n in (profile.gripper.joints if profile.gripper else ()) if full.existJointName(n)]
        self.finger_speed = {name: profile.velocity_scale * float(full.velocityLimit[place_of(full, name)])
                             for name in fingers}  # [m/s] the highest
        locked = [i for i, n in enumerate(full.names) if i and n not in profile.joints]
        self.model = pin.buildReducedModel(full, locked, pin.neutral(full))
        if tuple(self.model.names[1:]) != profile.joints:
            raise ConfigError(f"robot '{profile.name}': joints must stand in the URDF's order {self.model.names[1:]}")
        self.model.velocityLimit = self.model.velocityLimit * profile.velocity_scale
        self.data = self.model.createData()
        self.lower, self.upper = self.model.lowerPositionLimit, self.model.upperPositionLimit  # [rad]
        self.max_velocity = self.model.velocityLimit  # [rad/s]
        outside = [j for j, q, low, high in zip(profile.joints, profile.home, self.lower, self.upper, strict=True)
                   if not low <= q <= high]
        if outside:
            raise ConfigError(f"robot '{profile.name}': home lies outside the limits of {', '.join(outside)}")
        self._frame = self.model.getFrameId(profile.ee_frame)

    @cached_property
    def _tasks(self):
        # The posture task only chooses among the solutions that the spare joint leaves open.
        hand = pink.FrameTask(self.profile.ee_frame, position_cost=1.0, orientation_cost=0.3)
        posture = pink.PostureTask(cost=1e-3)
        posture.set_target(np.array(self.profile.home))
        return hand, posture

    def vector(self, joints: JointState) -> np.ndarray:
        """Measured positions (N,) by name; a joint that is missing is an error, never a zero."""
        missing = [j for j in self.profile.joints if j not in joints.positions]
        if missing:
            raise ActionError("joints", f"joint states lack {', '.join(missing)}; have {', '.join(joints.positions)}")
        return np.array([joints.positions[j] for j in self.profile.joints])

    def forward(self, q: np.ndarray) -> Pose:
        """base_from_ee."""
        pin.framesForwardKinematics(self.model, self.data, q)
        placement = self.data.oMf[self._frame]
        return Pose(placement.translation.copy(), placement.rotation.copy())

    def step(self, q: np.ndarray, target: Pose, dt: float) -> np.ndarray:
        """Joint positions (N,) one period dt [s] on the way to `target`, inside position and velocity limits."""
        inside = np.clip(q, self.lower + 1e-9, self.upper - 1e-9)
        configuration = pink.Configuration(self.model, self.data, inside)
        hand, posture = self._tasks
        hand.set_target(pin.SE3(target.rotation, target.position))
        velocity = pink.solve_ik(configuration, [hand, posture], dt, solver=SOLVER)
        return np.clip(inside + velocity * dt, self.lower, self.upper)

    def inverse(self, target: Pose, q_seed: np.ndarray, tolerance: float = 1e-4, steps: int = 500) -> np.ndarray:
        """Joint positions (N,) that reach `target` to `tolerance` [m], or ActionError."""
        q = np.asarray(q_seed, dtype=float)
        for _ in range(steps):
            if np.linalg.norm(self.forward(q).position - target.position) < tolerance:
                return q
            q = self.step(q, target, 0.05)
        raise ActionError("unreachable", f"no joint positions reach {np.round(target.position, 3)} m")


def rotation_vector(rotation: np.ndarray) -> np.ndarray:
    """Axis times angle (3,) [rad], the angle at most pi, of a rotation matrix (3, 3)."""
    return pin.log3(rotation)


def gripper_gap(profile: RobotProfile, joints: JointState) -> float | None:
    """[m] gap between the fingers; None without a gripper or when its joints are not reported."""
    if profile.gripper is None or any(j not in joints.positions for j in profile.gripper.joints):
        return None
    return float(sum(joints.positions[j] for j in profile.gripper.joints))


def base_twist(profile: RobotProfile, joints: JointState) -> tuple[float, float] | None:
    """(v [m/s], w [rad/s]) from the wheels' speeds; the inverse of wheel_speeds."""
    wheels = profile.wheels
    if wheels is None or any(j not in joints.velocities for j in wheels.left + wheels.right):
        return None
    left = wheels.radius * float(np.mean([joints.velocities[j] for j in wheels.left]))
    right = wheels.radius * float(np.mean([joints.velocities[j] for j in wheels.right]))
    return (left + right) / 2, (right - left) / (wheels.separation * wheels.separation_multiplier)


def wheel_speeds(profile: RobotProfile, v: float, w: float) -> dict[str, float]:
    """[rad/s] by wheel joint for a base velocity v [m/s], w [rad/s], as diff_drive_controller computes them."""
    wheels = profile.wheels
    offset = w * wheels.separation * wheels.separation_multiplier / 2
    return ({j: (v - offset) / wheels.radius for j in wheels.left}
            | {j: (v + offset) / wheels.radius for j in wheels.right})
