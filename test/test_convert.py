"""Messages to types and back: exact inverse pairs, and an error that names the cause for whatever is malformed."""

from __future__ import annotations

import array
from dataclasses import replace

import numpy as np
import pytest
from core_samples import HUSKY, PANDA, ROBOTS, joint_state
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("vla_ros.msg", reason="the interfaces of vla_ros are not built: run `make`", exc_type=ImportError)

from geometry_msgs.msg import TwistStamped  # noqa: E402
from sensor_msgs.msg import CompressedImage, Image  # noqa: E402
from sensor_msgs.msg import JointState as JointStateMsg  # noqa: E402
from std_msgs.msg import Float64MultiArray  # noqa: E402

from vla_ros.errors import ActionError, ObservationError  # noqa: E402
from vla_ros.nodes import convert  # noqa: E402
from vla_ros.types import ActionChunk, JointCommand, JointState, TwistCommand  # noqa: E402

finite = st.floats(allow_nan=False, allow_infinity=False)
stamps = st.integers(0, 2**31 * convert.SECOND - 1)
rng = np.random.default_rng(0)


def interface(profile, name: str):
    return replace(profile, command=replace(profile.command, interface=name))


# Time and words

@given(stamps)
def test_stamps_come_back(stamp):
    assert convert.nanoseconds(convert.time_message(stamp)) == stamp
    assert convert.nanoseconds(convert.duration_message(stamp)) == stamp


def test_words_are_tidied_and_bounded():
    assert convert.words("  touch \n the red\tcube ") == "touch the red cube"
    assert convert.words("") == ""
    with pytest.raises(ObservationError, match="1001 characters"):
        convert.words("a" * 1001)


# Images

def image(height=3, width=4):
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


@given(st.integers(1, 40), st.integers(1, 40), stamps)
def test_images_come_back(height, width, stamp):
    sent = image(height, width)
    message = convert.image_message(sent, stamp, "front_optical_frame")
    assert convert.nanoseconds(message.header.stamp) == stamp and message.header.frame_id == "front_optical_frame"
    np.testing.assert_array_equal(convert.image_array(message), sent)


@pytest.mark.parametrize("encoding", convert.ENCODINGS)
@pytest.mark.parametrize("padding", [0, 5])
def test_every_encoding_becomes_rgb(encoding, padding):
    rgb = image()
    if encoding == "mono8":
        rgb[:] = rgb[:, :, :1]
    channels = {"rgb8": rgb, "bgr8": rgb[:, :, ::-1], "mono8": rgb[:, :, :1],
                "rgba8": np.dstack([rgb, rgb[:, :, 0]]), "bgra8": np.dstack([rgb[:, :, ::-1], rgb[:, :, 0]])}[encoding]
    rows = np.pad(channels.reshape(3, -1), ((0, 0), (0, padding)), constant_values=99)
    message = Image(height=3, width=4, encoding=encoding, step=rows.shape[1], data=array.array("B", rows.tobytes()))
    np.testing.assert_array_equal(convert.image_array(message), rgb)


@pytest.mark.parametrize("change, reason, text", [
    ({"encoding": "16UC1"}, "encoding", "16UC1"), ({"encoding": ""}, "encoding", "rgb8"),
    ({"step": 11}, "step", "11"), ({"step": 13}, "length", "13"), ({"height": 2}, "length", "2 rows"),
    ({"height": 0}, "size", "empty"), ({"width": 0}, "size", "empty"), ({"width": 5}, "step", "5 pixels"),
    ({"data": array.array("B", [1, 2])}, "length", "2 bytes")])
def test_malformed_images_are_refused(change, reason, text):
    message = convert.image_message(image(), 0, "")
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(ObservationError, match=text) as caught:
        convert.image_array(message)
    assert caught.value.reason == reason


def test_compressed_images():
    sent = image(32, 24)
    np.testing.assert_array_equal(convert.image_array(convert.compressed_message(sent, 0, "", "png")), sent)
    smooth = np.tile(np.linspace(0, 255, 64, dtype=np.uint8)[None, :, None], (48, 1, 3))
    back = convert.image_array(convert.compressed_message(smooth, 0, "", "jpeg"))
    assert np.abs(back.astype(int) - smooth).max() < 8


@pytest.mark.parametrize("data", [b"", b"garbage", b"\xff\xd8\xff\xe0" + bytes(50)])
def test_broken_compressed_images_are_refused(data):
    with pytest.raises(ObservationError) as caught:
        convert.image_array(CompressedImage(format="jpeg", data=array.array("B", data)))
    assert caught.value.reason == "encoding"


def test_camera_info_has_the_intrinsics():
    k = np.array([[120.0, 0, 47.5], [0, 120.0, 35.5], [0, 0, 1]])
    info = convert.camera_info(k, 96, 72, 5, "front_optical_frame")
    np.testing.assert_array_equal(np.reshape(info.k, (3, 3)), k)
    np.testing.assert_array_equal(np.reshape(info.p, (3, 4))[:, :3], k)
    assert (info.width, info.height, info.header.frame_id) == (96, 72, "front_optical_frame")


# Joints

@given(st.dictionaries(st.text(min_size=1), st.tuples(finite, finite), min_size=1), stamps)
def test_joint_states_come_back(joints, stamp):
    sent = JointState({n: p for n, (p, _) in joints.items()}, {n: v for n, (_, v) in joints.items()}, stamp)
    assert convert.joint_state(convert.joint_message(sent)) == sent


def test_joint_states_without_velocities():
    sent = JointState({"a": 1.0}, {}, 7)
    assert convert.joint_state(convert.joint_message(sent)) == sent


@pytest.mark.parametrize("names, positions, velocities", [
    ([], [], []), (["a", "a"], [0.0, 0.0], []), (["a", "b"], [0.0], []), (["a"], [0.0], [0.0, 0.0]),
    (["a"], [np.nan], []), (["a"], [0.0], [np.inf])])
def test_malformed_joint_states_are_refused(names, positions, velocities):
    with pytest.raises(ObservationError) as caught:
        convert.joint_state(JointStateMsg(name=names, position=positions, velocity=velocities))
    assert caught.value.reason == "joints"


# Chunks

@st.composite
def chunks(draw):
    spec = draw(st.sampled_from(list(ROBOTS.values()))).action
    steps = draw(st.integers(0, 10))
    size = steps * spec.dim
    values = np.array(draw(st.lists(finite, min_size=size, max_size=size))).reshape(steps, spec.dim)
    tokens = rng.integers(0, 60000, values.shape).astype(np.int32) if steps and draw(st.booleans()) else None
    return ActionChunk(values, spec, draw(stamps), tokens, draw(st.floats(0, 1)), draw(st.text()), draw(st.text()),
                       draw(st.dictionaries(st.text(), finite, max_size=4)), done=draw(st.booleans()))


@given(chunks(), st.text(), st.integers(0, 2**64 - 1))
def test_chunks_come_back(chunk, instruction, sequence):
    message = convert.chunk_message(chunk, instruction, sequence)
    back = convert.chunk_from(message)
    assert (message.instruction, message.sequence) == (instruction, sequence)
    for name in ("spec", "stamp", "confidence", "refusal", "text", "timings", "done"):
        assert getattr(back, name) == getattr(chunk, name), name
    np.testing.assert_array_equal(back.values, chunk.values)
    assert (back.tokens is None) == (chunk.tokens is None)
    if chunk.tokens is not None:
        np.testing.assert_array_equal(back.tokens, chunk.tokens)


def chunk_message():
    return convert.chunk_message(ActionChunk(np.zeros((8, 4)), PANDA.action, 1, np.zeros((8, 4), np.int32)))


@pytest.mark.parametrize("change, reason", [
    ({"values": [0.0] * 31}, "shape"), ({"steps": 7}, "shape"), ({"steps": 0}, "shape"), ({"tokens": [1, 2]}, "shape"),
    ({"names": ["dx"]}, "shape"), ({"stages": ["infer"]}, "shape"), ({"values": [np.nan] * 32}, "finite"),
    ({"values": [0.0] * 31 + [np.inf]}, "finite"), ({"names": ["dx", "dy", "dz", "dx"]}, "spec"),
    ({"names": ["v", "w", "x", "y"]}, "spec"), ({"units": ["m", "m", "mm", "1"]}, "spec"),
    ({"mode": "absolute"}, "spec"), ({"period": 0.0}, "spec"), ({"period": np.nan}, "spec"), ({"horizon": 0}, "spec"),
    ({"confidence": 1.5}, "confidence"), ({"confidence": np.nan}, "confidence"),
    ({"stages": ["infer"], "seconds": [np.nan]}, "finite")])
def test_malformed_chunks_are_refused(change, reason):
    message = chunk_message()
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(ActionError) as caught:
        convert.chunk_from(message)
    assert caught.value.reason == reason


@pytest.mark.parametrize("values, tokens", [
    (np.full((8, 4), np.nan), None), (np.zeros((8, 3)), None), (np.zeros(8), None),
    (np.zeros((8, 4)), np.zeros((4, 4)))])
def test_what_must_not_travel_does_not(values, tokens):
    with pytest.raises(ActionError):
        convert.chunk_message(ActionChunk(values, PANDA.action, 0, tokens))


# Commands

def joint_command(profile, values):
    return JointCommand(dict(zip(convert.joint_order(profile), values, strict=True)))


@given(st.lists(finite, min_size=9, max_size=9), stamps)
def test_joint_commands_come_back(values, stamp):
    for name in ("joint_trajectory", "position", "velocity"):
        profile = interface(PANDA, name)
        command = joint_command(profile, values)
        if name == "velocity":
            command = JointCommand({}, command.positions)
        message = convert.command_message(command, profile, stamp)
        assert isinstance(message, convert.COMMAND_TYPES[name])
        assert convert.command_from(message, profile) == command
        assert convert.command_stamp(message) == stamp


@given(finite, finite, stamps)
def test_twists_come_back(v, w, stamp):
    message = convert.command_message(TwistCommand(v, w), HUSKY, stamp)
    assert convert.command_from(message, HUSKY) == TwistCommand(v, w)
    assert convert.command_stamp(message) == stamp and message.header.frame_id == "base_link"


def test_a_trajectory_is_matched_by_name_not_by_order():
    command = joint_command(PANDA, range(9))
    message = convert.command_message(command, PANDA, 0)
    message.joint_names = message.joint_names[::-1]
    message.points[0].positions = message.points[0].positions[::-1]
    assert convert.command_from(message, PANDA) == command


def spoilt(**change):
    message = convert.command_message(joint_command(PANDA, np.zeros(9)), PANDA, 0)
    for name, value in change.items():
        setattr(message if hasattr(message, name) else message.points[0], name, value)
    return message


@pytest.mark.parametrize("message, reason", [
    (lambda: spoilt(points=[]), "points"), (lambda: spoilt(points=spoilt().points * 2), "points"),
    (lambda: spoilt(time_from_start=convert.duration_message(0)), "points"),
    (lambda: spoilt(joint_names=["a"] * 9), "joints"), (lambda: spoilt(positions=[0.0] * 8), "joints"),
    (lambda: spoilt(joint_names=[*PANDA.joints, "panda_finger_joint1", "panda_finger_joint1"]), "joints"),
    (lambda: spoilt(positions=[np.nan] * 9), "finite"), (lambda: Float64MultiArray(data=[0.0] * 7), "joints"),
    (lambda: Float64MultiArray(data=[np.inf] * 9), "finite"), (lambda: TwistStamped(), None)])
def test_malformed_commands_are_refused(message, reason):
    if reason is None:
        message = message()
        message.twist.linear.y = 0.1
        with pytest.raises(ActionError, match="along x"):
            convert.command_from(message, HUSKY)
        message.twist.linear.y, message.twist.linear.x = 0.0, np.nan
        with pytest.raises(ActionError, match="finite"):
            convert.command_from(message, HUSKY)
        return
    with pytest.raises(ActionError) as caught:
        convert.command_from(message(), PANDA)
    assert caught.value.reason == reason


def test_a_command_that_lacks_joints_is_not_sent():
    with pytest.raises(ActionError, match="panda_finger_joint2"):
        convert.command_message(JointCommand(joint_state(PANDA).positions | {}), interface(PANDA, "velocity"), 0)
    assert convert.command_stamp(Float64MultiArray()) is None


# Frames

@given(st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 0.1))
def test_quaternions_turn_as_the_matrix_does(values):
    x, y, z, w = np.array(values) / np.linalg.norm(values)
    rotation = np.array([[1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                         [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                         [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)]])
    back = convert.quaternion(rotation)
    assert min(np.abs(back - [x, y, z, w]).max(), np.abs(back + [x, y, z, w]).max()) < 1e-9
