"""The task node over DDS, with a policy, a control node and a simulation that the test plays."""

from __future__ import annotations

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
