"""watchdog_node: brings the robot to rest when the control node is killed, stopped or stuck while it moves.

Only for the interfaces velocity and twist, whose last command may stay in force for ever; controllers of positions and
trajectories hold by themselves. It listens to the control node's heartbeat and commands, says nothing while they come,
and is silent again when the robot has been told to stand still. It imports little, so that it starts early and stays.
"""

from __future__ import annotations

import sys
import time
from collections import deque

from geometry_msgs.msg import TwistStamped
from rclpy.executors import Executor
from rclpy.node import Node
from std_msgs.msg import Float64MultiArray

from vla_ros.errors import ConfigError
from vla_ros.msg import ControlStatus
from vla_ros.nodes import params, qos
from vla_ros.nodes.diagnostics import ERROR, OK, STEADY, WARN, Diagnostics
from vla_ros.nodes.params import Parameter
from vla_ros.nodes.running import Ending, run, spin
from vla_ros.nodes.watchdog import ZEROS, Watchdog
from vla_ros.profile import LASTING, RobotProfile, load_profile

# Commands come at 50 Hz and more, the heartbeat at 10 Hz: nine commands and a heartbeat are missing by then. What is
# left of 0.6 s is enough for a base to brake from 0.6 m/s at 1.5 m/s^2.
LIMIT = 0.15
PARAMETERS = (
    params.ROBOT,
    Parameter("silence_limit", LIMIT, "[s] wall time without heartbeat and command of the control node, after which a "
              "velocity is brought to rest", 0.05, 10.0),
)
TICK = 0.02  # [s]
LINGER = 3.0  # [s] that the robot may take to come to rest when the whole system ends


class WatchdogNode(Node):
    """Everything runs on one thread."""

    def __init__(self):
        super().__init__("watchdog_node")
        self.params = params.declare(self, PARAMETERS)
        self.profile = profile = load_profile(self.params.robot)
        self.twist = profile.command.interface == "twist"
        limits = needs_watchdog(profile).limits
        decelerations = (limits.v_acceleration, limits.w_acceleration) if self.twist else None
        self.watchdog = Watchdog(self.params.silence_limit, decelerations)
        self._sent: deque = deque(maxlen=2 * ZEROS)
        self.commands = 0
        kind = TwistStamped if self.twist else Float64MultiArray
        self._commands = self.create_publisher(kind, profile.command.topic, qos.STREAM)
        self.create_subscription(kind, profile.command.topic, self._on_command, qos.STREAM)
        self.create_subscription(ControlStatus, "vla/control_status", self._on_heartbeat, qos.REQUEST)
        self.create_timer(TICK, self._tick, clock=STEADY)
        Diagnostics(self, profile.name, self._report)
        self.get_logger().info(f"{profile.name}: {profile.command.interface} on '{profile.command.topic}' ends "
                               f"{self.params.silence_limit:g} s after the control node's last word")

    def _on_heartbeat(self, message: ControlStatus) -> None:
        self.watchdog.alive(time.monotonic())

    def _on_command(self, message) -> None:
        if message in self._sent:  # our own, as everybody hears it
            return
        now = time.monotonic()
        if self.watchdog.stopping:
            self.get_logger().warning("the control node commands again")
        if self.twist:
            self.watchdog.commanded((message.twist.linear.x, message.twist.angular.z), now)
        else:
            self.watchdog.commanded(message.data, now)

    def _tick(self) -> None:
        stops, now = self.watchdog.stops, time.monotonic()
        values = self.watchdog.tick(now)
        if self.watchdog.stops > stops:
            self.get_logger().error(f"nothing heard from the control node for {self.watchdog.silence(now):.2f} s: "
                                    "the robot is brought to rest")
        if values is not None:
            message = self._message(values)
            self._sent.append(message)
            self._commands.publish(message)
            self.commands += 1

    def _message(self, values: tuple[float, ...]) -> TwistStamped | Float64MultiArray:
        if not self.twist:
            return Float64MultiArray(data=values)
        message = TwistStamped()
        message.header.stamp, message.header.frame_id = self.get_clock().now().to_msg(), self.profile.base_frame
        message.twist.linear.x, message.twist.angular.z = values
        return message

    def _report(self):
        watchdog, silence = self.watchdog, self.watchdog.silence(time.monotonic())
        silent = silence > max(1.0, watchdog.limit)
        level, message = OK, "the control node lives" if watchdog.heard is not None else "no control node yet"
        if watchdog.stopping or silent:
            level, message = ERROR, f"nothing heard from the control node for {silence:.1f} s"
        elif watchdog.stops:
            level, message = WARN, f"the control node lives; it was silent while the robot moved: {watchdog.stops}"
        return level, message, {"stops": watchdog.stops, "commands": self.commands, "silence [s]": silence}

    def close(self) -> None:
        """Nothing is left to do: see `watch`."""


def needs_watchdog(profile: RobotProfile) -> RobotProfile:
    """`profile`, or ConfigError where its controller holds by itself."""
    interface = profile.command.interface
    if interface not in LASTING:
        raise ConfigError(f"{profile.name} takes commands of the interface {interface}, whose controller holds by "
                          f"itself; a watchdog is for {' and '.join(LASTING)}")
    return profile


def watch(node: WatchdogNode, executor: Executor, ending: Ending) -> None:
    """Where all nodes are told to end at once, a control node that cannot must not leave the robot moving."""
    spin(node, executor, ending)
    end = time.monotonic() + LINGER
    while node.watchdog.busy and time.monotonic() < end:
        executor.spin_once(timeout_sec=TICK)


def watchdog_node() -> WatchdogNode:
    return WatchdogNode()


def main(args=None) -> int:
    return run(watchdog_node, args, watch)


if __name__ == "__main__":
    sys.exit(main())
