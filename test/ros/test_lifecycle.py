"""The lifecycle of policy and control node over DDS: what each transition needs, what it ends, and what outlives it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import rclpy
from geometry_msgs.msg import TwistStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, Empty, String
from test_control_node import HUSKY, PANDA, heights
from test_control_node import Robot as Arm
from test_policy_node import Robot as Eyes
from trajectory_msgs.msg import JointTrajectory
from vla_ros.msg import ControlStatus, PolicyStatus

from vla_ros.errors import UnknownNameError
from vla_ros.nodes import control_node, policy_node, qos, task_node
from vla_ros.nodes.alone import Alone
from vla_ros.paths import shipped_checkpoint

ARM_COMMANDS = JointTrajectory, "arm_controller/joint_trajectory"
CONFIGURE, CLEANUP, ACTIVATE = (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_CLEANUP,
                                Transition.TRANSITION_ACTIVATE)
DEACTIVATE, SHUTDOWN = Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_ACTIVE_SHUTDOWN


class Manager:
    """What `ros2 lifecycle` and Nav2's manager do: the standard services of one node."""

    def __init__(self, bench, node):
        self.bench, self.node = bench, node
        self._change = bench.peer.create_client(ChangeState, f"{node.get_name()}/change_state")
        self._get = bench.peer.create_client(GetState, f"{node.get_name()}/get_state")
        bench.until(lambda: self._change.service_is_ready() and self._get.service_is_ready(), "the services")

    def ask(self, transition, meanwhile=lambda: None):
        """Whether the transition succeeded."""
        return self._call(self._change, ChangeState.Request(transition=Transition(id=transition)), meanwhile).success

    @property
    def state(self):
        return self._call(self._get, GetState.Request()).current_state.label

    def _call(self, client, request, meanwhile=lambda: None):
        future = client.call_async(request)
        self.bench.until(future.done, "an answer", meanwhile)
        return future.result()


def fresh(robot, sense, manager):
    """Until the node lacks nothing, and is activated."""
    robot.bench.until(lambda: manager.ask(ACTIVATE, sense), "activation", sense)
    assert manager.state == "active" and robot.node.active


def test_a_control_node_waits_for_a_manager_and_commands_when_it_is_told(bench):
    robot = Arm(bench, autostart=False)
    manager = Manager(bench, robot.node)
    assert manager.state == "unconfigured" and not manager.ask(ACTIVATE)
    assert manager.ask(CONFIGURE) and manager.state == "inactive"
    robot.meet()
    assert not manager.ask(ACTIVATE), "nothing is known of the joints"
    robot.until_status("detail", "inactive: nothing received from joint_states", lambda: None)
    assert robot.statuses[-1].state == ControlStatus.IDLE
    bench.until(lambda: robot.statuses[-1].detail == "inactive: waits to be activated", "joint states", robot.measure)
    bench.until(lambda: "s old, at most 0.2 s" in robot.statuses[-1].detail, "old joint states")
    assert not manager.ask(ACTIVATE) and manager.state == "inactive"
    fresh(robot, robot.measure, manager)
    robot.moving()


def test_a_control_node_waits_while_another_commands_its_robot_or_nobody_reads(bench):
    """What `vla doctor` calls an error; and a second one of its own name."""
    robot = Arm(bench, autostart=False)
    manager, kind, topic = Manager(bench, robot.node), *ARM_COMMANDS
    assert manager.ask(CONFIGURE)
    second = bench.add(rclpy.create_node("control_node"))
    twin = second.create_publisher(kind, topic, qos.STREAM)
    other = bench.peer.create_publisher(kind, topic, qos.STREAM)
    joints = bench.speak(JointState, "joint_states", qos.SENSOR)
    statuses = bench.listen(ControlStatus, "vla/control_status", qos.STATUS)

    def waits(words):
        bench.until(lambda: statuses and words in statuses[-1].detail, words)
        assert not manager.ask(ACTIVATE) and manager.state == "inactive"
    waits("nobody reads /arm_controller/joint_trajectory")
    reader = bench.peer.create_subscription(kind, topic, lambda message: None, qos.STREAM)
    waits("is commanded by /control_node, /peer")
    bench.peer.destroy_publisher(other)
    waits("is commanded by /control_node")
    second.destroy_publisher(twin)
    robot.profile, robot.joints = robot.node.profile, joints
    fresh(robot, robot.measure, manager)
    robot.statuses, robot.words = statuses, bench.speak(String, "vla/instruction", qos.REQUEST)
    robot.say("go")
    other = bench.peer.create_publisher(kind, topic, qos.STREAM)
    bench.until(lambda: robot.node.count_publishers(topic) == 2, "another who commands")
    for words, taken in (("come", ""), ("stop", "stop")):
        robot.words.publish(String(data=words))
        robot.until_status("instruction", taken)
        assert ("commanded by /peer" in statuses[-1].detail) == (words == "come")
    bench.peer.destroy_publisher(other)
    bench.until(lambda: robot.node.count_publishers(topic) == 1, "that it is gone")
    robot.say("come")
    bench.peer.destroy_subscription(reader)
    bench.until(lambda: robot.node.count_subscribers(topic) == 0, "that nobody reads")
    robot.words.publish(String(data="go"))
    robot.until_status("instruction", "")
    assert "nobody reads" in statuses[-1].detail


def test_another_who_commands_in_the_middle_of_a_motion_halts(bench):
    """And so does nobody who reads any more; a watchdog that comes up does not."""
    robot = Arm(bench)
    kind, topic = ARM_COMMANDS
    second = bench.add(rclpy.create_node("watchdog_node"))
    robot.moving()
    second.create_publisher(kind, topic, qos.STREAM)
    bench.until(lambda: robot.node.count_publishers(topic) == 2, "the watchdog", robot._keep_moving)
    robot.some_statuses(meanwhile=robot._keep_moving)
    robot.until_status("state", ControlStatus.EXECUTING, robot._keep_moving)
    assert robot.node.commanding.halts["topic"] == 0
    other = bench.peer.create_publisher(kind, topic, qos.STREAM)
    robot.until_status("state", ControlStatus.HALTED)
    assert "commanded by /peer" in robot.statuses[-1].detail and robot.node.commanding.halts["topic"] == 1
    robot.words.publish(String(data="come"))
    robot.until_status("instruction", "")
    robot.words.publish(String(data="stop"))
    robot.until_status("state", ControlStatus.HELD)
    robot.some_statuses()
    assert robot.statuses[-1].state == ControlStatus.HELD, "words that mean stop hold, whoever else commands"
    bench.peer.destroy_publisher(other)
    bench.until(lambda: robot.node.count_publishers(topic) == 2, "that it is gone")
    robot.say("come")
    for reader in [one for one in bench.peer.subscriptions if one.topic_name == f"/{topic}"]:
        bench.peer.destroy_subscription(reader)
    robot.until_status("state", ControlStatus.HALTED)
    assert f"nobody reads /{topic}" in robot.statuses[-1].detail


def test_a_watchdog_is_no_base_that_reads(bench):
    robot = Arm(bench, "husky", autostart=False)
    manager = Manager(bench, robot.node)
    assert manager.ask(CONFIGURE)
    watchdog = bench.add(rclpy.create_node("watchdog_node"))
    watchdog.create_subscription(TwistStamped, "cmd_vel", lambda message: None, qos.STREAM)
    bench.until(lambda: robot.node.count_subscribers("cmd_vel") == 1, "the watchdog")
    assert "nobody reads /cmd_vel" in robot.node.lacking()


def test_deactivated_in_motion_a_base_slows_down_then_is_silent_and_begins_anew(bench):
    robot = Arm(bench, "husky").moving()
    manager = Manager(bench, robot.node)
    bench.until(lambda: robot.commands[-1].twist.linear.x > 0.19, "speed", robot._keep_moving)
    assert manager.ask(DEACTIVATE, robot.measure) and manager.state == "inactive"
    bench.until(lambda: robot.commands[-1].twist.linear.x == 0.0, "rest")
    speeds = [command.twist.linear.x for command in robot.commands]
    assert np.abs(np.diff(speeds)).max() <= HUSKY.limits.v_acceleration / 60 + 1e-9, "no harder than it may brake"
    count = len(robot.commands)
    robot.words.publish(String(data="go"))
    robot.offer()
    robot.some_statuses()
    assert len(robot.commands) == count and robot.statuses[-1].instruction == ""
    assert robot.statuses[-1].detail.startswith("inactive")
    assert robot.node.state == "inactive", "a node that manages itself does not take back what somebody asked for"
    fresh(robot, robot.measure, manager)
    robot.offer()
    robot.some_statuses()
    assert len(robot.commands) == count, "the words of before do not come back"
    robot.moving()


def test_motion_begins_where_an_arm_is_that_was_moved_while_the_node_was_inactive(bench):
    robot = Arm(bench).moving()
    manager = Manager(bench, robot.node)
    assert manager.ask(DEACTIVATE, robot.measure)
    held = np.array(heights(robot.commands)[-1])
    moved = replace(PANDA, home=tuple(np.array(PANDA.home) + 0.3 * np.array([1, 0, 0, 0, 0, 0, 0])))
    robot.profile = moved
    bench.until(lambda: robot.node.commanding.controller.current.positions["panda_joint1"] == moved.home[0], "the move",
                robot.measure)
    fresh(robot, robot.measure, manager)
    count = len(robot.commands)
    robot.moving()
    first = np.array(heights(robot.commands)[count])
    assert abs(first[0] - moved.home[0]) < 0.05 and abs(first[0] - held[0]) > 0.2


def test_cleaned_up_and_shut_down_a_control_node_is_gone_from_its_topics_and_a_stop_stays_latched(bench):
    robot = Arm(bench)
    manager = Manager(bench, robot.node)
    robot.stops.publish(Bool(data=True))
    robot.until_status("state", ControlStatus.STOPPED)
    assert manager.ask(DEACTIVATE, robot.measure) and manager.ask(CLEANUP) and manager.state == "unconfigured"
    bench.until(lambda: robot.chunks.get_subscription_count() == 0, "nobody on its topics")
    assert manager.ask(CONFIGURE)
    bench.until(lambda: robot.chunks.get_subscription_count() == 1, "a reader of chunks")
    fresh(robot, robot.measure, manager)
    robot.statuses.clear()
    robot.until_status("state", ControlStatus.STOPPED)
    robot.resets.publish(Empty())
    robot.until_status("state", ControlStatus.IDLE)
    robot.moving()
    count = len(robot.commands)
    assert manager.ask(SHUTDOWN, robot.measure) and manager.state == "finalized"
    assert len(set(heights(robot.commands[count + 5:]))) <= 1, "it came to rest"
    bench.until(lambda: robot.chunks.get_subscription_count() == 0, "nobody on its topics")


def test_a_stop_survives_the_control_node_that_heard_it(bench):
    robot = Arm(bench)
    keeper = bench.add(task_node.TaskNode())
    bench.until(lambda: robot.stops.get_subscription_count() == 2, "the task node")
    robot.stops.publish(Bool(data=True))
    robot.until_status("state", ControlStatus.STOPPED)
    bench.executor.remove_node(robot.node)
    bench.nodes.remove(robot.node)
    robot.node.close()
    robot.node.destroy_node()
    assert keeper in bench.nodes
    robot.node = bench.add(control_node.ControlNode())
    robot.statuses.clear()
    robot.until_status("state", ControlStatus.STOPPED)
    bench.until(lambda: robot.node.active, "activation", robot.measure)
    robot.words.publish(String(data="go"))
    robot.some_statuses()
    assert robot.statuses[-1].instruction == "" and robot.statuses[-1].state == ControlStatus.STOPPED
    bench.until(lambda: robot.resets.get_subscription_count() == 2, "the new control node")
    robot.resets.publish(Empty())
    robot.until_status("state", ControlStatus.IDLE)


def test_an_error_of_the_doctor_keeps_a_control_node_from_activating(bench, tmp_path):
    shutil.copytree(shipped_checkpoint("panda"), tmp_path / "broken")
    file = tmp_path / "broken" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"action_high": [0.03, 0.03, 0.03, 0.08]}))
    robot = Arm(bench, autostart=False, policy=str(tmp_path / "broken"))
    manager = Manager(bench, robot.node)
    assert manager.ask(CONFIGURE)
    robot.meet()
    bench.until(lambda: robot.node.commanding.controller.current, "joint states", robot.measure)
    assert not manager.ask(ACTIVATE, robot.measure) and manager.state == "inactive"
    robot.some_statuses()
    assert "vla doctor finds an error: gripper: the gripper's statistics run" in robot.statuses[-1].detail


def test_a_policy_that_cannot_be_opened_leaves_the_node_unconfigured_and_alive(bench):
    robot = Eyes(bench, autostart=False, policy="hodl")
    manager = Manager(bench, robot.node)
    assert not manager.ask(CONFIGURE) and manager.state == "unconfigured"
    assert "unknown policy 'hodl'" in robot.node.standing
    bench.until(lambda: robot.node.count_publishers("vla/action_chunk") == 0, "nothing of a half configuration")


def test_a_policy_that_cannot_be_opened_ends_a_node_that_manages_itself(bench):
    with pytest.raises(UnknownNameError, match="hodl"):
        bench.start(policy_node.PolicyNode, robot="panda", policy="hodl")


def test_a_policy_node_waits_for_every_camera_and_tells_who_moves_that_it_stops(bench):
    robot = Eyes(bench, autostart=False)
    manager = Manager(bench, robot.node)
    assert manager.ask(CONFIGURE) and not manager.ask(ACTIVATE) and manager.state == "inactive"
    robot.meet()
    front, cameras = {"front": robot.cameras["front"]}, robot.cameras
    robot.cameras = front
    bench.until(lambda: robot.statuses and robot.statuses[-1].detail == "inactive: nothing received from wrist", "why",
                robot.observe)
    assert not manager.ask(ACTIVATE, robot.observe)
    robot.cameras = cameras
    robot.words.publish(String(data="go"))
    bench.until(lambda: robot.statuses[-1].detail == "inactive: waits to be activated", "images", robot.observe)
    bench.until(lambda: "stale: " in robot.statuses[-1].detail, "old images")
    assert not manager.ask(ACTIVATE) and robot.statuses[-1].instruction == "" and robot.chunks == []
    fresh(robot, robot.observe, manager)
    robot.say("go")
    bench.until(lambda: robot.chunks, "a chunk", robot.observe)
    assert manager.ask(DEACTIVATE, robot.observe)
    bench.until(lambda: robot.chunks[-1].refusal == "the policy node was deactivated", "the last word")
    count = len(robot.chunks)
    assert (robot.chunks[-1].instruction, robot.chunks[-1].steps) == ("go", 0)
    newest = robot.observe()["joints"]
    bench.until(lambda: robot.node.inferring.observed == newest, "a later observation")
    robot.until_status(PolicyStatus.WAITING)
    assert len(robot.chunks) == count and robot.statuses[-1].instruction == ""
    assert manager.ask(CLEANUP) and manager.ask(CONFIGURE)
    fresh(robot, robot.observe, manager)


def test_an_error_that_nobody_foresaw_leaves_nothing_and_ends_a_node_without_a_manager(bench, monkeypatch):
    def fail(node):
        raise KeyError("elbow")
    monkeypatch.setattr(policy_node.PolicyNode, "activate", fail)
    with pytest.raises(KeyError, match="elbow"):
        Eyes(bench)
    assert bench.node.state == "unconfigured" and bench.node.count_publishers("vla/action_chunk") == 0


def test_an_error_on_the_way_to_rest_still_ends_a_velocity(bench, monkeypatch):
    robot = Arm(bench, "husky").moving()

    def fail():
        raise KeyError("elbow")
    monkeypatch.setattr(robot.node.loop, "come_to_rest", fail)
    bench.until(lambda: robot.commands[-1].twist.linear.x > 0, "motion", robot._keep_moving)
    robot.node.trigger_deactivate()
    assert robot.node.state == "unconfigured" and robot.node.trouble == "KeyError: 'elbow'"
    with pytest.raises(KeyError, match="elbow"):
        bench.until(lambda: False, "the end of a node without a manager")
    robot.bench.executor.remove_node(robot.node)
    bench.until(lambda: robot.commands[-1].twist.linear.x == 0.0, "rest")


def test_somebody_who_is_being_discovered_is_no_trouble_yet():
    """Whose endpoint is known before its node has no name, for a moment."""
    counts, said = [1], ["commanded by nobody knows"]

    class Node:
        def count_publishers(self, topic):
            return counts[0]
        count_subscribers = count_publishers
    alone = Alone(Node(), *ARM_COMMANDS[::-1], qos.STREAM)
    alone.problems = lambda: said[0]
    assert [alone.no_more() for _ in range(2)] == ["", said[0]]
    said[0] = ""
    assert alone.no_more() == ""
    said[0] = "another"
    assert alone.no_more() == "", "nobody came or went"
    counts[0] = 2
    assert [alone.no_more() for _ in range(2)] == ["", "another"]
