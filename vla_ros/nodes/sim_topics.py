"""What the simulated robot publishes: everything that a real one would, and the task's state."""

from __future__ import annotations

import re

from nav_msgs.msg import Odometry
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image, JointState
from std_msgs.msg import String

from vla_ros.msg import SceneTruth, TaskState
from vla_ros.nodes import convert, qos
from vla_ros.nodes.frames import LinkTree, planar
from vla_ros.nodes.oracle import TOPIC, truth_message
from vla_ros.profile import RobotProfile
from vla_ros.sim.cameras import camera_from_parent, intrinsics, inverse
from vla_ros.sim.oracle import Truth
from vla_ros.sim.overview import overview
from vla_ros.sim.world import World

try:
    from tf2_msgs.msg import TFMessage
except ImportError:  # ROS 2 from PyPI lacks it, until `make` has built third_party/tf2_msgs
    TFMessage = None

OVERVIEW = "overview"


class SimTopics:
    """Publishers of one simulated robot. Every stamp is [ns] of ROS time."""

    def __init__(self, node, profile: RobotProfile, lockstep: bool, overview: bool):
        self.profile, self._log = profile, node.get_logger()
        text = description_of(profile)
        self.tree = LinkTree(text)
        sensor = qos.sensor(lockstep)
        self._clock = node.create_publisher(Clock, "/clock", qos.CLOCK)
        self._joints = node.create_publisher(JointState, "joint_states", sensor)
        self._truth, self._lockstep = node.create_publisher(SceneTruth, TOPIC, sensor), lockstep
        self._state = node.create_publisher(TaskState, "sim/task_state", qos.EVERY_TICK)
        names = [*profile.cameras, *([OVERVIEW] if overview else [])]
        self._images = {n: node.create_publisher(Image, f"camera/{n}/image_raw", sensor) for n in names}
        self._infos = {n: node.create_publisher(CameraInfo, f"camera/{n}/camera_info", sensor) for n in profile.cameras}
        self._odometry = node.create_publisher(Odometry, "odom", qos.STREAM) if profile.kind == "base" else None
        description = node.create_publisher(String, "robot_description", qos.STATUS)
        description.publish(String(data=text))
        self._tf = self._tf_static = None
        if TFMessage is None:
            self._log.warning("tf2_msgs is not installed: /tf is not published")
        else:
            self._tf = node.create_publisher(TFMessage, "/tf", qos.STREAM)
            self._tf_static = node.create_publisher(TFMessage, "/tf_static", qos.STATUS)

    def clock(self, stamp: int) -> None:
        self._clock.publish(Clock(clock=convert.time_message(stamp)))

    def truth(self, world: World, stamp: int) -> None:
        """While somebody listens; in lockstep also for who comes later."""
        if self._lockstep or self._truth.get_subscription_count():
            self._truth.publish(truth_message(Truth.of(world), stamp))

    def joints(self, world: World, stamp: int) -> None:
        message = convert.joint_message(world.joints())
        message.header.stamp = convert.time_message(stamp)
        self._joints.publish(message)
        if self._odometry is not None:
            self._odometry.publish(self._odometry_of(world, stamp))

    def _odometry_of(self, world: World, stamp: int) -> Odometry:
        (x, y, yaw), (v, w) = world.state.base.tolist(), world.state.twist.tolist()
        message = Odometry(header=convert.header(stamp, "odom"), child_frame_id=self.profile.base_frame)
        pose = convert.transform_message("", "", planar(x, y, yaw), stamp).transform
        message.pose.pose.position.x, message.pose.pose.position.y = x, y
        message.pose.pose.orientation = pose.rotation
        message.twist.twist.linear.x, message.twist.twist.angular.z = v, w
        return message

    def images(self, world: World, stamp: int) -> None:
        for name, image in world.observe().images.items():
            camera, frame = self.profile.cameras[name], optical(name)
            self._images[name].publish(convert.image_message(image, stamp, frame))
            info = convert.camera_info(intrinsics(camera), camera.width, camera.height, stamp, frame)
            self._infos[name].publish(info)

    def overview(self, world: World, stamp: int, width: int, height: int) -> None:
        """A view for people; policies do not read it."""
        image = overview(world, width, height)
        self._images[OVERVIEW].publish(convert.image_message(image, stamp, OVERVIEW))

    def task_state(self, world: World, stamp: int, episode: int) -> None:
        progress, scene = world.progress, world.scene
        self._state.publish(TaskState(
            header=convert.header(stamp), task=world.task.name, seed=scene.seed, instruction=scene.instruction,
            success=progress.success, distance=progress.distance, elapsed=world.stamp / 1e9,
            steps=round(world.stamp * self.profile.control_rate / 1e9), episode=episode,
            time_limit=float(world.task.time_limit)))

    def frames(self, world: World, stamp: int) -> None:
        """/tf, while somebody listens."""
        if self._tf is None or self._tf.get_subscription_count() == 0:
            return
        moving = list(self.tree.transforms(world.joints().positions))
        if world.state.base is not None:
            moving.append(("odom", self.tree.root, planar(*world.state.base)))
        self._tf.publish(TFMessage(transforms=[convert.transform_message(p, c, t, stamp) for p, c, t in moving]))

    def fixed_frames(self, stamp: int) -> None:
        if self._tf_static is None:
            return
        cameras = [(c.parent, optical(n), inverse(camera_from_parent(c))) for n, c in self.profile.cameras.items()]
        fixed = [*self.tree.fixed_transforms(), *cameras]
        self._tf_static.publish(TFMessage(transforms=[convert.transform_message(p, c, t, stamp) for p, c, t in fixed]))


def description_of(profile: RobotProfile) -> str:
    """The URDF with whole names of mesh files, and the defaults of what a launch file might have replaced."""
    file = profile.urdf_path()
    text = re.sub(r"\$\(optenv \S+ ([^)]*)\)", r"\1", file.read_text())
    return re.sub(r'filename="(?:package://)?(?!/)', f'filename="file://{file.parent}/', text)


def optical(camera: str) -> str:
    """The frame of a camera's images: x right, y down, z forward (REP-103)."""
    return f"{camera}_optical_frame"
