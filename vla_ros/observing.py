"""From parts to one Observation. The simulator and the nodes build it here, so that both give policies the same."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vla_ros.errors import ObservationError
from vla_ros.kinematics import ArmKinematics, base_twist, gripper_gap
from vla_ros.profile import RobotProfile
from vla_ros.types import JointState, Observation

BLANK = 12  # [0..255] an image whose pixels differ by less shows nothing
REPEATED = 0.1  # [rad] of any joint, over which a camera's picture cannot stay the same


class Observer:
    """Builds observations for one robot profile."""

    def __init__(self, profile: RobotProfile):
        self.profile = profile
        self.kinematics = ArmKinematics(profile) if profile.kind == "arm" else None

    def observation(self, images: Mapping[str, np.ndarray], stamps: Mapping[str, int], joints: JointState,
                    instruction: str) -> Observation:
        """images: uint8 (H, W, 3) RGB by camera; stamps: [ns] by camera. Raises ObservationError."""
        for name, image in images.items():
            self.check_image(name, image)
        self.check_joints(joints)
        pose = self.kinematics.forward(self.kinematics.vector(joints)) if self.kinematics else None
        return Observation(images=dict(images), joints=joints, instruction=instruction,
                           stamps={"joints": joints.stamp, **stamps}, ee_pose=pose,
                           gripper=gripper_gap(self.profile, joints), base_twist=base_twist(self.profile, joints))

    def check_image(self, name: str, image: np.ndarray) -> None:
        check_image(self.profile, name, image)

    def check_joints(self, joints: JointState) -> None:
        """Joints are matched by name; one that is missing is an error, never a zero."""
        missing = [name for name in self.profile.joints if name not in joints.positions]
        if missing:
            raise ObservationError("joints", f"joint states lack {', '.join(missing)}; "
                                             f"have {', '.join(joints.positions)}")


def check_image(profile: RobotProfile, name: str, image: np.ndarray) -> None:
    """Raises ObservationError for an image that is not what the profile says of camera `name`."""
    camera = profile.cameras.get(name)
    if camera is None:
        raise ObservationError("camera", f"unknown camera '{name}'; available: {', '.join(profile.cameras)}")
    expected = (camera.height, camera.width, 3)
    if image.shape != expected or image.dtype != np.uint8:
        raise ObservationError("size", f"camera '{name}' gives {image.dtype} {image.shape}, "
                                       f"the robot profile says uint8 {expected}")


def check_shows(name: str, image: np.ndarray) -> None:
    """Raises ObservationError for an image of camera `name` that shows nothing."""
    if int(image.max()) - int(image.min()) < BLANK:
        raise ObservationError("blank", f"the image of camera '{name}' shows nothing")


def require_image(observation: Observation, name: str) -> np.ndarray:
    """The image (H, W, 3) of a camera, of any size. Raises ObservationError for none, or one that shows nothing."""
    image = observation.images.get(name)
    if image is None or image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ObservationError("size", f"the model reads camera '{name}', uint8 (H, W, 3), got "
                                       f"{None if image is None else (str(image.dtype), image.shape)}")
    check_shows(name, image)
    return image


class Pictures:
    """Notices a camera that repeats one picture while the robot moves: new stamps do not make new pixels.

    A real sensor never gives the same pixels twice, nor does the simulator's. One without noise may, as long as the
    robot moves out of its view: it would be taken for one that has stopped.
    """

    def __init__(self):
        self.reset()

    def reset(self) -> None:
        """Another robot, world or episode: what was seen before says nothing."""
        self._since: dict[str, tuple[np.ndarray, Mapping[str, float]]] = {}  # picture, and the joints when it was new

    def check(self, observation: Observation) -> None:
        """Raises ObservationError for a picture that has not changed since the joints were elsewhere."""
        joints = observation.joints.positions
        for name, image in observation.images.items():
            picture, before = self._since.get(name, (None, {}))
            if picture is None or not np.array_equal(picture, image):
                self._since[name] = image, joints
                continue
            moved = max((abs(joints[joint] - value) for joint, value in before.items() if joint in joints), default=0.0)
            if moved > REPEATED:
                raise ObservationError("frozen", f"camera '{name}' repeats one picture while the joints moved by "
                                                 f"{moved:.2f} rad")


def check_times(profile: RobotProfile, stamps: Mapping[str, int], now: int) -> None:
    """Raises ObservationError when a part is over-age at `now` [ns], from the future, or too far from the others."""
    for name, stamp in stamps.items():
        age, limit = (now - stamp) / 1e9, profile.max_age(name)
        if age > limit:
            raise ObservationError("stale", f"'{name}' is {age:.3f} s old, at most {limit} s")
        if age < -profile.max_observation_age:
            raise ObservationError("future", f"'{name}' is stamped {-age:.3f} s ahead of the clock")
    skew = (max(stamps.values()) - min(stamps.values())) / 1e9
    if skew > profile.max_skew:
        raise ObservationError("skew", f"parts lie {skew:.3f} s apart, at most {profile.max_skew} s: {dict(stamps)}")


PROPRIOCEPTION = {"arm": ("x", "y", "z", "gap"), "base": ("v", "w")}  # [m], [m/s], [rad/s]


def proprioception(observation: Observation, kind: str) -> np.ndarray:
    """What a robot of `kind` feels of itself, (D,) in the order of PROPRIOCEPTION."""
    if kind == "arm":
        if observation.ee_pose is None or observation.gripper is None:
            raise ObservationError("joints", "the observation lacks the end effector's pose or the gripper's gap")
        return np.array([*observation.ee_pose.position, observation.gripper])
    if observation.base_twist is None:
        raise ObservationError("joints", "the observation lacks the wheels' velocities")
    return np.array(observation.base_twist)
