"""Messages to types and back: pure functions, in pairs. What is malformed raises an error that names the cause.

Stamps are [ns] of ROS time. Images are uint8 (H, W, 3) RGB. Joints are matched by name, never by order.
"""

from __future__ import annotations

import array

import cv2
import numpy as np
from builtin_interfaces.msg import Duration, Time
from geometry_msgs.msg import TransformStamped, TwistStamped
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from sensor_msgs.msg import JointState as JointStateMsg
from std_msgs.msg import Float64MultiArray, Header, MultiArrayDimension
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from vla_ros.action import ExecuteInstruction
from vla_ros.errors import ActionError, ConfigError, ObservationError
from vla_ros.msg import ActionChunk as ActionChunkMsg
from vla_ros.msg import ControlStatus, PolicyStatus
from vla_ros.nodes import states
from vla_ros.profile import RobotProfile
from vla_ros.spec import ActionSpec
from vla_ros.types import ActionChunk, Command, JointCommand, JointState, TwistCommand

SECOND = 1_000_000_000  # [ns]
ENCODINGS = {"rgb8": None, "bgr8": cv2.COLOR_BGR2RGB, "rgba8": cv2.COLOR_RGBA2RGB, "bgra8": cv2.COLOR_BGRA2RGB,
             "mono8": cv2.COLOR_GRAY2RGB}  # what makes them RGB
CHANNELS = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1}
COMMAND_TYPES = {"joint_trajectory": JointTrajectory, "position": Float64MultiArray, "velocity": Float64MultiArray,
                 "twist": TwistStamped}
POLICY_STATES = {states.WAITING: PolicyStatus.WAITING, states.RUNNING: PolicyStatus.RUNNING,
                 states.REFUSED: PolicyStatus.REFUSED, states.STALE: PolicyStatus.STALE,
                 states.FAILED: PolicyStatus.FAILED}
CONTROL_STATES = {states.IDLE: ControlStatus.IDLE, states.EXECUTING: ControlStatus.EXECUTING,
                  states.HOLDING: ControlStatus.HOLDING, states.STOPPED: ControlStatus.STOPPED,
                  states.FAILED: ControlStatus.FAILED, states.STALLED: ControlStatus.STALLED,
                  states.HELD: ControlStatus.HELD, states.HALTED: ControlStatus.HALTED,
                  states.NO_PROGRESS: ControlStatus.NO_PROGRESS}
OUTCOMES = {states.SUCCEEDED: ExecuteInstruction.Result.SUCCEEDED, states.REFUSED: ExecuteInstruction.Result.REFUSED,
            states.TIMED_OUT: ExecuteInstruction.Result.TIMED_OUT, states.CANCELED: ExecuteInstruction.Result.CANCELED,
            states.HALTED: ExecuteInstruction.Result.HALTED, states.STALLED: ExecuteInstruction.Result.STALLED,
            states.NO_PROGRESS: ExecuteInstruction.Result.NO_PROGRESS}
MAX_WORDS = 1000  # characters of an instruction


def state_name(table: dict[str, int], number: int) -> str:
    """The word for a state's number in a message; 'unknown' for one that a newer node may send."""
    return next((name for name, value in table.items() if value == number), "unknown")


# Time and words

def nanoseconds(stamp: Time | Duration) -> int:
    return stamp.sec * SECOND + stamp.nanosec


def time_message(stamp: int) -> Time:
    return Time(sec=stamp // SECOND, nanosec=stamp % SECOND)


def duration_message(length: int) -> Duration:
    """length [ns]"""
    return Duration(sec=length // SECOND, nanosec=length % SECOND)


def header(stamp: int, frame: str = "") -> Header:
    return Header(stamp=time_message(stamp), frame_id=frame)


def words(text: str) -> str:
    """An instruction with its white space tidied; the same on every node, so that they can compare it."""
    tidy = " ".join(text[:MAX_WORDS + 1].split())
    if len(text) > MAX_WORDS:
        raise ObservationError("instruction", f"an instruction of {len(text)} characters; at most {MAX_WORDS}")
    return tidy


# Images

def image_array(message: Image | CompressedImage) -> np.ndarray:
    """uint8 (H, W, 3) RGB."""
    return compressed_array(message) if isinstance(message, CompressedImage) else raw_array(message)


def raw_array(message: Image) -> np.ndarray:
    if message.encoding not in ENCODINGS:
        raise ObservationError("encoding", f"image encoding '{message.encoding}' is not one of {', '.join(ENCODINGS)}")
    height, width, channels = message.height, message.width, CHANNELS[message.encoding]
    if height == 0 or width == 0:
        raise ObservationError("size", f"empty image, {width} x {height}")
    if message.step < width * channels:
        raise ObservationError("step", f"image step {message.step} is less than {width} pixels of {channels} bytes")
    if len(message.data) != message.step * height:
        raise ObservationError("length", f"image holds {len(message.data)} bytes, not {height} rows of {message.step}")
    rows = np.frombuffer(message.data, np.uint8).reshape(height, message.step)
    pixels = rows[:, :width * channels].reshape(height, width, channels)
    turn = ENCODINGS[message.encoding]
    return np.ascontiguousarray(pixels) if turn is None else cv2.cvtColor(pixels, turn)


def compressed_array(message: CompressedImage) -> np.ndarray:
    data = np.frombuffer(message.data, np.uint8)
    bgr = None
    if data.size:
        try:
            bgr = cv2.imdecode(data, cv2.IMREAD_COLOR)
        except cv2.error as error:
            raise ObservationError("encoding", f"image cannot be decoded: {error.err}") from error
    if bgr is None:
        raise ObservationError("encoding", f"{data.size} bytes of format '{message.format}' are no jpeg or png image")
    return np.ascontiguousarray(bgr[:, :, ::-1])


def image_message(image: np.ndarray, stamp: int, frame: str) -> Image:
    """rgb8, from uint8 (H, W, 3) RGB. `data` wants an array.array: bytes and lists are copied one by one."""
    height, width, channels = image.shape
    if channels != 3 or image.dtype != np.uint8:
        raise ObservationError("encoding", f"expected uint8 (H, W, 3), got {image.dtype} {image.shape}")
    return Image(header=header(stamp, frame), height=height, width=width, encoding="rgb8", is_bigendian=0,
                 step=3 * width, data=array.array("B", image.tobytes()))


def compressed_message(image: np.ndarray, stamp: int, frame: str, form: str = "png") -> CompressedImage:
    """form: png or jpeg; from uint8 (H, W, 3) RGB."""
    _, data = cv2.imencode("." + form, image[:, :, ::-1])
    return CompressedImage(header=header(stamp, frame), format=form, data=array.array("B", data.tobytes()))


def camera_info(intrinsics: np.ndarray, width: int, height: int, stamp: int, frame: str) -> CameraInfo:
    """A camera without distortion. intrinsics: K (3, 3) [px]."""
    k = np.asarray(intrinsics, float)
    projection = np.hstack([k, np.zeros((3, 1))])
    return CameraInfo(header=header(stamp, frame), width=width, height=height, distortion_model="plumb_bob",
                      d=[0.0] * 5, k=k.ravel().tolist(), r=np.eye(3).ravel().tolist(), p=projection.ravel().tolist())


# Joints

def joint_state(message: JointStateMsg) -> JointState:
    names = list(message.name)
    if not names or len(set(names)) != len(names):
        raise ObservationError("joints", f"joint names must be present and distinct: {names}")
    for part, values in (("positions", message.position), ("velocities", message.velocity)):
        if len(values) != len(names) and (part == "positions" or len(values)):
            raise ObservationError("joints", f"{len(names)} joint names but {len(values)} {part}")
        if not np.isfinite(values).all():
            raise ObservationError("joints", f"joint {part} are not finite")
    return JointState(positions=dict(zip(names, message.position, strict=True)),
                      velocities=dict(zip(names, message.velocity, strict=False)),
                      stamp=nanoseconds(message.header.stamp))


def joint_message(joints: JointState) -> JointStateMsg:
    if joints.velocities and list(joints.velocities) != list(joints.positions):
        raise ObservationError("joints", "positions and velocities name different joints")
    return JointStateMsg(header=header(joints.stamp), name=list(joints.positions),
                         position=list(joints.positions.values()), velocity=list(joints.velocities.values()))


# Chunks

def chunk_message(chunk: ActionChunk, instruction: str = "", sequence: int = 0) -> ActionChunkMsg:
    """Raises ActionError for values that must not travel."""
    values, spec = np.asarray(chunk.values, float), chunk.spec
    check_values(values, spec)
    if chunk.tokens is not None and np.shape(chunk.tokens) != values.shape:
        raise ActionError("shape", f"tokens of shape {np.shape(chunk.tokens)} beside values of shape {values.shape}")
    return ActionChunkMsg(
        header=header(chunk.stamp, spec.frame), sequence=sequence, instruction=instruction,
        names=list(spec.names), units=list(spec.units), mode=spec.mode, gripper=spec.gripper, period=spec.period,
        horizon=spec.horizon, steps=len(values), values=array.array("d", values.ravel()),
        tokens=array.array("i", [] if chunk.tokens is None else np.asarray(chunk.tokens).ravel().tolist()),
        confidence=float(chunk.confidence), refusal=chunk.refusal, text=chunk.text, done=chunk.done,
        stages=list(chunk.timings), seconds=array.array("d", chunk.timings.values()))


def chunk_from(message: ActionChunkMsg) -> ActionChunk:
    """The inverse of chunk_message. Raises ActionError for whatever is not a well-formed chunk."""
    dim, steps = len(message.names), message.steps
    for part, size in (("values", len(message.values)), ("tokens", len(message.tokens))):
        if size != steps * dim and (part == "values" or size):
            raise ActionError("shape", f"chunk holds {size} {part}, not {steps} steps of {dim}")
    if len(message.stages) != len(message.seconds):
        raise ActionError("shape", f"{len(message.stages)} stages but {len(message.seconds)} seconds")
    try:
        spec = ActionSpec(tuple(message.names), tuple(message.units), message.header.frame_id, message.mode,
                          message.gripper, message.period, message.horizon)
    except ConfigError as error:
        raise ActionError("spec", str(error)) from error
    values = np.array(message.values, float).reshape(steps, dim)
    check_values(values, spec)
    if not 0 <= message.confidence <= 1:
        raise ActionError("confidence", f"confidence {message.confidence} is not between 0 and 1")
    if not np.isfinite(message.seconds).all():
        raise ActionError("finite", "the timings of a chunk are not finite")
    tokens = np.array(message.tokens, np.int32).reshape(steps, dim) if len(message.tokens) else None
    return ActionChunk(values, spec, nanoseconds(message.header.stamp), tokens, message.confidence, message.refusal,
                       message.text, dict(zip(message.stages, message.seconds, strict=True)), done=message.done)


def check_values(values: np.ndarray, spec: ActionSpec) -> None:
    if values.ndim != 2 or values.shape[1] != spec.dim:
        raise ActionError("shape", f"chunk of shape {values.shape}, expected (steps, {spec.dim})")
    if not np.isfinite(values).all():
        raise ActionError("finite", "chunk holds values that are not finite")


# Commands

def joint_order(profile: RobotProfile) -> tuple[str, ...]:
    """The joints of a command, in the order of a Float64MultiArray: the arm's, then the gripper's if it is moved."""
    fingers = profile.gripper.joints if profile.gripper and "gripper" in profile.action.names else ()
    return profile.joints + fingers


def command_message(command: Command, profile: RobotProfile, stamp: int):
    """The message of the profile's command interface; stamp: [ns], 0 for 'at once' where the type has a header.

    A Float64MultiArray has no header: its layout's label carries the stamp (lockstep needs it; controllers ignore it).
    """
    interface = profile.command.interface
    if interface == "twist":
        message = TwistStamped(header=header(stamp, profile.base_frame))
        message.twist.linear.x, message.twist.angular.z = command.v, command.w
        return message
    values = command.velocities if interface == "velocity" else command.positions
    lacking = [n for n in joint_order(profile) if n not in values]
    if lacking:
        raise ActionError("joints", f"command lacks {', '.join(lacking)}")
    row = [values[n] for n in joint_order(profile)]
    if interface == "joint_trajectory":
        point = JointTrajectoryPoint(positions=row, time_from_start=duration_message(profile.control_period_ns))
        return JointTrajectory(header=header(stamp), joint_names=list(joint_order(profile)), points=[point])
    message = Float64MultiArray(data=row)
    message.layout.dim = [MultiArrayDimension(label=str(stamp), size=len(row), stride=len(row))]
    return message


def command_from(message, profile: RobotProfile) -> Command:
    """The inverse of command_message. Raises ActionError for what a controller would refuse."""
    if isinstance(message, TwistStamped):
        return twist_from(message)
    if isinstance(message, JointTrajectory):
        names, row = message.joint_names, trajectory_row(message)
    else:
        names, row = joint_order(profile), message.data
    if len(names) != len(row) or set(names) != set(joint_order(profile)) or len(set(names)) != len(names):
        raise ActionError("joints", f"command of {len(row)} values for {list(names)}; "
                                    f"expected {', '.join(joint_order(profile))}")
    if not np.isfinite(row).all():
        raise ActionError("finite", "command is not finite")
    values = dict(zip(names, row, strict=True))
    return JointCommand({}, values) if profile.command.interface == "velocity" else JointCommand(values)


def trajectory_row(message: JointTrajectory) -> list[float]:
    if len(message.points) != 1:
        raise ActionError("points", f"{len(message.points)} points; this interface is streamed, one at a time")
    if nanoseconds(message.points[0].time_from_start) <= 0:
        raise ActionError("points", "the trajectory's point lies in the past")
    return message.points[0].positions


def twist_from(message: TwistStamped) -> TwistCommand:
    linear, angular = message.twist.linear, message.twist.angular
    if not np.isfinite([linear.x, angular.z]).all():
        raise ActionError("finite", "twist is not finite")
    if any(v != 0 for v in (linear.y, linear.z, angular.x, angular.y)):
        raise ActionError("twist", "a differential drive moves along x and turns about z only")
    return TwistCommand(linear.x, angular.z)


def command_stamp(message) -> int | None:
    """[ns] of a command; None where it carries none."""
    if not isinstance(message, Float64MultiArray):
        return nanoseconds(message.header.stamp)
    label = message.layout.dim[0].label if message.layout.dim else ""
    return int(label) if label.isdecimal() else None


# Frames

def quaternion(rotation: np.ndarray) -> np.ndarray:
    """(x, y, z, w) of a rotation matrix (3, 3), by its largest component: no division by something small."""
    r = np.asarray(rotation, float)
    trace = np.trace(r)
    squares = np.array([1 + 2 * r[0, 0] - trace, 1 + 2 * r[1, 1] - trace, 1 + 2 * r[2, 2] - trace, 1 + trace])
    products = np.array([
        [squares[0], r[1, 0] + r[0, 1], r[0, 2] + r[2, 0], r[2, 1] - r[1, 2]],
        [r[1, 0] + r[0, 1], squares[1], r[2, 1] + r[1, 2], r[0, 2] - r[2, 0]],
        [r[0, 2] + r[2, 0], r[2, 1] + r[1, 2], squares[2], r[1, 0] - r[0, 1]],
        [r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1], squares[3]]])  # 4 q q^T
    row = products[int(np.argmax(squares))]
    return row / np.linalg.norm(row)


def transform_message(parent: str, child: str, transform: np.ndarray, stamp: int) -> TransformStamped:
    """transform: parent_from_child (4, 4)."""
    message = TransformStamped(header=header(stamp, parent), child_frame_id=child)
    place, turn = message.transform.translation, message.transform.rotation
    place.x, place.y, place.z = (float(v) for v in transform[:3, 3])
    turn.x, turn.y, turn.z, turn.w = (float(v) for v in quaternion(transform[:3, :3]))
    return message
