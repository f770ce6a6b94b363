"""vla doctor beside real nodes and drivers over DDS."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from geometry_msgs.msg import TwistStamped
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image, JointState

from vla_ros import cli
from vla_ros.doctor.finding import ERROR, OK
from vla_ros.doctor.topics import SIM, examine_topics
from vla_ros.errors import ConfigError
from vla_ros.nodes import control_node, convert, qos, sim_node
from vla_ros.nodes.listening import Listener
from vla_ros.profile import config_folder, load_profile

PANDA, HUSKY = load_profile("panda"), load_profile("husky")


def listen(bench, profile, meanwhile, cameras=("front",), seconds=20.0, **options):
    """What a listener of its own context hears while the bench's nodes go on."""
    def hear():
        with Listener(profile, cameras, domain=bench.domain, **options) as listener:
            return listener.hear(find=20.0, seconds=seconds)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(hear)
        bench.until(future.done, "the listener", meanwhile)
        return future.result()


def problems(heard):
    return [f for f in examine_topics(heard) if f.level != OK]


@pytest.mark.parametrize("robot", ["panda", "husky"])
def test_a_simulated_robot_is_well(bench, robot):
    node = bench.start(sim_node.SimNode, robot=robot, world="mock")
    heard = listen(bench, load_profile(robot), lambda: node.step(None))
    assert problems(heard) == [] and not heard.lockstep
    assert {name for stream in heard.streams.values() for name in stream.behind} >= {SIM}


def test_a_simulation_that_waits_is_well_too(bench):
    """Everything was published before; /clock alone comes again, once a second."""
    bench.start(sim_node.SimNode, robot="panda", world="mock", mode="lockstep")
    heard = listen(bench, PANDA, lambda: None)
    assert heard.lockstep and problems(heard) == []


class Driver:
    """A Husky's drivers on the bench's peer, beside the control node that will command it. Time is what /clock says,
    so that a busy machine makes nothing late."""

    def __init__(self, bench, use_sim_time=True, **parameters):
        self.node = bench.start(control_node.ControlNode, robot="husky", use_sim_time=use_sim_time, **parameters)
        self.peer, self.image = bench.peer, {"width": 96, "height": 96, "encoding": "rgb8", "step": 288}
        self.now, self.velocities = 5 * convert.SECOND, [0.0] * 4
        self._clock = self.peer.create_publisher(Clock, "/clock", qos.CLOCK)
        self._images = self.peer.create_publisher(Image, "camera/front/image_raw", qos.SENSOR)
        self._joints = self.peer.create_publisher(JointState, "joint_states", qos.SENSOR)
        self.peer.create_subscription(TwistStamped, "cmd_vel", lambda message: None, qos.STREAM)

    def publish(self):
        self.now = now = self.now + convert.SECOND // 50
        self._clock.publish(Clock(clock=convert.time_message(now)))
        data = bytes(self.image["step"] * self.image["height"])
        self._images.publish(Image(header=convert.header(now, "front"), **{"data": data} | self.image))
        self._joints.publish(JointState(header=convert.header(now), name=list(HUSKY.joints), position=[0.0] * 4,
                                        velocity=self.velocities))


@pytest.mark.parametrize("broken,words", [
    ({}, []),
    ({"width": 64, "height": 64, "step": 192}, ["(64, 64, 3)", "(96, 96, 3)"]),
    ({"encoding": "yuv422"}, ["encoding 'yuv422'", "rgb8"]),
    ({"step": 200}, ["step 200"]),
    ({"data": b"\0" * 12}, ["12 bytes"])], ids=str)
def test_a_camera_that_is_not_what_the_profile_says(bench, broken, words):
    driver = Driver(bench)
    driver.image |= broken
    found = problems(listen(bench, HUSKY, driver.publish))
    assert [(f.level, f.check) for f in found] == ([(ERROR, "camera topic")] if words else [])
    assert all(word in found[0].what for word in words)


def test_wheels_without_velocities(bench):
    driver = Driver(bench)
    driver.velocities = []
    found, = problems(listen(bench, HUSKY, driver.publish))
    assert found.check == "joint states" and "without velocities" in found.what


@pytest.mark.parametrize("side,words", [(96, []), (64, ["(64, 64, 3)"])])
def test_compressed_images(bench, side, words):
    driver = Driver(bench)
    images = bench.peer.create_publisher(CompressedImage, "camera/front/image_raw/compressed", qos.SENSOR)

    def publish():
        driver.publish()
        images.publish(convert.compressed_message(np.zeros((side, side, 3), np.uint8), driver.now, "front"))
    found = problems(listen(bench, HUSKY, publish, compressed=True))
    assert len(found) == len(words) and all(word in found[0].what for word in words)


def test_a_camera_that_we_cannot_connect_to(bench):
    """In lockstep every message counts: a driver whose delivery is not sure is not heard."""
    driver = Driver(bench, lockstep=True)
    found = problems(listen(bench, HUSKY, driver.publish, seconds=1.0))
    mismatched = [f for f in found if "does not match ours" in f.what]
    assert {f.level for f in mismatched} == {ERROR} and any("/peer" in f.what for f in mismatched)


def test_another_clock_and_two_who_command(bench):
    driver = Driver(bench, use_sim_time=False)
    bench.peer.create_publisher(TwistStamped, "cmd_vel", qos.STREAM)
    found = {f.check: f.what for f in problems(listen(bench, HUSKY, driver.publish))}
    assert found.keys() == {"clock", "command topic"}
    assert "control_node has use_sim_time false, the stamps are by /clock" in found["clock"]
    assert "/control_node, /peer" in found["command topic"]


def test_topics_elsewhere_are_found_by_namespace_and_remap(bench):
    node = bench.start(sim_node.SimNode, robot="husky", world="mock")
    with Listener(HUSKY, (), domain=bench.domain, namespace="elsewhere") as listener:
        assert listener.hear(find=0.5) is None
    remap = " ".join(f"{topic}:=/{topic}" for topic in ("joint_states", "cmd_vel", "camera/front/image_raw"))
    heard = listen(bench, HUSKY, lambda: node.step(None), namespace="elsewhere", remap=remap)
    assert problems(heard) == []


@pytest.mark.parametrize("options", [{"namespace": "9x!"}, {"remap": "a!b:=c"}, {"remap": "a"}], ids=str)
def test_names_that_ros_does_not_allow(options):
    with pytest.raises(ConfigError, match="9x!|remap 'a"):
        Listener(HUSKY, (), **options)


def test_a_camera_whose_name_is_no_topic_is_a_finding(bench, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", str(bench.domain))
    file = tmp_path / "mine.yaml"
    file.write_text((config_folder() / "robots" / "husky.yaml").read_text().replace("  front:", "  fr ont:"))
    assert cli.main(["doctor", "--robot", str(file), "--policy", "hold"]) == 1
    assert "error    topics: 'camera/fr ont/image_raw' is no name of a topic" in capsys.readouterr().out


def test_the_command_without_a_system(bench, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", str(bench.domain))
    file = tmp_path / "found.json"
    assert cli.main(["doctor", "--robot", "panda", "--policy", "hold", "--json", str(file)]) == 0
    out = capsys.readouterr().out
    assert "no running system: topics not examined" in out and re.search(r"^0 errors, 0 warnings, \d+ ok$", out, re.M)
    content = json.loads(file.read_text())
    assert (content["robot"], content["policy"], content["errors"]) == ("panda", "hold", 0)
    assert all(f.keys() == {"level", "check", "what", "why", "mend"} for f in content["findings"])
    assert cli.main(["doctor", "--policy", "hold", "--execute-steps", "8"]) == 0, "it stops between chunks, no more"
    assert "warning  horizon" in capsys.readouterr().out
