"""task_node: the action vla/execute. It gives the instruction, follows it, and says how it ended.

One execution at a time: a new goal preempts the one before. When an execution ends, however it does, the empty
instruction is given, and the result is sent when policy and control have let go of the words.
"""

from __future__ import annotations

import math
import sys
import time

from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.node import Node
from rclpy.task import Future
from std_msgs.msg import String

from vla_ros.action import ExecuteInstruction
from vla_ros.errors import ObservationError
from vla_ros.msg import ActionChunk, ControlStatus, PolicyStatus, TaskState
from vla_ros.nodes import control_node, convert, params, policy_node, qos, tasking
from vla_ros.nodes.diagnostics import OK, STEADY, WARN, Diagnostics
from vla_ros.nodes.params import Parameter
from vla_ros.nodes.running import run
from vla_ros.nodes.tasking import Board, Execution, Report, TaskReport, Verdict

PARAMETERS = (
    Parameter("time_limit", 30.0, "[s] ROS time, of a goal that gives none", 0.1, 86400.0),
    Parameter("silence_limit", 5.0, "[s] wall time, after which a silent node ends the execution", 0.5, 600.0),
    params.LOCKSTEP,
)
Result = ExecuteInstruction.Result
OUTCOMES = {tasking.SUCCEEDED: Result.SUCCEEDED, tasking.REFUSED: Result.REFUSED, tasking.TIMED_OUT: Result.TIMED_OUT,
            tasking.CANCELED: Result.CANCELED, tasking.HALTED: Result.HALTED}
POLICY_STATES = {number: name for name, number in policy_node.STATES.items()}
CONTROL_STATES = {number: name for name, number in control_node.STATES.items()}
CHECK, FEEDBACK = 0.05, 0.2  # [s]
REPEAT = 0.5  # [s] an instruction that is not in force yet is given again
LET_GO = 1.0  # [s] that the nodes have to let go of the words


class TaskNode(Node):
    """Everything runs on one thread; an execution is a coroutine that waits for its verdict."""

    def __init__(self):
        super().__init__("task_node")
        self.params = params.declare(self, PARAMETERS)
        self.board, self.outcomes = Board(), dict.fromkeys(OUTCOMES, 0)
        self.execution: Execution | None = None
        self._verdict: Future | None = None
        self._released: tuple[Future, float] | None = None
        self._spoken: tuple[str, float] = ("", 0.0)
        self._instruction = self.create_publisher(String, "vla/instruction", qos.REQUEST)
        stream = qos.stream(self.params.lockstep)
        self.create_subscription(PolicyStatus, "vla/policy_status", self._on_policy, qos.STATUS)
        self.create_subscription(ControlStatus, "vla/control_status", self._on_control, qos.STATUS)
        self.create_subscription(ActionChunk, "vla/action_chunk", self._on_chunk, stream)
        self.create_subscription(TaskState, "sim/task_state", self._on_task, qos.TASK_STATE)
        self.create_timer(CHECK, self._check, clock=STEADY)
        self.create_timer(FEEDBACK, self._feedback, clock=STEADY)
        self._goal = None
        self._server = ActionServer(self, ExecuteInstruction, "vla/execute", self._execute,
                                    goal_callback=self._on_goal, handle_accepted_callback=self._on_accepted,
                                    cancel_callback=lambda goal: CancelResponse.ACCEPT)
        Diagnostics(self, "", self._report)
        self.get_logger().info("action server vla/execute is ready")

    def now(self) -> int:
        """[ns] ROS time"""
        return self.get_clock().now().nanoseconds

    # What the nodes say

    def _on_policy(self, message: PolicyStatus) -> None:
        self.board.policy = Report(POLICY_STATES[message.state], message.instruction, message.detail, time.monotonic())

    def _on_control(self, message: ControlStatus) -> None:
        self.board.control = Report(CONTROL_STATES[message.state], message.instruction, message.detail, time.monotonic())

    def _on_chunk(self, message: ActionChunk) -> None:
        if self.execution is not None:
            self._settle(self.execution.chunk(
                message.instruction, convert.nanoseconds(message.header.stamp), message.refusal, message.text,
                dict(zip(message.stages, message.seconds, strict=False)), time.monotonic()))

    def _on_task(self, message: TaskState) -> None:
        self.board.task = TaskReport(convert.nanoseconds(message.header.stamp), convert.words(message.instruction),
                                     message.success, message.distance, time.monotonic())
        if self.execution is not None:
            self._settle(self.execution.task(self.board.task))

    # The goal

    def _on_goal(self, request: ExecuteInstruction.Goal) -> GoalResponse:
        try:
            good = bool(convert.words(request.instruction)) and math.isfinite(request.time_limit) and request.time_limit >= 0
        except ObservationError:
            good = False
        if not good:
            self.get_logger().warning("goal rejected: it needs words, and a time limit that is not negative")
        return GoalResponse.ACCEPT if good else GoalResponse.REJECT

    def _on_accepted(self, goal) -> None:
        """The goal before ends first; then this one begins."""
        self._settle(Verdict(tasking.CANCELED, "preempted by a new goal"))
        goal.execute()

    async def _execute(self, goal) -> Result:
        while self._goal is not None:
            await self._goal_done
        self._goal, self._goal_done = goal, Future(executor=self.executor)
        self._verdict = Future(executor=self.executor)
        limit = goal.request.time_limit or self.params.time_limit
        self.execution = Execution(convert.words(goal.request.instruction), limit, self.params.silence_limit,
                                   self.board, self.now(), time.monotonic())
        self.get_logger().info(f"goal: '{self.execution.instruction}' within {limit:g} s")
        self._check()
        verdict = await self._verdict
        execution, self.execution = self.execution, None
        duration = execution.elapsed(self.now())
        await self._let_go()
        self._conclude(goal, verdict)
        self._goal = None
        self._goal_done.set_result(None)
        return result_of(execution, verdict, duration)

    def _conclude(self, goal, verdict: Verdict) -> None:
        self.outcomes[verdict.outcome] += 1
        self.get_logger().info(f"{verdict.outcome}: {verdict.message}")
        if goal.is_cancel_requested:
            goal.canceled()
        elif verdict.outcome == tasking.SUCCEEDED:
            goal.succeed()
        else:
            goal.abort()

    def _let_go(self) -> Future:
        """Done when both nodes have let go of the words, or after a while."""
        released = Future(executor=self.executor)
        self._released = (released, time.monotonic() + LET_GO)
        self._say("")
        return released

    def _settle(self, verdict: Verdict | None) -> None:
        if verdict is not None and self._verdict is not None and not self._verdict.done():
            self._verdict.set_result(verdict)

    # Timers

    def _check(self) -> None:
        now = time.monotonic()
        if self._released is not None:
            self._check_released(now)
        if self.execution is None:
            return
        if self._goal.is_cancel_requested:
            self._settle(Verdict(tasking.CANCELED, "canceled on request"))
        self._settle(self.execution.check(self.now(), now))
        wanted = self.execution.wanted
        if not self.execution.running and (self._spoken[0] != wanted or now - self._spoken[1] > REPEAT):
            self._say(wanted)

    def _check_released(self, now: float) -> None:
        released, deadline = self._released
        if self.board.holds("") or now > deadline:
            self._released = None
            released.set_result(None)
        elif now - self._spoken[1] > REPEAT:
            self._say("")

    def _say(self, words: str) -> None:
        self._spoken = (words, time.monotonic())
        self._instruction.publish(String(data=words))

    def _feedback(self) -> None:
        execution = self.execution
        if execution is not None and self._goal.is_active:
            self._goal.publish_feedback(ExecuteInstruction.Feedback(
                phase=execution.phase, progress=execution.progress, elapsed=execution.elapsed(self.now()),
                latency=execution.latency, text=execution.text))

    def _report(self):
        silent = self.board.silent(time.monotonic(), self.params.silence_limit)
        message = f"nothing heard from the {silent}" if silent else "executing" if self.execution else "idle"
        return WARN if silent else OK, message, {**self.outcomes, "instruction": self.execution.instruction if self.execution else ""}

    def close(self) -> None:
        """A task node that ends takes its instruction back."""
        if self.execution is not None:
            self._say("")
        self._server.destroy()


def result_of(execution: Execution, verdict: Verdict, duration: float) -> Result:
    figures = execution.stages.figures()
    return Result(outcome=OUTCOMES[verdict.outcome], message=verdict.message, duration=duration,
                  first_chunk=execution.first_chunk, chunks=execution.chunks, stages=list(figures),
                  p50=[p50 for p50, _ in figures.values()], p95=[p95 for _, p95 in figures.values()])


def task_node() -> TaskNode:
    return TaskNode()


def main(args=None) -> int:
    return run(task_node, args)


if __name__ == "__main__":
    sys.exit(main())
