"""Whether a node alone commands its robot, and somebody listens: as the middleware has discovered."""

from __future__ import annotations

from rclpy.node import Node
from rclpy.qos import QoSProfile

from vla_ros.doctor.topics import but_watchdogs, command_problems
from vla_ros.nodes.graph import publishers_of, readers_of, type_name


class Alone:
    """topic, kind, profile: of the commands, which the node publishes."""

    def __init__(self, node: Node, topic: str, kind: type, profile: QoSProfile):
        self._node, self._topic, self._kind, self._profile = node, topic, kind, profile
        self._counted: tuple[int, int] | None = None
        self._doubtful = False

    def problems(self) -> str:
        """What is wrong: nobody reads, or somebody else commands too, be it a second node of this one's name."""
        others = but_watchdogs(publishers_of(self._node, self._topic))
        me = self._node.get_fully_qualified_name()
        mine = next((publisher for publisher in others if publisher.node == me), None)
        if mine is not None:
            others.remove(mine)
        readers = readers_of(self._node, self._topic, self._profile)
        return "; ".join(found.what for found in command_problems(self._topic, type_name(self._kind), readers, others))

    def no_more(self) -> str:
        """What is wrong, at two looks one after the other: whose publisher was discovered may not be known yet. It is
        looked for where somebody came or went since nothing was."""
        counted = self._node.count_publishers(self._topic), self._node.count_subscribers(self._topic)
        if counted == self._counted:
            return ""
        found, doubtful = self.problems(), self._doubtful
        self._counted, self._doubtful = None if found else counted, bool(found)
        return found if doubtful else ""
