"""Listens to a running system as the policy and control nodes would, and says what it heard. It publishes nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import rclpy
from rcl_interfaces.srv import GetParameters
from rclpy.exceptions import NameValidationException
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import parameter_value_to_python
from rclpy.qos import QoSProfile
from rclpy.validate_topic_name import validate_topic_name
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image, JointState

from vla_ros.bringup import remapping
from vla_ros.doctor.robot import named_joints
from vla_ros.doctor.topics import SIM, WALL, Heard, Stream
from vla_ros.errors import ConfigError, ObservationError
from vla_ros.nodes import convert, qos
from vla_ros.nodes.graph import endpoints, publishers_of, readers_of, type_name
from vla_ros.observing import check_image
from vla_ros.profile import RobotProfile

OURS = ("sim_node", "policy_node", "control_node")
ASKED = ("use_sim_time", "lockstep", "mode")
SAMPLES = 8  # messages of each topic, after which more tell nothing new
SETTLE = 1.0  # [s] at least that nodes have to be discovered with their names


class Ear:
    """Keeps of one topic's messages what is to be judged."""

    def __init__(self, listener: Listener, kind: type, topic: str, check: Callable[[object], None]):
        self.listener, self.kind, self.topic, self.check = listener, kind, topic, check
        self.stamps: list[int] = []
        self.behind: dict[str, float] = {}
        self.fault, self.names = "", frozenset()

    def hear(self, message) -> None:
        stamp = convert.nanoseconds(message.header.stamp)
        self.stamps.append(stamp)
        for name, now in self.listener.clocks().items():
            self.behind[name] = min((now - stamp) / 1e9, self.behind.get(name, float("inf")), key=abs)
        try:
            self.check(message)
            self.fault = ""
        except ObservationError as error:
            self.fault = str(error)
        if isinstance(message, JointState):
            needed = set(named_joints(self.listener.profile))
            self.names = max(frozenset(message.name), self.names, key=lambda names: len(names & needed))

    def date(self, now: int) -> None:
        """The first /clock [ns], when it comes after what it is to date, as where the simulation waits."""
        if self.stamps:
            self.behind.setdefault(SIM, (now - self.stamps[-1]) / 1e9)

    def stream(self, profile: QoSProfile) -> Stream:
        node = self.listener.node
        publishers = endpoints(node.get_publishers_info_by_topic(self.topic), lambda theirs: (theirs, profile))
        return Stream(node.resolve_topic_name(self.topic), type_name(self.kind), publishers, tuple(self.stamps),
                      dict(self.behind), self.fault, self.names)


class Listener:
    """A node with a context of its own. Use it in a `with` statement, from one thread.

    compressed: images come on image_raw/compressed. remap: FROM:=TO, several parted by blanks. domain: ROS domain id,
    None for the environment's. Raises ConfigError for a namespace or a remap that is none.
    """

    def __init__(self, profile: RobotProfile, cameras: tuple[str, ...], compressed: bool = False, namespace: str = "",
                 remap: str = "", domain: int | None = None):
        self.profile, self.read = profile, cameras
        words = [word for text in remap.split() for word in ("-r", ":=".join(remapping(text)))]
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=domain)
        try:
            self.node = rclpy.create_node("vla_doctor", namespace=namespace, context=self._context, enable_rosout=False,
                                          start_parameter_services=False, cli_args=["--ros-args", *words])
        except (NameValidationException, RuntimeError) as error:  # what rclpy raises for words that are no names
            self._context.try_shutdown()
            raise ConfigError(f"namespace '{namespace}' or remap '{remap}' is no name for ROS: "
                              f"{str(error).splitlines()[0]}") from error
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._clock: int | None = None  # [ns]
        kind, suffix = (CompressedImage, "/compressed") if compressed else (Image, "")
        self.cameras = {name: Ear(self, kind, f"camera/{name}/image_raw{suffix}", self._image_check(name))
                        for name in profile.cameras}
        self.joints = Ear(self, JointState, "joint_states", self._check_joints)
        self.ears = (*self.cameras.values(), self.joints)
        self.command = convert.COMMAND_TYPES[profile.command.interface]

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *error) -> None:
        self._executor.shutdown(timeout_sec=1.0)
        self.node.destroy_node()
        self._context.try_shutdown()

    def hear(self, find: float = 2.0, seconds: float = 5.0) -> Heard | None:
        """What runs; None when nothing of a robot is found in `find` [s]. seconds: of listening, at most.

        Raises ConfigError where a camera or the command topic has a name that ROS does not allow.
        """
        for topic in (self.profile.command.topic, *(ear.topic for ear in self.ears)):
            try:
                validate_topic_name(topic)
            except NameValidationException as error:
                raise ConfigError(f"'{topic}' is no name of a topic: {str(error).splitlines()[0]}") from error
        if not self._spin_until(self._found, find):
            return None
        self._spin_until(lambda: False, SETTLE)
        parameters = self._parameters()
        lockstep = any(p.get("lockstep") is True or p.get("mode") == "lockstep" for p in parameters.values())
        sensor = qos.sensor(lockstep)
        self.node.create_subscription(Clock, "/clock", self._on_clock, qos.CLOCK)
        for ear in self.ears:
            self.node.create_subscription(ear.kind, ear.topic, ear.hear, sensor)
        begin, enough = time.monotonic(), 1 if lockstep else SAMPLES
        self._spin_until(lambda: all(len(ear.stamps) >= enough for ear in self.ears) and self._dated(), seconds)
        topic, spent = self.profile.command.topic, time.monotonic() - begin
        stream = qos.stream(lockstep)
        return Heard(
            self.profile, {name: ear.stream(sensor) for name, ear in self.cameras.items()}, self.joints.stream(sensor),
            self.read, self.node.resolve_topic_name(topic), type_name(self.command),
            readers_of(self.node, topic, stream), publishers_of(self.node, topic), self.node.count_publishers("/clock"),
            {name: p["use_sim_time"] for name, p in parameters.items() if "use_sim_time" in p and name != OURS[0]},
            lockstep, round(spent, 1))

    def clocks(self) -> Mapping[str, int]:
        """[ns] now, by clock; /clock once it was heard."""
        return {WALL: time.time_ns()} | ({} if self._clock is None else {SIM: self._clock})

    def _on_clock(self, message: Clock) -> None:
        self._clock = convert.nanoseconds(message.clock)
        for ear in self.ears:
            ear.date(self._clock)

    def _dated(self) -> bool:
        return self._clock is not None or not self.node.count_publishers("/clock")

    def _spin_until(self, condition: Callable[[], bool], timeout: float) -> bool:
        end = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > end:
                return False
            self._executor.spin_once(timeout_sec=0.05)
        return True

    def _found(self) -> bool:
        name = self.node.resolve_topic_name  # counting follows no remap by itself
        command = name(self.profile.command.topic)
        published = [command, *(name(ear.topic) for ear in self.ears)]
        return any(map(self.node.count_publishers, published)) or self.node.count_subscribers(command) > 0

    def _parameters(self, timeout: float = 2.0) -> dict[str, dict]:
        """Of our nodes in this namespace, those of ASKED that they have and tell in time.

        One request each: a node that lacks one of several tells none.
        """
        here = {name for name, space in self.node.get_node_names_and_namespaces()
                if space == self.node.get_namespace()}
        clients = {name: self.node.create_client(GetParameters, f"{name}/get_parameters") for name in OURS
                   if name in here}
        self._spin_until(lambda: all(client.service_is_ready() for client in clients.values()), timeout)
        futures = {(name, key): client.call_async(GetParameters.Request(names=[key]))
                   for name, client in clients.items() if client.service_is_ready() for key in ASKED}
        self._spin_until(lambda: all(future.done() for future in futures.values()), timeout)
        told: dict[str, dict] = {}
        for (name, key), future in futures.items():
            for value in future.result().values if future.done() else ():
                told.setdefault(name, {})[key] = parameter_value_to_python(value)
        return told

    def _image_check(self, name: str) -> Callable:
        return lambda message: check_image(self.profile, name, convert.image_array(message))

    def _check_joints(self, message: JointState) -> None:
        joints = convert.joint_state(message)
        if self.profile.kind == "base" and not joints.velocities:
            raise ObservationError("joints", "joint states without velocities: how fast the base moves is unknown")
