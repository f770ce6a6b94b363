"""The task node over DDS, with a policy, a control node and a simulation that the test plays."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from builtin_interfaces.msg import Time
from rclpy.action import ActionClient
from std_msgs.msg import Header, String
from vla_ros.action import ExecuteInstruction
from vla_ros.msg import ActionChunk, ControlStatus, PolicyStatus, TaskState

from vla_ros.nodes import qos, task_node


def at(second):
    return Header(stamp=Time(sec=second))


def test_a_chunk_that_the_success_overtook_counts_too(bench, monkeypatch):
    monkeypatch.setattr(task_node, "LET_GO", 60.0)
    node = bench.start(task_node.TaskNode, silence_limit=600.0)
    policy = bench.speak(PolicyStatus, "vla/policy_status", qos.STATUS)
    control = bench.speak(ControlStatus, "vla/control_status", qos.STATUS)
    chunks = bench.speak(ActionChunk, "vla/action_chunk", qos.STREAM)
    task = bench.speak(TaskState, "sim/task_state", qos.EVERY_TICK)
    words = bench.listen(String, "vla/instruction", qos.REQUEST)
    client = ActionClient(bench.peer, ExecuteInstruction, "vla/execute")

    def hold(instruction):
        policy.publish(PolicyStatus(instruction=instruction))
        control.publish(ControlStatus(instruction=instruction))
        bench.until(lambda: node.board.holds(instruction), f"'{instruction}' on the board")

    hold("")
    bench.until(client.server_is_ready, "the action server")
    sent = client.send_goal_async(ExecuteInstruction.Goal(instruction="go", time_limit=600.0))
    bench.until(lambda: words and words[-1].data == "go", "the words")
    hold("go")
    bench.until(lambda: node.execution.running, "the execution")
    chunks.publish(ActionChunk(header=at(1), instruction="go"))
    bench.until(lambda: node.execution.chunks == 1, "the first chunk")
    task.publish(TaskState(header=at(2), instruction="go", success=True))
    bench.until(lambda: words[-1].data == "" and node.ending, "the words taken back")
    chunks.publish(ActionChunk(header=at(2), instruction="go"))
    bench.until(lambda: node.execution.chunks == 2, "the chunk that came late", deadline=10.0)
    hold("")
    done = sent.result().get_result_async()
    result = bench.until(lambda: done.done() and done.result().result, "the result")
    assert (result.outcome, result.chunks) == (ExecuteInstruction.Result.SUCCEEDED, 2)
    client.destroy()


TOLD, PARTS = "touch the red cube, then the blue one", ["touch the red cube", "touch the blue cube"]
Result = ExecuteInstruction.Result


@pytest.fixture
def graph(bench, monkeypatch):
    """The task node, a goal of two parts, and hands to play the other nodes with."""
    monkeypatch.setattr(task_node, "LET_GO", 60.0)
    node = bench.start(task_node.TaskNode, silence_limit=600.0)
    policy = bench.speak(PolicyStatus, "vla/policy_status", qos.STATUS)
    control = bench.speak(ControlStatus, "vla/control_status", qos.STATUS)
    chunks = bench.speak(ActionChunk, "vla/action_chunk", qos.STREAM)
    task = bench.speak(TaskState, "sim/task_state", qos.EVERY_TICK)
    say = bench.speak(String, "vla/instruction", qos.REQUEST)
    words = bench.listen(String, "vla/instruction", qos.REQUEST)
    client = ActionClient(bench.peer, ExecuteInstruction, "vla/execute")

    def hold(instruction):
        policy.publish(PolicyStatus(instruction=instruction))
        control.publish(ControlStatus(instruction=instruction, state=ControlStatus.EXECUTING))
        bench.until(lambda: node.board.holds(instruction), f"'{instruction}' on the board")

    def begin(part, second):
        bench.until(lambda: node.execution and node.execution.instruction == part, f"'{part}' begun")
        bench.until(lambda: words and words[-1].data == part, f"'{part}' said")
        hold(part)
        bench.until(lambda: node.execution.running, "the execution")
        chunks.publish(ActionChunk(header=at(second), instruction=part))
        bench.until(lambda: node.execution.chunks == 1, "a chunk")

    def succeed(part, second):
        task.publish(TaskState(header=at(second), instruction=part, success=True))
        bench.until(lambda: words[-1].data == "" and node.ending, "the words taken back")

    hold("")
    bench.until(client.server_is_ready, "the action server")
    sent = client.send_goal_async(ExecuteInstruction.Goal(instruction=TOLD, time_limit=600.0))
    bench.until(sent.done, "the goal accepted")
    done = sent.result().get_result_async()
    yield SimpleNamespace(node=node, hold=hold, begin=begin, succeed=succeed, say=say, bench=bench, client=client,
                          chunks=chunks, words=words,
                          result=lambda: bench.until(lambda: done.done() and done.result().result, "the result"))
    client.destroy()


def test_a_part_begins_when_the_one_before_has_succeeded(graph):
    for second, part in enumerate(PARTS):
        graph.begin(part, 2 * second + 1)
        graph.succeed(part, 2 * second + 2)
        graph.hold("")
    result = graph.result()
    assert (result.outcome, result.chunks) == (Result.SUCCEEDED, 2) and result.message.endswith("(part 2 of 2)")


def test_without_a_simulation_a_part_is_done_when_the_policy_has_said_so_for_a_second(graph):
    for part in PARTS:
        now = graph.node.now() // 10**9  # [s]
        graph.begin(part, now)
        for later in (1, 2):
            assert graph.node.ending is None
            graph.chunks.publish(ActionChunk(header=at(now + later), instruction=part, done=True))
            graph.bench.until(lambda later=later: graph.node.execution.chunks == 1 + later, "a chunk that says so")
        graph.bench.until(lambda: graph.words[-1].data == "" and graph.node.ending, "the words taken back")
        graph.hold("")
    result = graph.result()
    assert result.outcome == Result.SUCCEEDED and "by the policy's own account" in result.message


@pytest.mark.parametrize("words", ["stop", "touch the green ball"])
def test_what_others_say_between_two_parts_ends_the_goal(graph, words):
    graph.begin(PARTS[0], 1)
    graph.succeed(PARTS[0], 2)
    graph.say.publish(String(data=words))
    graph.bench.until(lambda: graph.node.course.broken_off, "the words heard")
    graph.hold("")
    result = graph.result()
    assert result.outcome == Result.CANCELED and words in result.message and "(part 1 of 2)" in result.message


def test_a_new_goal_between_two_parts_is_next(graph):
    graph.begin(PARTS[0], 1)
    graph.succeed(PARTS[0], 2)
    graph.client.send_goal_async(ExecuteInstruction.Goal(instruction="touch the green ball"))
    graph.bench.until(lambda: graph.node.next_goal, "the new goal")
    graph.hold("")
    assert graph.result().outcome == Result.CANCELED
    graph.begin("touch the green ball", 3)
