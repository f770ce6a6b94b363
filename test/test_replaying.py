"""Bags and their replay, without DDS: what was decided is decided again, byte for byte, and what is not is named."""

from __future__ import annotations

import zlib
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from core_samples import PANDA, joint_state
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("mcap", reason="the extra 'bag' is not installed")
pytest.importorskip("vla_ros.msg", reason="the interfaces of vla_ros are not built: run `make`", exc_type=ImportError)

from mcap.reader import make_reader  # noqa: E402
from mcap_ros2.decoder import DecoderFactory  # noqa: E402
from rclpy.serialization import serialize_message  # noqa: E402
from sensor_msgs.msg import CompressedImage, Image, JointState  # noqa: E402
from std_msgs.msg import String  # noqa: E402
from vla_ros.msg import ActionChunk, ControlStatus  # noqa: E402

from vla_ros import cli  # noqa: E402
from vla_ros.errors import ConfigError  # noqa: E402
from vla_ros.nodes import bag, convert, inputs  # noqa: E402
from vla_ros.nodes.bag import BagReader, BagWriter, definition, type_name  # noqa: E402
from vla_ros.nodes.inferring import JOINTS, Inferring  # noqa: E402
from vla_ros.nodes.replaying import Replay  # noqa: E402
from vla_ros.policies.hold import HoldPolicy  # noqa: E402
from vla_ros.policies.replay import ReplayPolicy  # noqa: E402

MS = 1_000_000
SMALL = replace(PANDA, cameras={name: replace(c, width=4, height=3) for name, c in PANDA.cameras.items()})
CAMERAS = tuple(SMALL.cameras)


class Remembering(HoldPolicy):
    """Its answer depends on every observation since it was reset."""

    def reset(self):
        self.sum = 0

    def infer(self, observation):
        seen = b"".join(image.tobytes() for image in observation.images.values())
        felt = repr((sorted(observation.joints.positions.items()), sorted(observation.stamps.items()))).encode()
        self.sum = zlib.crc32(seen + felt + observation.instruction.encode(), self.sum)
        values = np.random.default_rng(self.sum).normal(size=(self.spec.horizon, self.spec.dim))
        return replace(super().infer(observation), values=values, tokens=np.abs(values * 100).astype(np.int32),
                       text=str(self.sum))


class Live:
    """A policy node without ROS, and a bag of what it got and gave. `base`: of its topics."""

    def __init__(self, file, policy=None, barred=lambda words: "", base="/", profile=SMALL):
        self.clock, self.base, self.number, self.barred = 0, base, 0, barred
        self.work = Inferring(policy or Remembering(profile), profile, convert.image_array, lambda: self.clock,
                              barred=barred)
        self.writer = BagWriter(file)
        for topic, kind in inputs.cameras(profile.cameras).values():
            self.writer.add_topic(base + topic, kind)
        for topic, kind in ((inputs.JOINTS, JointState), (inputs.INSTRUCTION, String), (inputs.CHUNKS, ActionChunk)):
            self.writer.add_topic(base + topic, kind)
        self.profile, self.chunks = profile, []

    def write(self, topic, message):
        self.number += 1
        self.writer.write(self.base + topic, serialize_message(message), self.number, self.number)

    def say(self, words):
        self.write(inputs.INSTRUCTION, String(data=words))
        self.work.instruct(convert.words(words))

    def part(self, source, stamp, lost=False):
        """Something measured at `stamp` [ns], different from all before."""
        self.clock = max(self.clock, stamp)
        noise = np.random.default_rng(abs(stamp))
        if source == JOINTS:
            joints = joint_state(self.profile, stamp, np.array(self.profile.home) + noise.normal(0, 0.01, 7))
            message, topic, item = convert.joint_message(joints), inputs.JOINTS, joints
        else:
            camera = self.profile.cameras[source]
            pixels = noise.integers(0, 256, (camera.height, camera.width, 3), dtype=np.uint8)
            item = message = convert.image_message(pixels, stamp, "")
            topic = inputs.cameras([source])[source][0]
        if not lost:
            self.write(topic, message)
        self.work.add(source, stamp, item)

    def observe(self, ms, lost=False):
        for source in (*CAMERAS, JOINTS):
            self.part(source, ms * MS, lost)

    def turn(self, lost=False):
        job = self.work.next()
        chunk = job and self.work.infer(job)
        if chunk:
            message = convert.chunk_message(chunk, job.instruction, self.work.chunks - 1)
            if not lost:
                self.write(inputs.CHUNKS, message)
                self.chunks.append(message)

    def close(self):
        self.writer.__exit__(None, None, None)


def replayed(file, policy=None, barred=lambda words: "", profile=SMALL):
    return Replay(BagReader(file), policy or Remembering(profile), profile, barred)


def differences(*args, **more):
    return [chunk.difference for chunk in replayed(*args, **more)]


@pytest.fixture
def file(tmp_path):
    return tmp_path / "run.mcap"


steps = st.lists(st.one_of(
    st.tuples(st.just("part"), st.sampled_from((*CAMERAS, JOINTS)), st.integers(0, 60)),
    st.tuples(st.just("observe"), st.integers(1, 120)), st.tuples(st.just("turn")),
    st.tuples(st.just("say"), st.sampled_from(["go", "stay", "", "hit the cat"]))), min_size=1, max_size=60)


@settings(max_examples=150)
@given(steps)
def test_whatever_comes_in_whatever_order_is_decided_again(tmp_path_factory, plan):
    """Sources of their own pace, observations passed over, words that change back and forth, refusals."""
    def barred(words):
        return "I hurt nobody" if "cat" in words else ""
    file = tmp_path_factory.mktemp("bag") / "run.mcap"
    live, now = Live(file, barred=barred), 1000 * MS
    for kind, *more in [("say", "go"), ("observe", 1), ("turn",), *plan, ("say", "end"), ("observe", 1), ("turn",)]:
        if kind == "say":
            live.say(more[0])
        elif kind == "turn":
            live.turn()
        elif kind == "part":
            now += more[1] * MS + 1
            live.part(more[0], now)
        else:
            now += more[0] * MS + 1
            for source in (*CAMERAS, JOINTS):
                live.part(source, now)
    live.close()
    assert live.chunks and differences(file, barred=barred) == [""] * len(live.chunks)


def recorded(file, count=5, policy=None, **more):
    """`count` chunks, with an observation passed over between them, closed."""
    live = Live(file, policy, **more)
    live.say("go")
    for i in range(count):
        live.observe(1000 + 100 * i)
        live.turn()
        live.observe(1050 + 100 * i)
    live.close()
    return live


def test_the_first_difference_is_named(file):
    chunks = np.arange(5 * 8 * 4.0).reshape(5, 8, 4)
    recorded(file, policy=ReplayPolicy(chunks, SMALL.action, CAMERAS))
    assert differences(file, ReplayPolicy(chunks, SMALL.action, CAMERAS)) == [""] * 5
    chunks[3, 2, 1] += 1e-12
    said = differences(file, ReplayPolicy(chunks, SMALL.action, CAMERAS))
    assert said[:3] == [""] * 3 and said[4] == ""
    assert said[3] == f"values at step 2, dy: {float(chunks[3, 2, 1])!r} instead of 105.0"
    assert differences(file, ReplayPolicy(chunks[:2], SMALL.action, CAMERAS))[2].startswith("steps: 0 instead of 8")


def test_minus_zero_is_another_value(file):
    recorded(file, 1, HoldPolicy(SMALL))
    class Negative(HoldPolicy):
        def infer(self, observation):
            chunk = super().infer(observation)
            return replace(chunk, values=np.where(chunk.values == 0, -0.0, chunk.values))
    assert differences(file, Negative(SMALL)) == ["values at step 0, dx: -0.0 instead of 0.0"]


def test_tokens_and_text_are_compared_too(file):
    recorded(file, 2)
    class Others(Remembering):
        def infer(self, observation):
            chunk = super().infer(observation)
            return replace(chunk, tokens=chunk.tokens + 1)
    assert all(text.startswith("tokens at step 0, dx: ") for text in differences(file, Others(SMALL)))


def test_what_the_bag_lost_is_named_and_never_taken_for_equal(file):
    live = Live(file)
    live.say("go")
    for i in range(6):
        live.observe(1000 + 100 * i, lost=i == 2)
        live.turn(lost=i == 4)
    live.close()
    replay = replayed(file)
    said = [chunk.difference for chunk in replay]
    assert said[:2] == ["", ""] and "the bag lacks its observation" in said[2] and replay.lacking == 1
    assert said[3].startswith("values"), "the policy remembers what the bag has not"


def test_words_from_before_the_recording_are_named(file):
    live = Live(file)
    live.work.instruct("go")
    live.observe(1000)
    live.turn()
    live.close()
    assert differences(file) == ["the bag lacks the instruction 'go': it was given before the recording"]


def test_another_policy_node_begins_anew(file):
    live = recorded(file, 3)
    live.writer = BagWriter(file.with_stem("two"))
    for topic in ("camera/front/image_raw", "camera/wrist/image_raw"):
        live.writer.add_topic("/" + topic, Image)
    live.writer.add_topic("/joint_states", JointState)
    live.writer.add_topic("/vla/instruction", String)
    live.writer.add_topic("/vla/action_chunk", ActionChunk)
    for start in (2000, 3000):
        live.work = Inferring(Remembering(SMALL), SMALL, convert.image_array, lambda: live.clock)
        live.say("go")
        for i in range(2):
            live.observe(start + 100 * i)
            live.turn()
    live.close()
    assert differences(file.with_stem("two")) == [""] * 4


def test_topics_of_a_namespace_and_only_of_one(file):
    recorded(file, base="/left/")
    assert differences(file) == [""] * 5
    two = file.with_stem("two")
    with BagWriter(two) as bag:
        for base in ("/left", "/right"):
            bag.add_topic(f"{base}/vla/action_chunk", ActionChunk)
    with pytest.raises(ConfigError, match="must hold one topic vla/action_chunk; it has: /left.*, /right"):
        replayed(two)


def test_a_bag_without_what_the_policy_reads(file):
    with BagWriter(file) as bag:
        bag.add_topic("/vla/action_chunk", ActionChunk)
        bag.add_topic("/joint_states", JointState)
    with pytest.raises(ConfigError, match="lacks /camera/front/image_raw/compressed, .*it has: /joint_states"):
        replayed(file)


def test_a_bag_without_chunks(file):
    Live(file).close()
    with pytest.raises(ConfigError, match="holds no chunk to compare with"):
        replayed(file)


@pytest.mark.parametrize("spoil", [lambda data: b"", lambda data: b"no bag", lambda data: data[:len(data) // 2],
                                   lambda data: data[:9] + bytes(len(data) - 9)],
                         ids=["empty", "text", "half", "zeros"])
def test_a_spoilt_file_is_one_line(file, spoil, capsys):
    recorded(file)
    file.write_bytes(spoil(file.read_bytes()))
    assert cli.main(["replay", str(file), "--policy", "hold"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "is not a whole MCAP file" in said


def test_a_pixel_that_changed_is_noticed_in_a_file_without_compression_too(file, monkeypatch):
    monkeypatch.setattr(bag, "CompressionType", SimpleNamespace(ZSTD=bag.CompressionType.NONE))
    recorded(file, 2)
    content = bytearray(file.read_bytes())
    content[content.index(b"rgb8") + 30] ^= 1
    file.write_bytes(content)
    with pytest.raises(ConfigError, match="is not a whole MCAP file: .*crc"):
        differences(file)


@settings(max_examples=200)
@given(st.floats(0, 1, exclude_max=True), st.integers(1, 255))
def test_a_byte_that_changed_crashes_nothing(tmp_path_factory, place, change):
    file = tmp_path_factory.mktemp("bag") / "run.mcap"
    recorded(file, 2)
    content = bytearray(file.read_bytes())
    content[int(place * len(content))] ^= change
    file.write_bytes(content)
    try:
        differences(file)
    except ConfigError as error:
        assert file.name in str(error) or "topic /" in str(error)


def test_a_topic_of_another_type_is_named(file):
    live = Live(file)
    live.writer.add_topic("/joint_states", String)
    live.write("joint_states", String(data="x"))
    live.close()
    with pytest.raises(ConfigError, match="topic /joint_states holds std_msgs/msg/String, not sensor_msgs/msg/JointS"):
        replayed(file)


def test_a_file_that_exists_is_kept_and_a_name_says_what_it_is(file):
    file.write_text("mine")
    with pytest.raises(ConfigError, match="cannot make .*: File exists"):
        BagWriter(file)
    with pytest.raises(ConfigError, match="ends in .mcap"):
        BagWriter(file.with_suffix(".bag"))
    assert file.read_text() == "mine"
    with pytest.raises(ConfigError, match="no bag .*expected a .mcap file, or a folder"):
        BagReader(file.parent / "other")


def test_a_folder_of_several_files_is_one_bag(tmp_path):
    live, files = Live(tmp_path / "bag_0.mcap"), []
    live.say("go")
    for i in range(12):
        live.observe(1000 + 100 * i)
        live.turn()
        topics = {topic: None for topic in live.writer.counts}
        live.close()
        files.append(live.writer)
        live.writer = BagWriter(tmp_path / f"bag_{i + 1}.mcap")
        for topic in topics:
            kind = {"image_raw": Image, "joint_states": JointState, "instruction": String}.get(topic.split("/")[-1],
                                                                                              ActionChunk)
            live.writer.add_topic(topic, kind)
    live.close()
    assert differences(tmp_path) == [""] * 12


@pytest.mark.parametrize("kind", [Image, CompressedImage, JointState, String, ActionChunk, ControlStatus])
def test_schemas_name_every_type_inside(kind):
    text = definition(kind)
    assert type_name(kind).endswith(f"/msg/{kind.__name__}")
    assert ("MSG: std_msgs/Header\n" in text) == ("header" in kind.get_fields_and_field_types())
    assert text.count("MSG: builtin_interfaces/Time") == text.count("MSG: std_msgs/Header")


def test_a_reader_that_knows_the_schemas_alone_reads_the_same(file):
    """As Foxglove does: from the file, without our message classes."""
    live = recorded(file)
    with file.open("rb") as stream:
        read = list(make_reader(stream, decoder_factories=[DecoderFactory()]).iter_decoded_messages())
    chunks = [m.decoded_message for m in read if m.channel.topic == "/vla/action_chunk"]
    for mine, theirs in zip(live.chunks, chunks, strict=True):
        assert mine.values.tolist() == list(theirs.values) and mine.tokens.tolist() == list(theirs.tokens)
        assert mine.header.stamp.nanosec == theirs.header.stamp.nanosec and mine.instruction == theirs.instruction
    images = [m.decoded_message for m in read if m.channel.topic == "/camera/front/image_raw"]
    assert len(images) == 10 and images[0].encoding == "rgb8" and len(images[0].data) == 36
    assert {m.schema.encoding for m in read} == {"ros2msg"} and {m.channel.message_encoding for m in read} == {"cdr"}


def test_the_command(file, capsys):
    recorded(file, policy=HoldPolicy(PANDA), profile=PANDA)
    assert cli.main(["replay", str(file), "--policy", "hold"]) == 0
    assert capsys.readouterr().out == "5 of 5 chunks equal, byte for byte in tokens and values\n"
    npz = file.with_suffix(".npz")
    ReplayPolicy(np.ones((9, 8, 4)), PANDA.action, CAMERAS).save(str(npz))
    assert cli.main(["replay", str(file), "--policy", f"replay:{npz}"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("0 of 5 chunks") and "first difference, chunk 0 of 1.000 s: values at step 0, dx: 1.0" in out
