"""A client of a running system: waits until it is ready, resets the simulated task, gives instructions.

Has a context of its own, so that a command, a test or an evaluation may use several, one after the other.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import rclpy
from rclpy.action import ActionClient
from rclpy.executors import SingleThreadedExecutor
from std_msgs.msg import Bool, Empty, String

from vla_ros.action import ExecuteInstruction
from vla_ros.bringup import SystemDescription
from vla_ros.errors import ActionError, SimulationError, VlaError
from vla_ros.msg import ControlStatus, PolicyStatus, TaskState
from vla_ros.nodes import qos
from vla_ros.nodes.asking import Asked
from vla_ros.nodes.convert import OUTCOMES, nanoseconds, state_name
from vla_ros.nodes.latching import RESET, STOP
from vla_ros.nodes.states import INACTIVE
from vla_ros.security import ENCLAVES, OPERATOR
from vla_ros.srv import AskScene, ResetTask
from vla_ros.types import Answer

TOPICS = {"sim/task_state": (TaskState, qos.EVERY_TICK), "vla/policy_status": (PolicyStatus, qos.STATUS),
          "vla/control_status": (ControlStatus, qos.STATUS)}
CANCEL_WAIT = 5.0  # [s] that a canceled goal may take to end


class NoSystemError(VlaError):
    """Nothing answers."""


class NoAnswerError(VlaError):
    """The policy node has no answer to a question, and says why."""


@dataclass(frozen=True)
class Layout:
    """A task that was laid out anew. time_limit: [s] simulated; stamp: [ns] ROS time of its first moment."""

    task: str
    instruction: str
    time_limit: float
    stamp: int


@dataclass(frozen=True)
class Feedback:
    """phase: waiting, running, holding; progress: 0 to 1; elapsed: [s] ROS time; latency: [s]; text: of the model."""

    phase: str
    progress: float
    elapsed: float
    latency: float
    text: str


@dataclass(frozen=True)
class Executed:
    """How an instruction ended: outcome of states.py; duration [s] ROS time; first_chunk [s] wall time;
    stages: (p50, p95) [s] by name."""

    outcome: str
    message: str
    duration: float
    first_chunk: float
    chunks: int
    stages: Mapping[str, tuple[float, float]]


class Client:
    """domain: ROS domain id, None for the environment's. Use it in a `with` statement, from one thread."""

    def __init__(self, name: str = "vla_client", namespace: str = "", domain: int | None = None):
        self._context = rclpy.Context()
        enclave = ["--ros-args", "--enclave", f"{ENCLAVES}/{OPERATOR}"]
        rclpy.init(args=[*sys.argv, *enclave], context=self._context, domain_id=domain)
        self.node = rclpy.create_node(name, namespace=namespace, context=self._context, start_parameter_services=False,
                                      enable_rosout=False)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._action = ActionClient(self.node, ExecuteInstruction, "vla/execute")
        self._reset = self.node.create_client(ResetTask, "sim/reset")
        self._ask = self.node.create_client(AskScene, "vla/ask")
        self._instruction = self.node.create_publisher(String, "vla/instruction", qos.REQUEST)
        self._policy: PolicyStatus | None = None
        self.subscribe(PolicyStatus, "vla/policy_status", self._on_policy, qos.STATUS)
        self._stop = self.node.create_publisher(Bool, STOP, qos.REQUEST)
        self._reset_stop = self.node.create_publisher(Empty, RESET, qos.REQUEST)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error) -> None:
        self.close()

    def close(self) -> None:
        self._action.destroy()
        self._executor.shutdown(timeout_sec=1.0)
        self.node.destroy_node()
        self._context.try_shutdown()

    def _on_policy(self, status: PolicyStatus) -> None:
        self._policy = status

    def _seen(self, stamp: int) -> bool:
        return self._policy is not None and nanoseconds(self._policy.observation) >= stamp

    def subscribe(self, kind, topic: str, callback, profile=qos.SENSOR) -> None:
        """callback runs whenever this client waits for something."""
        self.node.create_subscription(kind, topic, callback, profile)

    def spin_until(self, condition: Callable[[], bool], timeout: float,
                   watch: Callable[[], None] | None = None) -> bool:
        """Handles messages until the condition holds; False after `timeout` [s]. watch: called often, may raise."""
        end = time.monotonic() + timeout
        while not condition():
            if watch is not None:
                watch()
            if time.monotonic() > end:
                return False
            self._executor.spin_once(timeout_sec=0.05)
        return True

    def wait_ready(self, system: SystemDescription, timeout: float = 60.0,
                   watch: Callable[[], None] | None = None) -> None:
        """Returns when every process of the system has shown that it is ready, or raises NoSystemError."""
        waiting, said, subscriptions = {}, {}, []
        for process in system.processes:
            kind, name = process.ready
            if kind == "topic":
                seen: list = []
                subscriptions.append(self.node.create_subscription(TOPICS[name][0], name, seen.append, TOPICS[name][1]))
                waiting[process.name], said[process.name] = partial(active, seen), seen
            else:
                waiting[process.name] = {"action": self._action.server_is_ready, "publisher": partial(
                    self._publishes, process.name, name)}[kind]
        ready = self.spin_until(lambda: all(shown() for shown in waiting.values()), timeout, watch)
        late = [name + detail_of(said.get(name)) for name, shown in waiting.items() if not shown()]
        for subscription in subscriptions:
            self.node.destroy_subscription(subscription)
        if not ready:
            raise NoSystemError(f"not ready within {timeout:g} s: {', '.join(late)}")

    def _publishes(self, name: str, topic: str) -> bool:
        """Whether a node of this name, in the namespace of this one, has a publisher on a topic."""
        found = self.node.get_publishers_info_by_topic(topic)
        return (name, self.node.get_namespace()) in [(other.node_name, other.node_namespace) for other in found]

    def reset(self, task: str = "", seed: int = 0, timeout: float = 30.0) -> Layout:
        """Lays the simulated task out anew. Raises SimulationError with the valid names.

        Returns when the policy node, where one runs, has seen the new layout: an instruction that overtakes the images
        would be answered for the layout before.
        """
        if not self.spin_until(self._reset.service_is_ready, timeout):
            raise NoSystemError("no simulator offers sim/reset: start one with `vla up sim`")
        answer = self._wait(self._reset.call_async(ResetTask.Request(task=task, seed=seed)), timeout, "sim/reset")
        if not answer.success:
            raise SimulationError(answer.message)
        stamp = nanoseconds(answer.stamp)
        if self.node.count_publishers("vla/policy_status") and not self.spin_until(lambda: self._seen(stamp), timeout):
            raise NoSystemError(f"the policy node has not seen the new layout within {timeout:g} s")
        return Layout(answer.task, answer.instruction, answer.time_limit, stamp)

    def execute(self, instruction: str, time_limit: float = 0.0, feedback: Callable[[Feedback], None] | None = None,
                canceled: Callable[[], bool] | None = None, watch: Callable[[], None] | None = None,
                timeout: float = 5.0) -> Executed:
        """Gives an instruction and follows it to its end. time_limit: [s] ROS time, 0: the task node's default.

        canceled: when it becomes true the goal is canceled, and how that ended is returned. timeout: [s] to find a
        running system.
        """
        if not self.spin_until(self._action.server_is_ready, timeout, watch):
            raise NoSystemError("no running system offers vla/execute: start one with `vla up sim` or `vla up robot`")
        request = ExecuteInstruction.Goal(instruction=instruction, time_limit=float(time_limit))
        goal = self._wait(self._action.send_goal_async(request, self._feedback(feedback)), timeout, "vla/execute")
        if not goal.accepted:
            raise ActionError("goal", "rejected: it needs words, and a time limit that is not negative")
        result = goal.get_result_async()
        wanted = canceled or (lambda: False)
        self.spin_until(lambda: result.done() or wanted(), float("inf"), watch)
        if not result.done():
            goal.cancel_goal_async()
            self._wait(result, CANCEL_WAIT, "canceling")
        return executed(result.result().result)

    def ask(self, question: str, camera: str = "", timeout: float = 15.0) -> Asked:
        """What the policy of a running system says about what its camera sees now; empty: its first camera.

        timeout: [s] to find a system, and again to get the answer. Raises NoSystemError or NoAnswerError.
        """
        if not self.spin_until(self._ask.service_is_ready, timeout):
            raise NoSystemError("no running system offers vla/ask: start one with `vla up sim` or `vla up robot`")
        response = self._wait(self._ask.call_async(AskScene.Request(question=question, camera=camera)), timeout,
                              "vla/ask")
        if not response.success:
            raise NoAnswerError(response.message)
        timings = dict(zip(response.stages, response.seconds, strict=True))
        return Asked(Answer(response.answer, response.confidence, timings), response.camera,
                     nanoseconds(response.stamp))

    def instruct(self, words: str) -> None:
        """Gives an instruction that nobody follows: publishes vla/instruction."""
        self._instruction.publish(String(data=words))

    def stop(self) -> None:
        """Holds the robot, whatever comes, until reset_stop()."""
        self._stop.publish(Bool(data=True))

    def reset_stop(self) -> None:
        """After it a new instruction moves the robot again."""
        self._reset_stop.publish(Empty())

    def _wait(self, future, timeout: float, what: str):
        if not self.spin_until(future.done, timeout):
            raise NoSystemError(f"no answer from {what} within {timeout:g} s")
        return future.result()

    @staticmethod
    def _feedback(callback):
        if callback is None:
            return None
        return lambda message: callback(Feedback(
            message.feedback.phase, message.feedback.progress, message.feedback.elapsed, message.feedback.latency,
            message.feedback.text))


def active(statuses: list) -> bool:
    """Whether the newest status is not that of a lifecycle node that waits to be activated."""
    return bool(statuses) and not getattr(statuses[-1], "detail", "").startswith(INACTIVE)


def detail_of(statuses: list | None) -> str:
    """What a node says of why it is not ready, in brackets; empty where it says nothing."""
    detail = getattr(statuses[-1], "detail", "") if statuses else ""
    return f" ({detail})" if detail else ""


def executed(result: ExecuteInstruction.Result) -> Executed:
    stages = dict(zip(result.stages, zip(result.p50, result.p95, strict=True), strict=True))
    return Executed(state_name(OUTCOMES, result.outcome), result.message, result.duration, result.first_chunk,
                    result.chunks, stages)
