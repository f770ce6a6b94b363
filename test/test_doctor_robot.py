"""vla doctor and a robot: a profile that its URDF does not bear out, and images that shared memory does not carry."""

from __future__ import annotations

from dataclasses import replace

import pytest
from core_samples import PANDA
from test_doctor import only

from vla_ros.doctor import robot
from vla_ros.doctor.finding import ERROR, OK, WARNING, run
from vla_ros.doctor.robot import Robot
from vla_ros.doctor.transport import transport
from vla_ros.profile import Camera


@pytest.fixture
def arm(tmp_path):
    """A function: the Panda with a URDF in which `old` is `new`, and with other values of its profile."""
    def made(old: str = "", new: str = "", **changes) -> Robot:
        text = PANDA.urdf_path().read_text()
        assert old in text
        file = tmp_path / "arm.urdf"
        file.write_text(text.replace(old, new, 1) if old else text)
        return Robot(replace(PANDA, urdf=str(file), **changes))
    return made


JOINT1, LIMIT1 = '<joint name="panda_joint1" type="revolute">', 'lower="-2.9671" upper="2.9671" velocity="2.1750"'
BROKEN_ROBOTS = {
    "a joint that the URDF lacks": (robot.joints, JOINT1, JOINT1.replace("joint1", "jiont1"), {},
                                    ["panda_joint1 not in", "panda_jiont1"]),
    "a finger that the URDF lacks": (robot.joints, "", "", {"gripper": replace(PANDA.gripper, joints=("thumb",))},
                                     ["thumb"]),
    "a joint that cannot move": (robot.joints, JOINT1, JOINT1.replace("revolute", "fixed"), {}, ["cannot move"]),
    "limits out of order": (robot.limits, LIMIT1, 'lower="1" upper="-1" velocity="2"', {}, ["panda_joint1", "1 to -1"]),
    "no limits": (robot.limits, LIMIT1, 'velocity="2"', {}, ["panda_joint1", "0 to 0"]),
    "endless limits": (robot.limits, LIMIT1, 'lower="-inf" upper="inf" velocity="2"', {}, ["-inf to inf"]),
    "limits that are no numbers": (robot.limits, LIMIT1, 'lower="a" upper="1" velocity="2"', {}, ["nan to 1"]),
    "no velocity": (robot.limits, LIMIT1, 'lower="-1" upper="1"', {}, ["velocity nan"]),
    "a velocity of zero": (robot.limits, LIMIT1, 'lower="-1" upper="1" velocity="0"', {}, ["velocity 0"]),
    "an endless velocity": (robot.limits, LIMIT1, 'lower="-1" upper="1" velocity="inf"', {}, ["velocity inf"]),
    "home outside the limits": (robot.home, "", "", {"home": (9.0, *PANDA.home[1:])}, ["home puts panda_joint1 at 9"]),
    "a gripper wider than its joints": (robot.home, "", "", {"gripper": replace(PANDA.gripper, open=0.2)},
                                        ["gripper puts panda_finger_joint1 at 0.1"]),
    "an unknown base frame": (robot.frames, "", "", {"base_frame": "world"}, ["base_frame world"]),
    "an unknown end effector": (robot.frames, "", "", {"ee_frame": "tool0"}, ["ee_frame tool0"]),
    "a base frame that is not the first": (robot.frames, "", "", {"base_frame": "panda_link1"}, ["not the URDF's"])}


@pytest.mark.parametrize("broken", BROKEN_ROBOTS)
def test_a_profile_that_its_urdf_does_not_bear_out(arm, broken):
    check, old, new, changes, words = BROKEN_ROBOTS[broken]
    only(check(arm(old, new, **changes)), ERROR, *words)


@pytest.mark.parametrize("check,changes,words", [
    (robot.workspace, {"workspace": replace(PANDA.workspace, min=(0.25, -0.4, -0.1))}, ["begins 0.1 m below"]),
    (robot.workspace, {"workspace": replace(PANDA.workspace, max=(0.4, 0.4, 0.6))}, ["at home", "outside"]),
    (robot.frames, {"cameras": {"front": Camera(128, 128, 40.0, "mast", (1, 0, 1), (0, 0, 0))}}, ["mast"])])
def test_what_only_a_person_can_tell_is_a_warning(arm, check, changes, words):
    only(check(arm(**changes)), WARNING, *words)


@pytest.mark.parametrize("changes,words", [
    ({"joints": PANDA.joints[::-1], "home": PANDA.home[::-1]}, ["order"]),
    ({"home": (9.0, *PANDA.home[1:])}, ["home"])])
def test_what_the_control_node_would_end_with(arm, changes, words):
    bad, = run([robot.kinematics], arm(**changes))
    assert bad.level == ERROR and all(word in bad.what for word in words)


@pytest.mark.parametrize("text", [None, "no XML", "<robot/>"])
def test_a_urdf_that_is_none_is_said_once(tmp_path, text):
    file = tmp_path / "arm.urdf"
    if text is not None:
        file.write_text(text)
    found = run(robot.CHECKS, Robot(replace(PANDA, urdf=str(file))))
    errors = [f for f in found if f.level == ERROR]
    assert errors and len({f.what for f in errors}) == len(errors)
    if text != "<robot/>":
        assert len(errors) == 1 and "arm.urdf" in errors[0].what


# Shared memory

LARGE = {"front": Camera(1280, 720, 40.0, "panda_link0", (1, 0, 1), (0, 0, 0))}
XML = ("<dds><profiles><transport_descriptors><transport_descriptor><type>SHM</type>{}</transport_descriptor>"
       "</transport_descriptors></profiles></dds>")


def test_images_that_do_not_fit_into_shared_memory(tmp_path):
    large = replace(PANDA, cameras=LARGE)
    small, enough, tight, broken = (tmp_path / name for name in ("small.xml", "enough.xml", "tight.xml", "broken.xml"))
    small.write_text(XML.format(""))
    enough.write_text(XML.format("<segment_size>16777216</segment_size>"))
    tight.write_text(XML.format("<segment_size>3000000</segment_size>"))
    broken.write_text("<dds>")
    file = "FASTDDS_DEFAULT_PROFILES_FILE"
    only([transport(large, {})], OK, "16777216", "fastdds.xml")
    only([transport(PANDA, {})], OK, "not applicable", "fastdds_udp.xml")
    only([transport(large, {file: str(enough)})], OK, "enough.xml")
    only([transport(large, {file: str(small)})], ERROR, "524288 bytes", "small.xml", "2764800")
    only([transport(large, {"FASTDDS_BUILTIN_TRANSPORTS": "DEFAULT"})], ERROR, "524288 bytes")
    only([transport(PANDA, {"FASTDDS_BUILTIN_TRANSPORTS": "DEFAULT"})], OK)
    only([transport(large, {file: str(tight)})], WARNING, "3000000", "5529600")
    only([transport(large, {file: str(broken)})], ERROR, "cannot be read")
    only([transport(large, {file: "no/such.xml"})], ERROR, "no/such.xml")
    for environment in ({"FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA"}, {"RMW_IMPLEMENTATION": "rmw_zenoh_cpp"}):
        only([transport(large, environment)], OK, "not applicable")
