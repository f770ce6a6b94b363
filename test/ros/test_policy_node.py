"""The policy node over DDS: what it answers, what it refuses, and that it lives."""

from __future__ import annotations

import array
import threading
from dataclasses import replace

import numpy as np
import openvla_samples
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import String
from vla_ros.msg import ActionChunk, PolicyStatus
from vla_ros.srv import AskScene

from vla_ros.nodes import convert, policy_node, qos
from vla_ros.nodes.client import Client, NoAnswerError
from vla_ros.observing import Observer
from vla_ros.policies import open_policy
from vla_ros.policies.hold import HoldPolicy
from vla_ros.profile import load_profile
from vla_ros.types import Answer, Look
from vla_ros.types import JointState as Joints

PANDA = load_profile("panda")
NAMES = (*PANDA.joints, *PANDA.gripper.joints)
PICTURE = np.zeros((128, 128, 3), np.uint8)
PICTURE[0] = 40


class Robot:
    """Cameras, joints and a user on the bench's peer."""

    def __init__(self, bench, compressed=False, policy="hold", **parameters):
        self.bench = bench
        self.node = bench.start(policy_node.PolicyNode, robot="panda", policy=policy, compressed=compressed,
                                **parameters)
        self.sent = set()  # [ns] the oldest stamp of each observation
        if self.node.params.autostart:
            self.meet(compressed)
            bench.until(lambda: self.node.active, "activation", self.observe)
            self.forget()

    def forget(self):
        """So that what a test sends is all that there is."""
        newest = self.observe()["joints"]
        self.bench.until(lambda: self.node.inferring.observed == newest, "the last of it")
        self.node.inferring._pairing.clear()

    def meet(self, compressed=False):
        """Once the node is configured."""
        bench = self.bench
        kind, suffix = (CompressedImage, "/compressed") if compressed else (Image, "")
        self.make = convert.compressed_message if compressed else convert.image_message
        self.chunks = bench.listen(ActionChunk, "vla/action_chunk", qos.STREAM)
        self.statuses = bench.listen(PolicyStatus, "vla/policy_status", qos.STATUS)
        self.cameras = {n: bench.speak(kind, f"camera/{n}/image_raw{suffix}", qos.SENSOR)
                        for n in self.node.policy.cameras}
        self.joints = bench.speak(JointState, "joint_states", qos.SENSOR)
        self.words = bench.speak(String, "vla/instruction", qos.REQUEST)

    def say(self, words):
        self.words.publish(String(data=words))
        self.bench.until(lambda: self.node.inferring.instruction == words, f"'{words}' in force")

    def observe(self, image=PICTURE, **ages):
        """Everything, measured now, or as long ago as `ages` [s] says."""
        now = self.node.now()
        stamp = {name: now - round(ages.get(name, ages.get("all", 0.0)) * 1e9) for name in (*self.cameras, "joints")}
        for name, camera in self.cameras.items():
            camera.publish(self.make(image, stamp[name], f"{name}_optical_frame"))
        self.joints.publish(convert.joint_message(Joints(dict.fromkeys(NAMES, 0.02), {}, stamp["joints"])))
        self.sent.add(min(stamp.values()))
        return stamp

    def until_status(self, state, meanwhile=lambda: None):
        def found():
            return self.statuses and self.statuses[-1].state == state and self.statuses[-1]
        return self.bench.until(found, f"status {state}", meanwhile)


def test_a_chunk_answers_an_observation(bench):
    robot = Robot(bench)
    bench.until(lambda: robot.statuses and robot.statuses[-1].detail == "no instruction", "a status", robot.observe)
    assert robot.statuses[-1].state == PolicyStatus.WAITING
    bench.until(lambda: robot.node.inferring.observed, "an observation", lambda: robot.observe())
    assert robot.chunks == [], "without an instruction nothing is inferred"
    robot.say("touch the red cube")
    bench.until(lambda: robot.chunks, "a chunk", robot.observe)
    message = robot.chunks[0]
    chunk = convert.chunk_from(message)
    assert message.instruction == "touch the red cube" and message.sequence == 0
    assert chunk.spec == PANDA.action and (chunk.values[:, :3] == 0).all()
    assert list(chunk.timings) == ["age", "wait", "convert", "infer", "total"]
    assert 0 < chunk.timings["age"] < chunk.timings["total"]
    assert chunk.stamp in robot.sent, "stamped with the oldest part of its observation"
    status = robot.until_status(PolicyStatus.RUNNING, lambda: robot.observe())
    assert status.policy == "hold" and status.instruction == "touch the red cube"
    robot.say("")
    robot.until_status(PolicyStatus.WAITING, lambda: robot.observe())


def test_an_openvla_checkpoint_answers_with_steps_of_the_robot(bench, tmp_path):
    """As the policy in process does, to the same image and words."""
    folder = f"{openvla_samples.write(tmp_path / 'checkpoint', shards=2)}?rotation=hold"
    robot, image = Robot(bench, policy=folder), openvla_samples.picture(0, 128, 128)
    robot.say("Put it in the tray")
    bench.until(lambda: robot.chunks, "a chunk", lambda: robot.observe(image))
    chunk = convert.chunk_from(robot.chunks[0])
    joints = Joints(dict.fromkeys(NAMES, 0.02), {}, chunk.stamp)
    images = dict.fromkeys(PANDA.cameras, image)
    seen = Observer(PANDA).observation(images, dict.fromkeys(images, chunk.stamp), joints, "Put it in the tray")
    alone = open_policy(folder, PANDA).infer(seen)
    assert chunk.spec == alone.spec and chunk.values.shape == (2, 4) and not chunk.refusal
    np.testing.assert_allclose(chunk.values, alone.values, rtol=1e-6)
    np.testing.assert_array_equal(chunk.tokens, alone.tokens)


@pytest.mark.parametrize("ages, reason", [({"all": 0.5}, "stale"), ({"front": 0.5}, "stale"), ({"wrist": 0.15}, "skew"),
                                          ({"all": -0.5}, "future"), ({"joints": 0.5}, "stale")])
def test_what_does_not_fit_in_time_is_refused(bench, ages, reason):
    robot = Robot(bench)
    robot.say("go")
    bench.until(lambda: robot.node.inferring.refusals[reason], reason, lambda: robot.observe(**ages))
    status = robot.until_status(PolicyStatus.STALE)
    assert status.detail.startswith(reason) and status.refused_observations >= 1
    assert robot.chunks == []


def test_wrong_images_are_refused_and_good_ones_follow(bench):
    robot = Robot(bench)
    robot.say("go")
    bench.until(lambda: robot.node.inferring.refusals["size"], "size", lambda: robot.observe(PICTURE[:, :50]))
    robot.make = lambda *parts: spoilt(convert.image_message(*parts))
    bench.until(lambda: robot.node.inferring.refusals["encoding"], "encoding", robot.observe)
    assert robot.chunks == [] and robot.node.inferring.refusals.keys() == {"size", "encoding"}
    robot.make = convert.image_message
    bench.until(lambda: robot.chunks, "a chunk", robot.observe)


def spoilt(message, **fields):
    for name, value in (fields or {"encoding": "yuv422"}).items():
        setattr(message, name, value)
    return message


@pytest.mark.parametrize("reason, fields", [
    ("encoding", {"encoding": "16UC1"}), ("step", {"step": 383}), ("length", {"step": 400}),
    ("length", {"height": 127}), ("length", {"data": array.array("B", [0] * 99)}),
    ("size", {"height": 0, "data": array.array("B")})], ids=str)
def test_images_that_contradict_themselves_are_counted_and_named(bench, reason, fields):
    robot = Robot(bench)
    robot.say("go")
    robot.make = lambda *parts: spoilt(convert.image_message(*parts), **fields)
    status = robot.until_status(PolicyStatus.STALE, robot.observe)
    assert status.detail.startswith(f"{reason}: ") and status.refused_observations >= 1 and robot.chunks == []


@pytest.mark.parametrize("spoil, text", [
    (lambda m: m.position.__setitem__(2, float("nan")), "joint positions are not finite"),
    (lambda m: m.velocity.extend([float("inf")] * len(m.name)), "joint velocities are not finite"),
    (lambda m: m.position.pop(), "9 joint names but 8 positions"),
    (lambda m: (m.name.pop(0), m.position.pop(0)), "joint states lack panda_joint1")],
    ids=["nan", "inf", "short", "lack"])
def test_joint_states_that_cannot_be_used_are_counted_and_named(bench, spoil, text):
    robot = Robot(bench)
    robot.say("go")
    publish = robot.joints.publish
    def broken(message):
        spoil(message)
        publish(message)
    robot.joints.publish = broken
    status = robot.until_status(PolicyStatus.STALE, robot.observe)
    assert status.detail.startswith("joints: ") and text in status.detail and robot.chunks == []
    assert robot.node.inferring.refusals["joints"] >= 1
    robot.joints.publish = publish
    bench.until(lambda: robot.chunks, "a chunk", robot.observe)


def test_compressed_images(bench):
    robot = Robot(bench, compressed=True)
    robot.say("go")
    bench.until(lambda: robot.chunks, "a chunk", robot.observe)


class Scripted(HoldPolicy):
    """Does what the test says; counts its resets and what it saw. Answers questions."""

    def __init__(self, profile):
        super().__init__(profile)
        self.behave, self.seen, self.resets = lambda chunk: chunk, [], 0

    def infer(self, observation):
        self.seen.append(observation.stamp)
        return self.behave(super().infer(observation))

    def ask(self, image, question):
        return Answer(f"{question} {image.mean():.0f}", 0.75, {"look": 0.01})

    def reset(self):
        self.resets += 1


@pytest.fixture
def scripted(monkeypatch):
    policy = Scripted(PANDA)
    monkeypatch.setattr(policy_node, "open_policy", lambda source, profile: policy)
    monkeypatch.setattr(policy_node, "warm_up", lambda policy, profile: None)  # it would count
    return policy


def test_a_policy_that_raises_leaves_the_node_alive(bench, scripted):
    def fail(chunk):
        raise RuntimeError("out of memory")
    robot = Robot(bench)
    scripted.behave = fail
    robot.say("go")
    status = robot.until_status(PolicyStatus.FAILED, robot.observe)
    assert status.detail == "RuntimeError: out of memory" and robot.chunks == []
    scripted.behave = lambda chunk: chunk
    bench.until(lambda: robot.chunks, "a chunk", robot.observe)


def test_a_refusal_is_published_and_stands(bench, scripted):
    robot = Robot(bench)
    scripted.behave = lambda chunk: replace(chunk, values=chunk.values[:0], refusal="no such thing here")
    robot.say("touch the moon")
    bench.until(lambda: robot.chunks, "the refusal", robot.observe)
    assert robot.chunks[0].refusal == "no such thing here" and robot.chunks[0].steps == 0
    assert robot.until_status(PolicyStatus.REFUSED).detail == "no such thing here"
    seen = len(scripted.seen)
    last = robot.observe()["joints"]
    bench.until(lambda: robot.node.inferring.observed == last, "a later observation", lambda: None)
    assert len(scripted.seen) == seen and len(robot.chunks) == 1
    robot.say("go")
    bench.until(lambda: len(robot.chunks) == 2, "another answer", robot.observe)


def test_the_newest_observation_and_no_queue(bench, scripted):
    robot = Robot(bench)
    gate = threading.Event()
    scripted.behave = lambda chunk: chunk if gate.wait(60) else None
    robot.say("go")
    bench.until(lambda: scripted.seen, "the first inference", robot.observe)
    newest = 0
    for _ in range(5):
        newest = robot.observe()["joints"]
        bench.until(lambda newest=newest: robot.node.inferring.observed == newest, "its arrival")
    gate.set()
    bench.until(lambda: len(robot.chunks) >= 2, "two answers")
    assert scripted.seen[1] == newest and len(scripted.seen) == 2


def test_new_words_reset_the_policy_and_repeated_words_do_not(bench, scripted):
    robot = Robot(bench)
    for words, resets in (("a", 1), ("a", 1), ("b", 2)):
        robot.say(words)
        before = len(robot.chunks)
        bench.until(lambda before=before: len(robot.chunks) > before, "a chunk", robot.observe)
        assert scripted.resets == resets and robot.chunks[-1].instruction == words


def question(bench, meanwhile=lambda: None, **fields):
    """What vla/ask answers."""
    client = bench.peer.create_client(AskScene, "vla/ask")
    bench.until(client.service_is_ready, "vla/ask", meanwhile)
    future = client.call_async(AskScene.Request(**fields))
    bench.until(future.done, "an answer", meanwhile)
    return future.result()


def test_a_question_is_answered_without_an_instruction(bench, scripted):
    robot = Robot(bench)
    bench.until(lambda: robot.node.inferring.observed, "an observation", robot.observe)
    sent = []
    answer = question(bench, lambda: sent.append(robot.observe(PICTURE + 200)), question="how  bright?\n")
    assert answer.success and answer.message == "", answer.message
    assert answer.answer in ("how bright? 200", "how bright? 0") and answer.confidence == 0.75
    assert answer.camera == "front" and convert.nanoseconds(answer.stamp) in robot.sent
    assert list(answer.stages) == ["look"] and list(answer.seconds) == [0.01]
    answer = question(bench, robot.observe, question="how bright?", camera="rear")
    assert not answer.success and "available: front, wrist" in answer.message
    assert scripted.seen == [] and robot.chunks == [] and scripted.resets == 0


def test_a_client_asks(bench, scripted):
    robot, got = Robot(bench), []
    bench.until(lambda: robot.node.inferring.observed, "an observation", robot.observe)

    def ask():
        with Client("asker", domain=bench.domain) as client:
            got.append(client.ask("how bright?", "wrist", timeout=60.0))
            try:
                client.ask("how bright?", "rear", timeout=60.0)
            except NoAnswerError as error:
                got.append(str(error))
    thread = threading.Thread(target=ask)
    thread.start()
    bench.until(lambda: not thread.is_alive(), "two answers", robot.observe)
    assert got[0].answer == Answer("how bright? 0", 0.75, {"look": 0.01}) and got[0].camera == "wrist"
    assert got[0].stamp in robot.sent and "unknown camera of the policy 'rear'" in got[1]


def test_a_question_waits_for_the_inference_and_holds_up_nothing_else(bench, scripted):
    robot = Robot(bench)
    gate = threading.Event()
    scripted.behave = lambda chunk: chunk if gate.wait(60) else None
    robot.say("go")
    bench.until(lambda: scripted.seen, "the first inference", robot.observe)
    client = bench.peer.create_client(AskScene, "vla/ask")
    bench.until(client.service_is_ready, "vla/ask", robot.observe)
    future = client.call_async(AskScene.Request(question="how bright?"))
    newest = robot.observe()["joints"]
    bench.until(lambda: robot.node.inferring.observed == newest, "the node goes on to listen")
    robot.say("stay")
    assert not future.done() and len(robot.chunks) == 0
    gate.set()
    bench.until(future.done, "an answer", robot.observe)
    assert future.result().success or "old" in future.result().message
    bench.until(lambda: robot.chunks and robot.chunks[-1].instruction == "stay", "inference goes on", robot.observe)


def test_a_policy_that_answers_nothing_says_so(bench):
    robot = Robot(bench)
    answer = question(bench, robot.observe, question="how bright?")
    assert not answer.success and "policy 'hold' answers no questions" in answer.message


def test_the_look_is_shown_to_who_watches(bench, scripted):
    robot = Robot(bench)
    look = Look("target", 33, 44, 0.9)
    scripted.behave = lambda chunk: replace(chunk, looks=(look,), text="I look at the target at (33, 44) px")
    robot.say("go")
    bench.until(lambda: robot.chunks, "a chunk", robot.observe)
    pictures = bench.listen(Image, "vla/look_image", qos.VIEW)
    bench.until(lambda: pictures, "a picture", lambda: robot.observe(PICTURE + 128))
    picture = convert.image_array(pictures[-1])
    assert pictures[-1].encoding == "rgb8" and pictures[-1].header.frame_id == "front_optical_frame"
    assert picture.shape[1] == 384
    assert convert.nanoseconds(pictures[-1].header.stamp) in robot.sent
    assert (picture[:384] == (60, 255, 60)).all(-1).any(), "a crosshair"
    bench.until(lambda: robot.statuses[-1].detail == "I look at the target at (33, 44) px", "its words", robot.observe)


def test_barred_words_are_refused_without_a_camera(bench, scripted, monkeypatch):
    class Filter:
        @staticmethod
        def load(file):
            assert file == "mine.yaml"
            return Filter

        @staticmethod
        def reason(words):
            return "I hurt nobody" if "cat" in words else ""
    monkeypatch.setattr(policy_node, "InstructionFilter", Filter)
    robot = Robot(bench, instruction_filter="mine.yaml")
    robot.say("hit the cat")
    bench.until(lambda: robot.chunks, "the refusal")
    assert (robot.chunks[0].refusal, robot.chunks[0].instruction) == ("I hurt nobody", "hit the cat")
    assert robot.until_status(PolicyStatus.REFUSED).detail == "I hurt nobody" and scripted.seen == []
    robot.say("go")
    bench.until(lambda: len(robot.chunks) == 2, "an answer to other words", robot.observe)
    assert robot.chunks[1].refusal == ""


def test_diagnostics_count_what_was_refused_and_what_came_too_late(bench, scripted):
    robot = Robot(bench, execute_steps=1)
    heard = bench.listen(DiagnosticArray, "/diagnostics")
    robot.node.inferring.deadline = 0.0
    robot.say("go")
    bench.until(lambda: robot.chunks, "a chunk", robot.observe)
    robot.make = lambda *parts: spoilt(convert.image_message(*parts))
    bench.until(lambda: robot.node.inferring.refusals["encoding"], "encoding", robot.observe)
    robot.make = convert.image_message
    scripted.behave = lambda chunk: replace(chunk, values=chunk.values[:0], refusal="no such thing here")
    robot.until_status(PolicyStatus.REFUSED, robot.observe)
    heard.clear()
    figures = bench.until(lambda: heard and {v.key: v.value for v in heard[-1].status[0].values}, "figures")
    assert int(figures["refused: encoding"]) >= 1 and figures["refused instructions"] == "1"
    assert figures["deadline misses"] == figures["chunks"] == str(len(robot.chunks))


def test_diagnostics(bench):
    robot = Robot(bench)
    heard = bench.listen(DiagnosticArray, "/diagnostics")
    robot.say("go")
    bench.until(lambda: robot.chunks, "a chunk", robot.observe)
    heard.clear()
    bench.until(lambda: heard and "inference p50 [ms]" in {v.key for v in heard[-1].status[0].values}, "figures",
                robot.observe)
    figures = {value.key: value.value for value in heard[-1].status[0].values}
    for stage in ("camera age", "queue", "preprocess", "inference", "total"):
        p50, p95, p99 = (float(figures[f"{stage} {share} [ms]"]) for share in ("p50", "p95", "p99"))
        assert 0 <= p50 <= p95 <= p99
    assert figures["deadline [ms]"] == "400" and figures["deadline misses"] == "0"
    assert heard[-1].status[0].name == "policy_node" and heard[-1].status[0].hardware_id == "panda"


def test_a_node_whose_thread_has_ended_does_not_claim_to_live(bench, monkeypatch):
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    robot = Robot(bench)
    robot.node.inferring.next = None  # what comes next in the thread is an error that nobody foresaw
    with pytest.raises(RuntimeError, match="the inference thread has ended"):
        bench.until(lambda: False, "the end", robot.observe)
