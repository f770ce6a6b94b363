"""The watchdog over DDS: a velocity that nobody stands behind ends; a control node that lives is left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import TwistStamped
from std_msgs.msg import Float64MultiArray
from test_control_node import HUSKY, profile_file
from vla_ros.msg import ControlStatus

from vla_ros.nodes import convert, qos, watchdog_node
from vla_ros.nodes.watchdog import ZEROS
from vla_ros.types import JointCommand, TwistCommand


def twist(v: float, stamp: int) -> TwistStamped:
    return convert.command_message(TwistCommand(v, 0.0), HUSKY, stamp)


class Control:
    """What a control node says, on the bench's peer; what is said on its topic by others too."""

    def __init__(self, bench, kind, topic):
        self.bench, self.kind, self.topic = bench, kind, topic
        self.heard = bench.listen(kind, topic, qos.STREAM)
        self.commands = bench.speak(kind, topic, qos.STREAM)
        self.statuses = bench.speak(ControlStatus, "vla/control_status", qos.STATUS)
        bench.until(lambda: bench.peer.count_publishers(topic) > 1, "the watchdog's publisher")

    def command(self, message) -> None:
        before = len(self.heard)
        self.commands.publish(message)
        self.bench.until(lambda: len(self.heard) > before, "our own command")


def base(bench, **parameters):
    node = bench.start(watchdog_node.watchdog_node, robot="husky", **parameters)
    return node, Control(bench, TwistStamped, HUSKY.command.topic)


def test_a_base_slows_down_when_the_control_node_falls_silent_and_then_nobody_speaks(bench):
    node, control = base(bench)
    reports = bench.listen(DiagnosticArray, "/diagnostics")
    control.command(twist(0.5, 1))
    bench.until(lambda: node.commands and not node.watchdog.busy, "rest")
    bench.until(lambda: len(control.heard) == 1 + node.commands, "all that was said")
    speeds = np.array([m.twist.linear.x for m in control.heard])
    assert (np.diff(speeds) <= 0).all() and (speeds[-ZEROS:] == 0).all() and speeds[1] > 0.4
    assert control.heard[-1].header.frame_id == "base_link"
    assert node.watchdog.stops == 1, "its own words are not those of a control node"
    count = node.commands
    before = len(reports)
    bench.until(lambda: len(reports) > before + 1, "diagnostics")
    assert node.commands == count and reports[-1].status[0].level == DiagnosticStatus.ERROR
    assert "nothing heard from the control node" in reports[-1].status[0].message


def test_a_heartbeat_is_enough_and_a_command_takes_over(bench):
    node, control = base(bench, silence_limit=1.0)
    control.command(twist(0.5, 1))
    for _ in range(20):
        before = node.watchdog.heard
        control.statuses.publish(ControlStatus())
        bench.until(lambda before=before: node.watchdog.heard > before, "a sign of life")
    assert node.commands == 0
    bench.until(lambda: node.watchdog.stopping, "a stop")
    control.command(twist(0.4, 2))
    assert not node.watchdog.stopping and node.watchdog.command[0] == 0.4
    control.command(twist(0.0, 3))
    count = node.commands
    reports = bench.listen(DiagnosticArray, "/diagnostics")
    bench.until(lambda: len(reports) > 2, "diagnostics", lambda: control.statuses.publish(ControlStatus()))
    assert node.commands == count and reports[-1].status[0].level == DiagnosticStatus.WARN


def test_joints_are_told_to_stand_still(bench, tmp_path):
    node = bench.start(watchdog_node.watchdog_node, robot=str(profile_file(tmp_path, "velocity")))
    control = Control(bench, Float64MultiArray, "arm_controller/commands")
    names = convert.joint_order(node.profile)
    control.command(convert.command_message(JointCommand({}, dict.fromkeys(names, 0.3)), node.profile, 1))
    bench.until(lambda: len(control.heard) == 1 + ZEROS, "the words of a stop")
    assert all(list(m.data) == [0.0] * len(names) for m in control.heard[1:])
    assert convert.command_from(control.heard[-1], node.profile).velocities == dict.fromkeys(names, 0.0)


@pytest.mark.parametrize("words, text", [
    (["-p", "robot:=panda"], "joint_trajectory, whose controller holds by itself; a watchdog is for velocity"),
    (["-p", "robot:=husky", "-p", "silence_limit:=0.0"], "silence_limit must be a float from 0.05 to 10")])
def test_what_it_cannot_do_is_one_line(bench, words, text):
    done = subprocess.run([sys.executable, "-m", "vla_ros.nodes.watchdog_node", "--ros-args", *words], text=True,
                          env=os.environ | {"ROS_DOMAIN_ID": str(bench.domain)}, capture_output=True, timeout=60)
    assert done.returncode == 2 and text in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_one_that_is_told_to_end_leaves_nothing_moving(bench):
    """As when a system ends because its control node was killed."""
    import rclpy
    bench.start(lambda: rclpy.create_node("robot"))
    watchdog = subprocess.Popen([sys.executable, "-m", "vla_ros.nodes.watchdog_node", "--ros-args", "-p",
                                 "robot:=husky", "-p", "silence_limit:=2.0"],
                                env=os.environ | {"ROS_DOMAIN_ID": str(bench.domain)})
    try:
        control = Control(bench, TwistStamped, HUSKY.command.topic)
        reports = bench.listen(DiagnosticArray, "/diagnostics")
        control.command(twist(0.2, 1))
        bench.until(lambda: any("lives" in r.status[0].message for r in reports), "a watchdog that knows of it")
        watchdog.send_signal(signal.SIGTERM)
        bench.until(lambda: control.heard[-1].twist.linear.x == 0.0, "rest")
        assert watchdog.wait(30.0) == 0
    finally:
        watchdog.kill()
        watchdog.wait()
