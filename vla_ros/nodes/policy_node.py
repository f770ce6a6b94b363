"""policy_node: camera images, joint states and an instruction in; action chunks out, as fast as the policy infers.

It also answers questions about what it sees (vla/ask), and shows where it looks (vla/look_image) to who watches.
It refuses observations that are stale, from the future or too far apart, and says so in vla/policy_status. A refusal
of the policy stands until the next instruction. The instruction that is in force already is not a new one.
"""

from __future__ import annotations

import sys
import threading
from functools import partial

from rclpy.node import Node
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String

from vla_ros.errors import ActionError, ObservationError
from vla_ros.filter import InstructionFilter
from vla_ros.msg import ActionChunk, PolicyStatus
from vla_ros.nodes import convert, inferring, inputs, params, qos, states
from vla_ros.nodes.ask_server import AskServer
from vla_ros.nodes.diagnostics import OK, STEADY, WARN, Diagnostics, counts, milliseconds
from vla_ros.nodes.inferring import Inferring
from vla_ros.nodes.overlay import look_image
from vla_ros.nodes.params import Parameter
from vla_ros.nodes.running import run
from vla_ros.policies import open_policy
from vla_ros.profile import load_profile

PARAMETERS = (
    params.ROBOT,
    Parameter("policy", "native", "policy: native, hold, replay:FILE.npz, a checkpoint's folder, or ws://HOST:PORT"),
    Parameter("compressed", False, "subscribe to image_raw/compressed (jpeg or png) instead of image_raw"),
    Parameter("instruction_filter", "", "YAML file of the instructions that are refused before the policy is asked; "
              "empty: the shipped one"),
    params.LOCKSTEP,
    params.EXECUTE_STEPS,
)
HEARTBEAT = 0.05  # [s] the control node moves nothing for a policy node that is silent
CHECK = 0.1  # [s] how often the newest observation's age is looked at when nothing arrives


class PolicyNode(Node):
    """Callbacks only file what arrives; one thread infers."""

    def __init__(self):
        super().__init__("policy_node")
        self.params = params.declare(self, PARAMETERS)
        self.profile = load_profile(self.params.robot)
        barred = InstructionFilter.load(self.params.instruction_filter or None).reason
        self.policy = open_policy(self.params.policy, self.profile)
        self.inferring = Inferring(self.policy, self.profile, convert.image_array, self.now, self.params.lockstep,
                                   barred, self._usable())
        self._chunks = self.create_publisher(ActionChunk, inputs.CHUNKS, qos.stream(self.params.lockstep))
        self._statuses = self.create_publisher(PolicyStatus, "vla/policy_status", qos.STATUS)
        self._looks = self.create_publisher(Image, "vla/look_image", qos.VIEW)
        self._published: tuple | None = None
        self._publishing = threading.Lock()
        self._subscribe()
        self.create_timer(CHECK, self._work_arrived, clock=STEADY)
        self.create_timer(HEARTBEAT, self.publish_status, clock=STEADY)
        Diagnostics(self, self.profile.name, self._report)
        self._work, self._closing = threading.Event(), False
        self._worker = threading.Thread(target=self._infer_forever, name="inference", daemon=True)
        self._worker.start()
        self._asks = AskServer(self, self.inferring)
        self.publish_status()
        self.get_logger().info(f"policy '{self.policy.name}' for {self.profile.name}, cameras "
                               f"{', '.join(self.policy.cameras) or 'none'}")

    def _subscribe(self) -> None:
        sensor = qos.sensor(self.params.lockstep)
        for name, (topic, kind) in inputs.cameras(self.policy.cameras, self.params.compressed).items():
            self.create_subscription(kind, topic, partial(self._on_image, name), sensor)
        self.create_subscription(JointState, inputs.JOINTS, self._on_joints, sensor)
        self.create_subscription(String, inputs.INSTRUCTION, self._on_instruction, qos.REQUEST)

    def _usable(self) -> float:
        """[s] of a chunk that are executed before a newer one takes over."""
        return min(self.params.execute_steps, self.policy.spec.horizon) * self.policy.spec.period

    def now(self) -> int:
        """[ns] ROS time"""
        return self.get_clock().now().nanoseconds

    def _on_image(self, name: str, message) -> None:
        self.inferring.add(name, convert.nanoseconds(message.header.stamp), message)
        self._work_arrived()

    def _on_joints(self, message: JointState) -> None:
        try:
            joints = convert.joint_state(message)
        except ObservationError as error:
            self.inferring.reject(inferring.JOINTS, error)
        else:
            self.inferring.add(inferring.JOINTS, joints.stamp, joints)
        self._work_arrived()

    def _on_instruction(self, message: String) -> None:
        try:
            words = convert.words(message.data)
        except ObservationError as error:
            self.get_logger().warning(str(error))
            words = ""
        if self.inferring.instruct(words):
            self.get_logger().info(f"instruction: '{words}'")
            self.publish_status()
            self._work_arrived()

    def _work_arrived(self) -> None:
        self._work.set()

    def _infer_forever(self) -> None:
        while not self._closing:
            self._work.wait()
            self._work.clear()
            job = self.inferring.next()
            if job is not None:
                self._publish(job, self.inferring.infer(job))
                self._work.set()  # something newer may have arrived meanwhile
            self._status_if_changed()

    def _publish(self, job, chunk) -> None:
        if chunk is None or self._closing:
            return
        try:
            message = convert.chunk_message(chunk, job.instruction, self.inferring.chunks - 1)
        except ActionError as error:
            self.inferring.fail(job, f"policy '{self.policy.name}': {error}")
            return
        self._chunks.publish(message)
        self._show(job, chunk)

    def _show(self, job, chunk) -> None:
        """After the chunk, which is what a robot waits for."""
        part = job.parts.get(next(iter(self.policy.cameras), None))
        if part is not None and self._looks.get_subscription_count():
            picture = look_image(convert.image_array(part.item), chunk, job.instruction)
            self._looks.publish(convert.image_message(picture, part.stamp, part.item.header.frame_id))

    def _status_if_changed(self) -> None:
        status = self.inferring.status
        if self._key() != self._published and not self._closing:
            self.publish_status()
            if status.state in (states.STALE, states.FAILED, states.REFUSED):
                self.get_logger().warning(f"{status.state}: {status.detail}", throttle_duration_sec=1.0)

    def _key(self) -> tuple:
        """What is published on change. While idle also the newest observation: whoever resets a world waits for it."""
        work = self.inferring
        return work.status.state, work.instruction, 0 if work.instruction else work.observed

    def publish_status(self) -> None:
        with self._publishing:
            work = self.inferring
            status = work.status
            self._published = self._key()
            self._statuses.publish(PolicyStatus(
                header=convert.header(self.now()), state=convert.POLICY_STATES[status.state], policy=self.policy.name,
                instruction=work.instruction, detail=status.detail, chunks=work.chunks,
                observation=convert.time_message(work.observed),
                refused_observations=work.refusals.total(), inference_p50=work.seconds.p50,
                inference_p95=work.seconds.p95))

    def _report(self):
        work = self.inferring
        good = work.status.state in (states.WAITING, states.RUNNING)
        figures = {"instruction": work.instruction, "chunks": work.chunks, "refused instructions": work.declined,
                   **counts("refused", work.refusals), "deadline [ms]": 1e3 * work.deadline,
                   "deadline misses": work.misses, **milliseconds(work.stages.windows)}
        return OK if good else WARN, f"{work.status.state}: {work.status.detail}".rstrip(": "), figures

    def close(self) -> None:
        self._closing = True
        self._asks.close()
        self._work.set()
        self._worker.join(timeout=1.0)


def policy_node() -> PolicyNode:
    return PolicyNode()


def main(args=None) -> int:
    return run(policy_node, args)


if __name__ == "__main__":
    sys.exit(main())
