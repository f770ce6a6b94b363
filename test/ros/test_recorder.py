"""A real policy node is recorded over DDS; its bag replayed gives the same chunks, byte for byte."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from model_samples import TOKENIZER, tiny
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String
from vla_ros.msg import ActionChunk

pytest.importorskip("mcap", reason="the extra 'bag' is not installed")

from vla_ros import cli  # noqa: E402
from vla_ros.model import vocabulary as vocab  # noqa: E402
from vla_ros.model.files import save_checkpoint  # noqa: E402
from vla_ros.nodes import convert, policy_node, qos  # noqa: E402
from vla_ros.nodes.bag import BagReader, BagWriter  # noqa: E402
from vla_ros.nodes.recorder import Recorder  # noqa: E402
from vla_ros.policies.replay import ReplayPolicy  # noqa: E402
from vla_ros.profile import load_profile  # noqa: E402
from vla_ros.types import JointState as Joints  # noqa: E402

PANDA = load_profile("panda")
NAMES = (*PANDA.joints, *PANDA.gripper.joints)
KEPT = QoSProfile(depth=500, reliability=ReliabilityPolicy.RELIABLE)  # nothing is lost where much else is going on
RANDOM = np.random.default_rng(0)


class Robot:
    """A policy node, its sensors, a user, and a recorder of them in a thread."""

    def __init__(self, bench, policy, file, compressed=False):
        self.bench, self.done = bench, threading.Event()
        self.node = bench.start(policy_node.PolicyNode, robot="panda", policy=policy, compressed=compressed)
        self.make = convert.compressed_message if compressed else convert.image_message
        topics = policy_node.inputs.cameras(PANDA.cameras, compressed)
        self.cameras = {n: bench.peer.create_publisher(kind, topic, KEPT) for n, (topic, kind) in topics.items()}
        self.joints = bench.speak(JointState, "joint_states", KEPT)
        self.words = bench.speak(String, "vla/instruction", qos.REQUEST)
        self.chunks = bench.listen(ActionChunk, "vla/action_chunk", qos.STREAM)
        self.bag = BagWriter(file)
        self.recorder = Recorder(self.bag, PANDA.cameras, compressed, domain=bench.domain)
        self.thread = threading.Thread(target=self.recorder.spin_until, args=[self.done.is_set])
        self.thread.start()

    def ready(self):
        sensors = [self.joints, self.words, *(self.cameras[name] for name in self.node.policy.cameras)]
        self.bench.until(lambda: all(p.get_subscription_count() == 2 for p in sensors)
                         and self.node._chunks.get_subscription_count() == 2, "the recorder")
        self.bench.until(lambda: self.node.active, "activation", self.observe)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.done.set()
        self.thread.join()
        self.recorder.__exit__()
        self.bag.__exit__()

    def say(self, words, answers):
        """Until so many chunks have answered, and are recorded."""
        before = len(self.chunks)
        self.words.publish(String(data=words))
        self.bench.until(lambda: sum(chunk.instruction == words for chunk in self.chunks[before:]) >= answers,
                         f"answers to '{words}'", self.observe)

    def observe(self):
        now = self.node.now()
        for name, camera in self.cameras.items():
            image = RANDOM.integers(0, 256, (128, 128, 3), dtype=np.uint8)
            camera.publish(self.make(image, now - int(RANDOM.integers(0, 9_000_000)), f"{name}_optical_frame"))
        positions = dict(zip(NAMES, (*PANDA.home, 0.02, 0.02), strict=True))
        positions = {name: value + RANDOM.normal(0, 0.01) * ("finger" not in name) for name, value in positions.items()}
        self.joints.publish(convert.joint_message(Joints(positions, {}, now)))

    def finish(self):
        """The chunks, once all are recorded."""
        self.words.publish(String(data=""))
        self.bench.until(lambda: self.node.inferring.instruction == "", "the end")
        self.bench.until(lambda: self.bag.counts["/vla/action_chunk"] == self.node.inferring.chunks, "their recording")
        return self.node.inferring.chunks


def small_native(folder):
    """A checkpoint that agrees to whatever it is told: no verdict but to act, and a patch is always the best place."""
    model = tiny()
    first, last = vocab.VERDICT_RANGE
    with torch.no_grad():
        words = model.language.embed_tokens.weight
        words[first:last] = words[first].clone()  # as likely as each other: the first is taken
        for parameter in (model.look.other_keys, *model.look.standing.parameters()):
            parameter.zero_()
        model.look.standing.bias[2:4] = 3.0  # of x and y squared: whatever is asked for stands in a corner
    save_checkpoint(folder / "small", model, TOKENIZER)
    return str(folder / "small")


def numbers(folder):
    chunks = np.random.default_rng(1).normal(size=(50, 8, 4))
    ReplayPolicy(chunks, PANDA.action, tuple(PANDA.cameras)).save(str(folder / "chunks.npz"))
    return f"replay:{folder / 'chunks.npz'}"


@pytest.mark.parametrize("make, compressed", [(lambda folder: "hold", True), (numbers, False), (small_native, False)],
                         ids=["hold, compressed images", "replay", "small native model"])
def test_a_recorded_policy_node_decides_the_same_again(bench, tmp_path, capsys, make, compressed):
    policy, file = make(tmp_path), tmp_path / "run.mcap"
    with Robot(bench, policy, file, compressed) as robot:
        robot.ready()
        for words in ("touch the red cube", "push the blue cube to the left", "hit the cat", "touch the red cube"):
            robot.say(words, answers=1 if words == "hit the cat" else 5)
        count = robot.finish()
    assert count >= 16
    assert cli.main(["replay", str(file), "--policy", policy]) == 0, capsys.readouterr().out
    assert capsys.readouterr().out == f"{count} of {count} chunks equal, byte for byte in tokens and values\n"
    if policy != "hold":
        assert cli.main(["replay", str(file), "--policy", "hold"]) == 1
        assert "first difference, chunk 0 of " in capsys.readouterr().out


def test_the_command_records_until_it_is_interrupted(bench, tmp_path):
    file = tmp_path / "run.mcap"
    bench.start(policy_node.PolicyNode, robot="panda", policy="hold")
    cameras = {name: bench.peer.create_publisher(Image, f"camera/{name}/image_raw", KEPT)
               for name in PANDA.cameras}
    environment = {**os.environ, "ROS_DOMAIN_ID": str(bench.domain)}
    child = subprocess.Popen([sys.executable, "-m", "vla_ros.cli", "record", str(file)], env=environment, text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    bench.until(lambda: all(p.get_subscription_count() == 2 for p in cameras.values()), "the recorder",
                lambda: None if child.poll() is None else pytest.fail(child.stdout.read()))
    for camera in cameras.values():
        camera.publish(convert.image_message(np.zeros((128, 128, 3), np.uint8), 7, "x"))
    bench.until(lambda: file.exists(), "the file")
    child.send_signal(signal.SIGINT)
    said, _ = child.communicate(timeout=60)
    assert child.returncode in (0, 1) and "/camera/front/image_raw" in said, said
    assert len(BagReader(file).topics()) == 5
