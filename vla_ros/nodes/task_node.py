"""task_node: the action vla/execute. It gives the instruction, follows it, and says how it ended.

One execution at a time: a new goal preempts the one before. When an execution ends, however it does, the empty
instruction is given, and the result is sent when policy and control have let go of the words. An instruction of several
parts ("touch the red cube, then the blue one") is executed part by part, each when the one before has succeeded.
"""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass

from rclpy.action import CancelResponse, GoalResponse
from rclpy.node import Node
from std_msgs.msg import Bool, Empty, String

from vla_ros.action import ExecuteInstruction
from vla_ros.errors import ObservationError
from vla_ros.msg import ActionChunk, ControlStatus, PolicyStatus, TaskState
from vla_ros.nodes import convert, params, qos
from vla_ros.nodes.deferred import DeferredServer
from vla_ros.nodes.diagnostics import OK, STEADY, WARN, Diagnostics
from vla_ros.nodes.latching import KEPT, RESET, STOP
from vla_ros.nodes.params import Parameter
from vla_ros.nodes.progress import Progress
from vla_ros.nodes.running import run
from vla_ros.nodes.states import CANCELED, SUCCEEDED
from vla_ros.nodes.tasking import Board, Execution, Report, TaskReport, Verdict
from vla_ros.sequence import parts
from vla_ros.stop_words import StopWords

PARAMETERS = (
    Parameter("time_limit", 30.0, "[s] ROS time, of a goal that gives none", 0.1, 86400.0),
    Parameter("silence_limit", 5.0, "[s] wall time, after which a silent node ends the execution", 0.5, 600.0),
    Parameter("no_progress_time", 20.0, "[s] ROS time, after which a known distance that has not become less ends the "
              "execution; 0: never", 0.0, 86400.0),
    Parameter("no_progress_distance", 0.01, "[m] by which the distance is to become less in that time", 0.0, 10.0),
    params.STOP_WORDS,
    params.LOCKSTEP,
)
CHECK = 0.05  # [s]
FEEDBACK = 0.05  # [s] also the heartbeat without which the control node does not go on
REPEAT = 0.5  # [s] an instruction that is not in force yet is given again
LET_GO = 1.0  # [s] that the nodes have to let go of the words


@dataclass
class Course:
    """A goal on its way: the parts that are left, how many there were, [s] ROS time that those before took, and their
    chunks; why no other part is to follow."""

    goal: object
    left: list[str]
    count: int
    seconds: float = 0.0
    chunks: int = 0
    broken_off: str = ""

    @property
    def done(self) -> int:
        """Parts, but for the one being executed."""
        return self.count - len(self.left) - 1


@dataclass
class Ending:
    """An execution that has its verdict and waits until the nodes have let go of the words. deadline: [s] steady."""

    verdict: Verdict
    duration: float
    deadline: float


class TaskNode(Node):
    """Everything runs on one thread."""

    def __init__(self):
        super().__init__("task_node")
        self.params = params.declare(self, PARAMETERS)
        self.board, self.outcomes = Board(), dict.fromkeys(convert.OUTCOMES, 0)
        self.stops = StopWords.load(self.params.stop_words)
        self.course = self.execution = self.ending = self.next_goal = None
        self._said: tuple[str, float] = ("", 0.0)
        self._instruction = self.create_publisher(String, "vla/instruction", qos.REQUEST)
        self._kept_stop = self.create_publisher(Bool, KEPT, qos.STATUS)  # for a control node that is started again
        self.create_subscription(Bool, STOP, lambda stop: stop.data and self._kept_stop.publish(stop), qos.REQUEST)
        self.create_subscription(Empty, RESET, lambda _: self._kept_stop.publish(Bool(data=False)), qos.REQUEST)
        self.create_subscription(PolicyStatus, "vla/policy_status", self._on_policy, qos.STATUS)
        self.create_subscription(ControlStatus, "vla/control_status", self._on_control, qos.STATUS)
        self.create_subscription(ActionChunk, "vla/action_chunk", self._on_chunk, qos.stream(self.params.lockstep))
        self.create_subscription(String, "vla/instruction", self._on_instruction, qos.REQUEST)
        self.create_subscription(TaskState, "sim/task_state", self._on_task, qos.EVERY_TICK)
        self.create_timer(CHECK, self._check, clock=STEADY)
        self.create_timer(FEEDBACK, self._feedback, clock=STEADY)
        self._server = DeferredServer(self, ExecuteInstruction, "vla/execute", lambda goal: None,
                                      goal_callback=self._on_goal, handle_accepted_callback=self._on_accepted,
                                      cancel_callback=lambda goal: CancelResponse.ACCEPT)
        Diagnostics(self, "", self._report)
        self.get_logger().info("action server vla/execute is ready")

    def now(self) -> int:
        """[ns] ROS time"""
        return self.get_clock().now().nanoseconds

    # What the nodes say

    def _on_policy(self, message: PolicyStatus) -> None:
        state = convert.state_name(convert.POLICY_STATES, message.state)
        self.board.policy = Report(state, message.instruction, message.detail, time.monotonic())

    def _on_control(self, message: ControlStatus) -> None:
        state = convert.state_name(convert.CONTROL_STATES, message.state)
        self.board.control = Report(state, message.instruction, message.detail, time.monotonic())

    def _on_chunk(self, message: ActionChunk) -> None:
        """Also after the verdict: the task's success may overtake a chunk that led to it."""
        if self.execution is not None:
            self._settle(self.execution.chunk(
                message.instruction, convert.nanoseconds(message.header.stamp), message.refusal, message.text,
                dict(zip(message.stages, message.seconds, strict=False)), time.monotonic(), message.done))

    def _on_task(self, message: TaskState) -> None:
        self.board.task = TaskReport(convert.nanoseconds(message.header.stamp), convert.words(message.instruction),
                                     message.success, message.distance, time.monotonic())
        if self.execution is not None and self.ending is None:
            self._settle(self.execution.task(self.board.task))

    def _on_instruction(self, message: String) -> None:
        """Whoever else says stop ends the goal: its own words may not have been taken yet, and would be given again."""
        try:
            words = convert.words(message.data)
        except ObservationError:
            return  # the control node says what is wrong with them
        if self.execution is not None:
            self._settle(self.execution.told(words, self.stops.mean(words)))
            if self.ending is not None and words not in ("", self.execution.instruction):
                self.course.broken_off = f"other words were given: '{words}'"

    # The goal

    def _on_goal(self, request: ExecuteInstruction.Goal) -> GoalResponse:
        try:
            words = convert.words(request.instruction)
        except ObservationError as error:
            self.get_logger().warning(f"goal rejected: {error}")
            return GoalResponse.REJECT
        if not words or not math.isfinite(request.time_limit) or request.time_limit < 0:
            self.get_logger().warning("goal rejected: it needs words, and a time limit that is not negative")
            return GoalResponse.REJECT
        return GoalResponse.ACCEPT

    def _on_accepted(self, goal) -> None:
        """The goal before ends first."""
        goal.execute()
        if self.course is None:
            self._begin(goal)
            return
        preempted = Verdict(CANCELED, "preempted by a new goal")
        if self.next_goal is not None:
            self._conclude(self.next_goal, preempted, ExecuteInstruction.Result())
        self.next_goal, self.course.broken_off = goal, preempted.message
        self._settle(preempted)

    def _begin(self, goal) -> None:
        words = parts(convert.words(goal.request.instruction))
        self.course = Course(goal, words, len(words))
        self._execute()

    def _execute(self) -> None:
        """The next part; each has the goal's time."""
        words, limit = self.course.left.pop(0), self.course.goal.request.time_limit or self.params.time_limit
        p = self.params
        self.execution = Execution(words, limit, p.silence_limit, self.board, self.now(), time.monotonic(),
                                   Progress(p.no_progress_time, p.no_progress_distance), self.stops.mean(words))
        self.get_logger().info(f"goal: '{self.execution.instruction}' within {limit:g} s{self._which()}")
        self._check()

    def _which(self) -> str:
        """Of several parts, which one."""
        course = self.course
        return f" (part {course.done + 1} of {course.count})" if course.count > 1 else ""

    def _settle(self, verdict: Verdict | None) -> None:
        """The execution has its verdict: the words are taken back."""
        if verdict is not None and self.execution is not None and self.ending is None:
            self.ending = Ending(verdict, self.execution.elapsed(self.now()), time.monotonic() + LET_GO)
            self._say("")

    def _finish(self) -> None:
        """A part that succeeded is followed by the next; all else ends the goal."""
        course, verdict, execution, which = self.course, self.ending.verdict, self.execution, self._which()
        course.seconds, course.chunks = course.seconds + self.ending.duration, course.chunks + execution.chunks
        self.execution = self.ending = None
        if verdict.outcome == SUCCEEDED and course.left:
            self.get_logger().info(f"{SUCCEEDED}: {verdict.message}{which}")
            if not course.broken_off:
                self._execute()
                return
            verdict = Verdict(CANCELED, course.broken_off)
        self._conclude(course.goal, Verdict(verdict.outcome, verdict.message + which), result_of(execution, course))
        waiting, self.course, self.next_goal = self.next_goal, None, None
        if waiting is not None:
            self._begin(waiting)

    def _conclude(self, goal, verdict: Verdict, result: ExecuteInstruction.Result) -> None:
        self.outcomes[verdict.outcome] += 1
        self.get_logger().info(f"{verdict.outcome}: {verdict.message}")
        if verdict.outcome == SUCCEEDED:
            goal.succeed()
        elif verdict.outcome == CANCELED and goal.is_cancel_requested:
            goal.canceled()
        else:
            goal.abort()
        result.outcome, result.message = convert.OUTCOMES[verdict.outcome], verdict.message
        self._server.finish(goal, result)

    # Timers

    def _check(self) -> None:
        now = time.monotonic()
        if self.ending is not None:
            if self.board.holds("") or now > self.ending.deadline:
                self._finish()
            return
        if self.execution is None:
            return
        if self.course.goal.is_cancel_requested:
            self._settle(Verdict(CANCELED, "canceled on request"))
            return
        self._settle(self.execution.check(self.now(), now))
        if self.ending is None and not self.execution.running:
            wanted = self.execution.wanted
            if self._said[0] != wanted or now - self._said[1] > REPEAT:
                self._say(wanted)

    def _say(self, words: str) -> None:
        self._said = (words, time.monotonic())
        self._instruction.publish(String(data=words))

    def _feedback(self) -> None:
        execution = self.execution
        if execution is not None and self.course.goal.is_active:
            course = self.course
            self.course.goal.publish_feedback(ExecuteInstruction.Feedback(
                phase=execution.phase, progress=(course.done + execution.progress) / course.count,
                elapsed=course.seconds + execution.elapsed(self.now()), latency=execution.latency,
                text=execution.text))

    def _report(self):
        silent = self.board.silent(time.monotonic(), self.params.silence_limit)
        message = f"nothing heard from the {silent}" if silent else "executing" if self.execution else "idle"
        words = self.execution.instruction if self.execution else ""
        return WARN if silent else OK, message, {**self.outcomes, "instruction": words}

    def close(self) -> None:
        """A task node that ends takes its instruction back."""
        if self.execution is not None:
            self._say("")
        self._server.destroy()


def result_of(execution: Execution, course: Course) -> ExecuteInstruction.Result:
    """The stages are those of the last part."""
    figures = execution.stages.figures()
    return ExecuteInstruction.Result(
        duration=course.seconds, first_chunk=execution.first_chunk, chunks=course.chunks, stages=list(figures),
        p50=[p50 for p50, _ in figures.values()], p95=[p95 for _, p95 in figures.values()])


def task_node() -> TaskNode:
    return TaskNode()


def main(args=None) -> int:
    return run(task_node, args)


if __name__ == "__main__":
    sys.exit(main())
