"""Who publishes a topic and who reads it, as the middleware has discovered."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.duration import Duration, Infinite
from rclpy.node import Node
from rclpy.qos import QoSCompatibility, QoSProfile, qos_check_compatible

from vla_ros.doctor.topics import Endpoint


def readers_of(node: Node, topic: str, profile: QoSProfile) -> tuple[Endpoint, ...]:
    """profile: of who publishes."""
    return endpoints(node.get_subscriptions_info_by_topic(topic), lambda theirs: (profile, theirs))


def publishers_of(node: Node, topic: str) -> tuple[Endpoint, ...]:
    return endpoints(node.get_publishers_info_by_topic(topic), None)


def type_name(kind: type) -> str:
    """package/msg/Name of a message class."""
    return f"{kind.__module__.split('.')[0]}/msg/{kind.__name__}"


def without_infinite(profile: QoSProfile) -> QoSProfile:
    """The graph tells a time that was never set as infinite, and the comparison takes infinite for one that was set."""
    for name in ("deadline", "lifespan", "liveliness_lease_duration"):
        if getattr(profile, name) == Infinite:
            setattr(profile, name, Duration())
    return profile


def endpoints(infos, pair: Callable[[QoSProfile], tuple[QoSProfile, QoSProfile]] | None) -> tuple[Endpoint, ...]:
    """pair: (publisher's, subscription's) quality of service of theirs and ours; None where it does not matter."""
    made = []
    for info in infos:
        mismatch = ""
        if pair is not None:
            compatibility, reason = qos_check_compatible(*pair(without_infinite(info.qos_profile)))
            mismatch = reason.strip().rstrip(";") if compatibility == QoSCompatibility.ERROR else ""
        node = f"{info.node_namespace.rstrip('/')}/{info.node_name}"
        made.append(Endpoint(node, info.topic_type, mismatch))
    return tuple(made)
