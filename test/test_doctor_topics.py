"""vla doctor beside a running system, without ROS: what was heard is made up here; test/ros/test_listening.py hears."""

from __future__ import annotations

from dataclasses import replace

import pytest
from core_samples import PANDA
from test_doctor import only

from vla_ros.doctor import topics
from vla_ros.doctor.finding import ERROR, OK, WARNING
from vla_ros.doctor.robot import named_joints
from vla_ros.doctor.topics import SIM, WALL, Endpoint, Heard, Stream

IMAGE, JOINTS, COMMAND = "sensor_msgs/msg/Image", "sensor_msgs/msg/JointState", "trajectory_msgs/msg/JointTrajectory"
DRIVER, CONTROL = Endpoint("/driver", IMAGE), Endpoint("/control_node", COMMAND)
ARM = Endpoint("/arm_controller", COMMAND)
SECOND = 1_000_000_000  # [ns]


def stamps(rate: float, count: int = 6) -> tuple[int, ...]:
    return tuple(round(5 * SECOND + i * SECOND / rate) for i in range(count))


FRESH = {WALL: 0.03}
CAMERA = Stream("/camera/front/image_raw", IMAGE, (DRIVER,), stamps(10), FRESH)
FELT = Stream("/joint_states", JOINTS, (Endpoint("/driver", JOINTS),), stamps(60), FRESH,
              names=frozenset(named_joints(PANDA)))
WELL = Heard(PANDA, {"front": CAMERA, "wrist": replace(CAMERA, topic="/camera/wrist/image_raw")}, FELT, ("front",),
             "/arm_controller/joint_trajectory", COMMAND, (ARM,), (CONTROL,), seconds=5.0)


def test_a_system_that_is_well():
    found = only(topics.examine_topics(WELL), OK)
    assert [f.check for f in found] == ["camera topic", "camera topic", "joint states", "command topic", "clock"]
    only(topics.examine_topics(replace(WELL, publishers=())), OK)  # our nodes have not started yet


@pytest.mark.parametrize("change,level,words", [
    ({"publishers": ()}, ERROR, ["nobody publishes /camera/front"]),
    ({"publishers": (replace(DRIVER, type="sensor_msgs/msg/CompressedImage"),)}, ERROR, ["CompressedImage", IMAGE]),
    ({"publishers": (replace(DRIVER, mismatch="best effort"),), "stamps": ()}, ERROR, ["/driver", "best effort"]),
    ({"stamps": ()}, ERROR, ["nothing arrived in 5 s"]),
    ({"publishers": (DRIVER, Endpoint("/bag", IMAGE))}, ERROR, ["2 publishers", "/bag, /driver"]),
    ({"fault": "image step 3 is less than 128 pixels of 3 bytes"}, ERROR, ["step 3"]),
    ({"stamps": stamps(7)}, WARNING, ["7 Hz", "10 Hz"]),
    ({"stamps": stamps(4)}, ERROR, ["4 Hz", "10 Hz"]),
    ({"stamps": (0, 0, 0)}, ERROR, ["at 0 Hz"]),
    ({"stamps": stamps(10, 1)}, ERROR, ["at 0 Hz"]),
    ({"stamps": stamps(9.5)}, OK, ["9.5 Hz"])])
def test_a_camera(change, level, words):
    camera = replace(CAMERA, **change)
    only(topics.cameras(replace(WELL, cameras={"front": camera})), level, *words)
    if level == ERROR:  # one that the policy does not read does no harm
        only(topics.cameras(replace(WELL, cameras={"wrist": camera})), WARNING, "does not read it")


def test_one_lost_image_is_no_lower_rate():
    only(topics.cameras(replace(WELL, cameras={"front": replace(CAMERA, stamps=stamps(10)[:2] + stamps(10)[3:])})), OK)


def test_where_the_simulation_waits_no_rate_is_asked_for():
    once = {"front": replace(CAMERA, stamps=stamps(10, 1))}
    only(topics.cameras(replace(WELL, cameras=once, lockstep=True)), OK)


@pytest.mark.parametrize("change,words", [
    ({"publishers": ()}, ["nobody publishes /joint_states"]),
    ({"publishers": (DRIVER,)}, [IMAGE, JOINTS]),
    ({"stamps": ()}, ["nothing arrived"]),
    ({"fault": "joint positions are not finite"}, ["not finite"]),
    ({"names": FELT.names - {"panda_joint3"}}, ["lacks panda_joint3", "panda_joint4"]),
    ({"names": FELT.names - {"panda_finger_joint1"}}, ["lacks panda_finger_joint1"])])
def test_joint_states(change, words):
    only(topics.joint_states(replace(WELL, joints=replace(FELT, **change))), ERROR, *words)


@pytest.mark.parametrize("change,words", [
    ({"subscribers": ()}, ["nobody reads", COMMAND]),
    ({"subscribers": (replace(ARM, type="std_msgs/msg/Float64MultiArray"),)}, ["/arm_controller reads", "Float64"]),
    ({"subscribers": (replace(ARM, mismatch="durability"),)}, ["nobody reads", "durability"]),
    ({"publishers": (CONTROL, CONTROL)}, ["commanded by /control_node, /control_node"]),
    ({"publishers": (CONTROL, Endpoint("/teleop", COMMAND))}, ["/control_node, /teleop"]),
    ({"publishers": (Endpoint("/teleop", COMMAND),)}, ["commanded by /teleop"])])
def test_the_command_topic(change, words):
    only(topics.command_topic(replace(WELL, **change)), ERROR, *words)


WATCHDOG = Endpoint("/watchdog_node", COMMAND)


def test_a_watchdog_may_command_rest_and_is_no_controller_that_reads():
    only(topics.command_topic(replace(WELL, publishers=(CONTROL, WATCHDOG), subscribers=(ARM, WATCHDOG))), OK)
    only(topics.command_topic(replace(WELL, publishers=(CONTROL, WATCHDOG), subscribers=(WATCHDOG,))), ERROR, "nobody")


def by(joints: dict, camera: dict, **more) -> Heard:
    """By clock, how far each was behind it."""
    return replace(WELL, cameras={"front": replace(CAMERA, behind=camera)}, joints=replace(FELT, behind=joints), **more)


@pytest.mark.parametrize("heard,words", [
    (by({WALL: 3.0}, FRESH), ["/joint_states is stamped 3 s behind"]),
    (by(FRESH, {WALL: -0.7}), ["/camera/front/image_raw", "-0.7 s"]),
    (by({WALL: 1.7e9, SIM: 8.0}, {WALL: 1.7e9, SIM: 0.01}), ["/joint_states", "8 s behind /clock"]),
    (by({WALL: 0.01, SIM: -1.7e9}, {WALL: 1.7e9, SIM: 0.01}), ["different clocks", "by /clock", "by the wall"]),
    (by(FRESH, FRESH, sim_time={"control_node": True}), ["control_node has use_sim_time true", "the wall clock"]),
    (by({SIM: 0.01}, {SIM: 0.02}, sim_time={"control_node": True, "policy_node": False}), ["policy_node", "false"]),
    (by(FRESH, FRESH, clocks=2), ["/clock has 2 publishers"])])
def test_clocks(heard, words):
    assert len(only(topics.clock(heard), ERROR, *words)) == 1


def test_which_clock_to_start_with():
    assert "use_sim_time:=true" in only(topics.clock(by({SIM: 0.01}, {SIM: 0.02})), OK)[0].what
    assert "use_sim_time" not in only(topics.clock(by(FRESH, FRESH)), OK)[0].what
    only(topics.clock(by({SIM: 0.01}, {SIM: 0.02}, sim_time={"control_node": True}, clocks=1)), OK, "control_node")
    only(topics.clock(by({}, {})), OK, "none came")
