"""Recorder: what the policy node reads and what it answers, from a running system into a bag."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import JointState
from std_msgs.msg import String

from vla_ros.msg import ActionChunk
from vla_ros.nodes import inputs
from vla_ros.nodes.bag import BagWriter

DEPTH = 500  # messages that may wait while the disk is busy
LOOK = 0.2  # [s] how often a topic without a publisher is looked for


class Recorder:
    """Use it in a `with` statement. domain: ROS domain id, None for the environment's.

    Images and joint states are subscribed to once their publisher is there, as reliably as it publishes; instructions
    and chunks, which are always reliable, from the beginning. Messages are written as they came, never decoded.
    """

    def __init__(self, bag: BagWriter, cameras: Iterable[str], compressed: bool = False, namespace: str = "",
                 domain: int | None = None):
        self._bag, self._looked = bag, 0.0
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=domain)
        self._node = rclpy.create_node("vla_recorder", namespace=namespace, context=self._context,
                                       start_parameter_services=False, enable_rosout=False)
        # Not the events executor of the nodes: it gives callbacks no time stamps of the middleware.
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        sensors = {topic: kind for topic, kind in inputs.cameras(cameras, compressed).values()}
        self._waiting = self._named({inputs.JOINTS: JointState} | sensors)
        for topic, kind in self._waiting.items():
            bag.add_topic(topic, kind)
        for topic, kind in self._named({inputs.INSTRUCTION: String, inputs.CHUNKS: ActionChunk}).items():
            bag.add_topic(topic, kind)
            self._subscribe(topic, kind, QoSProfile(depth=DEPTH, reliability=ReliabilityPolicy.RELIABLE))

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *error) -> None:
        self._executor.shutdown(timeout_sec=1.0)
        self._node.destroy_node()
        self._context.try_shutdown()

    @property
    def waiting(self) -> list[str]:
        """Topics of sensors that nobody publishes yet."""
        return list(self._waiting)

    def spin_until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            if time.monotonic() - self._looked > LOOK:
                self._look()
            self._executor.spin_once(timeout_sec=0.05)

    def _named(self, topics: dict) -> dict:
        """By full name."""
        return {self._node.resolve_topic_name(topic): kind for topic, kind in topics.items()}

    def _look(self) -> None:
        self._looked = time.monotonic()
        for topic, kind in list(self._waiting.items()):
            offered = [info.qos_profile for info in self._node.get_publishers_info_by_topic(topic)]
            if offered:
                self._subscribe(topic, kind, fitting(offered))
                del self._waiting[topic]

    def _subscribe(self, topic: str, kind, profile: QoSProfile) -> None:
        self._node.create_subscription(kind, topic, partial(self._write, topic), profile, raw=True)

    def _write(self, topic: str, data: bytes, info: dict) -> None:
        self._bag.write(topic, data, time.time_ns(), info["source_timestamp"])


def fitting(offered: list[QoSProfile]) -> QoSProfile:
    """The strictest subscription that all of these publishers match."""
    reliable = all(o.reliability == ReliabilityPolicy.RELIABLE for o in offered)
    kept = all(o.durability == DurabilityPolicy.TRANSIENT_LOCAL for o in offered)
    return QoSProfile(depth=DEPTH,
                      reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
                      durability=DurabilityPolicy.TRANSIENT_LOCAL if kept else DurabilityPolicy.VOLATILE)
