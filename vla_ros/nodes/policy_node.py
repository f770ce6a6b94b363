"""policy_node: camera images, joint states and an instruction in; action chunks out, as fast as the policy infers.

It also answers questions about what it sees (vla/ask), and shows where it looks (vla/look_image) to who watches.
It refuses observations that are stale, from the future or too far apart, and says so in vla/policy_status. A refusal
of the policy stands until the next instruction. The instruction that is in force already is not a new one.

A lifecycle node: to configure opens the policy and lets it infer once; to activate needs fresh images of every camera
that it reads, and fresh joint states. Inactive it infers nothing, and takes no instruction.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from functools import partial

import numpy as np
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String

from vla_ros.errors import ActionError, ObservationError
from vla_ros.filter import InstructionFilter
from vla_ros.msg import ActionChunk, PolicyStatus, SceneTruth
from vla_ros.nodes import convert, inferring, inputs, oracle, params, qos, states
from vla_ros.nodes.ask_server import AskServer
from vla_ros.nodes.diagnostics import OK, STEADY, WARN, counts, milliseconds
from vla_ros.nodes.inferring import Inferring
from vla_ros.nodes.managed import Managed
from vla_ros.nodes.overlay import look_image
from vla_ros.nodes.params import Parameter
from vla_ros.nodes.running import run
from vla_ros.nodes.warming import warm_up
from vla_ros.policies import open_policy
from vla_ros.policy import adapters_of
from vla_ros.profile import load_profile
from vla_ros.types import ActionChunk as Chunk

PARAMETERS = (
    params.ROBOT,
    Parameter("policy", "native", "policy: native, oracle (in simulation), hold, replay:FILE.npz, a checkpoint's "
                                  "folder, its name on a hub (docs/checkpoints.md), or an address (docs/remote.md)"),
    Parameter("compressed", False, "subscribe to image_raw/compressed (jpeg or png) instead of image_raw"),
    Parameter("instruction_filter", "", "YAML file of the instructions that are refused before the policy is asked; "
              "empty: the shipped one"),
    params.LOCKSTEP,
    params.EXECUTE_STEPS,
    params.AUTOSTART,
)
HEARTBEAT = 0.05  # [s] the control node moves nothing for a policy node that is silent
DEACTIVATED = "the policy node was deactivated"
CHECK = 0.1  # [s] how often the newest observation's age is looked at when nothing arrives


class PolicyNode(Managed):
    """Callbacks only file what arrives; one thread infers."""

    def __init__(self):
        super().__init__("policy_node", PARAMETERS)
        self._worker: Worker | None = None
        self._asks: AskServer | None = None
        self._publishing = threading.Lock()  # also held while what may be published changes
        self.begin()

    def configure(self) -> None:
        self.profile = load_profile(self.params.robot)
        barred = InstructionFilter.load(self.params.instruction_filter or None).reason
        if self.params.policy == oracle.NAME:
            self.policy = oracle.TopicOracle(self.profile)
        else:
            self.policy = open_policy(self.params.policy, self.profile)
            warm_up(self.policy, self.profile)
        self.inferring = Inferring(self.policy, self.profile, convert.image_array, self.now, self.params.lockstep,
                                   barred, self._usable())
        stream = qos.stream(self.params.lockstep)
        self._chunks = self.create_lifecycle_publisher(ActionChunk, inputs.CHUNKS, stream)
        self._statuses = self.create_publisher(PolicyStatus, "vla/policy_status", qos.STATUS)
        self._looks = self.create_lifecycle_publisher(Image, "vla/look_image", qos.VIEW)
        self._published: tuple | None = None
        self._subscribe()
        self.diagnostics.hardware = self.profile.name
        self._worker = Worker(self._infer_once)
        self.create_timer(CHECK, self._worker.wake, clock=STEADY)
        self.create_timer(HEARTBEAT, self._heartbeat, clock=STEADY)
        self._asks = AskServer(self, self.inferring, lambda: self.standing)
        self.get_logger().info(f"policy '{self.policy.name}' for {self.profile.name}, cameras "
                               f"{', '.join(self.policy.cameras) or 'none'}")
        self.get_logger().info(f"actions: {self.policy.spec.told()}, {self.policy.spec.horizon} in a chunk; adapters: "
                               f"{'; '.join(adapters_of(self.policy)) or 'none'}")

    def lacking(self) -> str:
        return self.inferring.lacking()

    def activate(self) -> None:
        self.publish_status()

    def deactivate(self) -> None:
        """Whoever executes an answer learns that there will be no other: a refusal ends the motion at once."""
        with self._publishing:
            words, work = self.inferring.instruction, self.inferring
            work.instruct("")
            self.state = states.INACTIVE  # what is being inferred is not published any more
            if words:
                spec = self.profile.action
                refusal = Chunk(np.zeros((0, spec.dim)), spec, self.now(), refusal=DEACTIVATED)
                self._chunks.publish(convert.chunk_message(refusal, words, work.chunks))
        self.publish_status()

    def release(self) -> None:
        if self._asks is not None:
            self._asks.close()
        if self._worker is not None:
            self._worker.end()
        self._asks = self._worker = None

    def _subscribe(self) -> None:
        sensor = qos.sensor(self.params.lockstep)
        for name, (topic, kind) in inputs.cameras(self.policy.cameras, self.params.compressed).items():
            self.create_subscription(kind, topic, partial(self._on_image, name), sensor)
        self.create_subscription(JointState, inputs.JOINTS, self._on_joints, sensor)
        if isinstance(self.policy, oracle.TopicOracle):
            self.create_subscription(SceneTruth, oracle.TOPIC, self._on_truth, sensor)
        self.create_subscription(String, inputs.INSTRUCTION, self._on_instruction, qos.REQUEST)

    def _usable(self) -> float:
        """[s] of a chunk that are executed before a newer one takes over."""
        return min(self.params.execute_steps, self.policy.spec.horizon) * self.policy.spec.period

    def now(self) -> int:
        """[ns] ROS time"""
        return self.get_clock().now().nanoseconds

    def _on_image(self, name: str, message) -> None:
        self.inferring.add(name, convert.nanoseconds(message.header.stamp), message)
        self._worker.wake()

    def _on_joints(self, message: JointState) -> None:
        try:
            joints = convert.joint_state(message)
        except ObservationError as error:
            self.inferring.reject(inferring.JOINTS, error)
        else:
            self.inferring.add(inferring.JOINTS, joints.stamp, joints)
        self._worker.wake()

    def _on_truth(self, message: SceneTruth) -> None:
        try:
            self.policy.see(message)
        except ObservationError as error:
            self.get_logger().warning(str(error), throttle_duration_sec=1.0)

    def _on_instruction(self, message: String) -> None:
        try:
            words = convert.words(message.data)
        except ObservationError as error:
            self.get_logger().warning(str(error))
            words = ""
        if not self.active:
            self.get_logger().warning(f"instruction not taken: {self.standing}", throttle_duration_sec=5.0)
        elif self.inferring.instruct(words):
            self.get_logger().info(f"instruction: '{words}'")
            self.publish_status()
            self._worker.wake()

    def _infer_once(self) -> bool:
        """Whether there was something to be inferred: something newer may have arrived meanwhile."""
        job = self.inferring.next()
        if job is not None:
            self._publish(job, self.inferring.infer(job))
        self._status_if_changed()
        return job is not None

    def _publish(self, job, chunk) -> None:
        if chunk is None:
            return
        try:
            message = convert.chunk_message(chunk, job.instruction, self.inferring.chunks - 1)
        except ActionError as error:
            self.inferring.fail(job, f"policy '{self.policy.name}': {error}")
            return
        with self._publishing:
            if not self.active:
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
        if self._worker is not None and self._key() != self._published:
            self.publish_status()
            if status.state in (states.STALE, states.FAILED, states.REFUSED):
                self.get_logger().warning(f"{status.state}: {status.detail}", throttle_duration_sec=1.0)

    def _key(self) -> tuple:
        """What is published on change. While idle also the newest observation: whoever resets a world waits for it."""
        work = self.inferring
        return self.state, work.status.state, work.instruction, 0 if work.instruction else work.observed

    def _heartbeat(self) -> None:
        """It says that observations are answered: a node whose thread has ended must not claim so, and ends."""
        if self._worker.broken:
            raise RuntimeError("the inference thread has ended")
        self.publish_status()

    def publish_status(self) -> None:
        with self._publishing:
            work = self.inferring
            status = work.status
            self._published = self._key()
            self._statuses.publish(PolicyStatus(
                header=convert.header(self.now()), state=convert.POLICY_STATES[status.state], policy=self.policy.name,
                instruction=work.instruction, detail=self.standing or status.detail, chunks=work.chunks,
                observation=convert.time_message(work.observed),
                refused_observations=work.refusals.total(), inference_p50=work.seconds.p50,
                inference_p95=work.seconds.p95))

    def report(self):
        work = self.inferring
        good = work.status.state in (states.WAITING, states.RUNNING)
        figures = {"instruction": work.instruction, "chunks": work.chunks, "refused instructions": work.declined,
                   **counts("refused", work.refusals), "deadline [ms]": 1e3 * work.deadline,
                   "deadline misses": work.misses, **milliseconds(work.stages.windows)}
        return OK if good else WARN, f"{work.status.state}: {work.status.detail}".rstrip(": "), figures

    def close(self) -> None:
        self.release()


class Worker:
    """A thread that calls `work` whenever it is woken, and again as long as it says so."""

    def __init__(self, work: Callable[[], bool]):
        self._work, self._awake, self._ending = work, threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self._thread.start()

    @property
    def broken(self) -> bool:
        """Whether it has ended, and was not told to."""
        return not self._thread.is_alive() and not self._ending

    def wake(self) -> None:
        self._awake.set()

    def _run(self) -> None:
        while not self._ending:
            self._awake.wait()
            self._awake.clear()
            while not self._ending and self._work():
                pass

    def end(self) -> None:
        """A model that hangs is left behind."""
        self._ending = True
        self._awake.set()
        self._thread.join(timeout=1.0)


def policy_node() -> PolicyNode:
    return PolicyNode()


def main(args=None) -> int:
    return run(policy_node, args)


if __name__ == "__main__":
    sys.exit(main())
