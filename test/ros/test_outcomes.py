"""How a goal ends over DDS: the real control and task nodes, with a robot, a policy and a user that the test plays."""

from __future__ import annotations

import signal

import numpy as np
import pytest
import yaml
from rclpy.action import ActionClient
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, String
from vla_ros.action import ExecuteInstruction
from vla_ros.msg import ActionChunk, ControlStatus, PolicyStatus

from vla_ros.bringup import sim_system
from vla_ros.nodes import control_node, convert, qos, task_node
from vla_ros.nodes.domains import free_domain
from vla_ros.nodes.system import System
from vla_ros.profile import config_folder, load_profile
from vla_ros.types import ActionChunk as Chunk
from vla_ros.types import JointState as Joints

PANDA = load_profile("panda")
UP = np.tile([0.0, 0.0, 0.01, 1.0], (8, 1))
PERIOD = 200_000_000  # [ns] in which the policy answers
AGE = 0.6  # [s] that joint states may have, on a busy machine
READY = 90.0  # [s] on a busy machine


class Cell:
    """A robot that goes where it is told (or is seized), and a policy that answers every instruction with `values`."""

    def __init__(self, bench, folder, **parameters):
        self.bench = bench
        data = yaml.safe_load((config_folder() / "robots" / "panda.yaml").read_text())
        (folder / "robot.yaml").write_text(yaml.safe_dump(data | {"max_observation_age": AGE}))
        self.control = bench.start(control_node.ControlNode, robot=str(folder / "robot.yaml"), **parameters)
        bench.add(task_node.TaskNode())
        self.seized, self.measured, self.alive, self.values, self.delay = False, True, True, UP, 0
        self.spoken = 0  # [ns] when the policy spoke last
        self.positions = dict.fromkeys(convert.joint_order(PANDA), 0.02)
        self.positions |= dict(zip(PANDA.joints, PANDA.home, strict=True))
        self.words = bench.listen(String, "vla/instruction", qos.REQUEST)
        self.commands = bench.listen(convert.COMMAND_TYPES["joint_trajectory"], PANDA.command.topic, qos.STREAM)
        self.statuses = bench.listen(ControlStatus, "vla/control_status", qos.STATUS)
        self.joints = bench.speak(JointState, "joint_states", qos.SENSOR)
        self.chunks = bench.speak(ActionChunk, "vla/action_chunk", qos.STREAM)
        self.policy = bench.speak(PolicyStatus, "vla/policy_status", qos.STATUS)
        self.user = bench.speak(String, "vla/instruction", qos.REQUEST)
        self.stops = bench.speak(Bool, "vla/stop", qos.REQUEST)
        self.client = ActionClient(bench.peer, ExecuteInstruction, "vla/execute")
        bench.until(lambda: self.client.server_is_ready() and self.control.active, "the nodes", self.turn)

    @property
    def state(self):
        return convert.state_name(convert.CONTROL_STATES, self.statuses[-1].state)

    def turn(self):
        """What the robot and the policy say."""
        if self.commands and not self.seized:
            point = self.commands[-1]
            self.positions = dict(zip(point.joint_names, point.points[0].positions, strict=True))
        if self.measured:
            self.joints.publish(convert.joint_message(Joints(dict(self.positions), {}, self.control.now())))
        now, current = self.control.now(), self.control.commanding.controller.current
        if self.alive and self.words and now - self.spoken > PERIOD:
            self.spoken = now
            self.policy.publish(PolicyStatus(instruction=self.words[-1].data, state=PolicyStatus.RUNNING))
            if self.words[-1].data and current is not None and self.measured:
                self.answer(self.words[-1].data, current.stamp - self.delay)

    def answer(self, words, stamp):
        chunk = Chunk(np.asarray(self.values, float), PANDA.action, stamp)
        self.chunks.publish(convert.chunk_message(chunk, words))

    def until(self, condition, what=""):
        return self.bench.until(condition, what, self.turn)

    def goal(self, words="go", limit=600.0):
        """A goal that is being executed; its future result."""
        sent = self.client.send_goal_async(ExecuteInstruction.Goal(instruction=words, time_limit=limit))
        return self.until(lambda: sent.done() and sent.result(), f"the goal '{words}'").get_result_async()

    def moving(self):
        """A goal whose chunks move the robot."""
        goal = self.goal()
        self.until(lambda: self.state == "executing", "motion")
        return goal

    def end(self, goal):
        """(outcome, message)"""
        result = self.until(lambda: goal.done() and goal.result().result, "the result")
        return convert.state_name(convert.OUTCOMES, result.outcome), result.message

    def targets(self):
        return tuple(self.commands[-1].points[0].positions)


def test_a_robot_whose_joints_do_not_move_has_stalled(bench, tmp_path):
    cell = Cell(bench, tmp_path, stall_time=1.0)
    cell.seized = True
    outcome, message = cell.end(cell.goal())
    assert outcome == "stalled" and "no joint does; panda_joint" in message
    cell.seized = False
    assert cell.end(cell.goal(limit=1.5))[0] == "timed out", "one that moves has not"


def latched(cell):
    cell.stops.publish(Bool(data=True))


def impossible(cell):
    """Finite numbers, but what follows from them is not."""
    cell.values, cell.delay = np.full((8, 4), 1e308), 250_000_000


def late(cell):
    cell.delay = 900_000_000


def unmeasured(cell):
    cell.measured = False


def mute(cell):
    cell.alive = False


@pytest.mark.parametrize("trouble, reason", [
    (latched, "vla/stop is latched"), (impossible, "control node: finite: the way leads to a place"),
    (late, "control node: order: chunk of"), (unmeasured, "control node: joint states are 0."),
    (mute, "control node: nothing heard from the policy node")])
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning", "ignore:invalid value:RuntimeWarning")
def test_a_halt_says_why(bench, tmp_path, trouble, reason):
    cell = Cell(bench, tmp_path, silence_limit=2.0)
    goal = cell.moving()
    if trouble is late:
        first = cell.control.now()
        cell.until(lambda: cell.control.now() - first > 10**9, "joint states of a second ago")
    trouble(cell)
    outcome, message = cell.end(goal)
    assert outcome == "halted" and reason in message, message


def test_stop_in_words_holds_although_the_policy_says_move_or_hangs(bench, tmp_path):
    cell = Cell(bench, tmp_path)
    goal = cell.moving()
    cell.user.publish(String(data="STOP!"))
    assert cell.end(goal) == ("canceled", "told to stop: 'STOP!'")
    cell.user.publish(String(data="halt, please"))
    cell.until(lambda: cell.state == "held" and "halt, please" in cell.statuses[-1].detail, "held")
    held, count = cell.targets(), len(cell.statuses)
    cell.until(lambda: len(cell.statuses) > count + 5, "answers that are not executed")
    assert cell.targets() == held and cell.state == "held"
    cell.alive = False
    cell.policy.publish(PolicyStatus(instruction="go", state=PolicyStatus.RUNNING))
    cell.answer("go", cell.control.commanding.controller.current.stamp)
    count = len(cell.statuses)
    cell.until(lambda: len(cell.statuses) > count + 5, "what the policy node was told before")
    assert cell.targets() == held and cell.state == "held"
    assert cell.end(cell.goal("Freeze, please.")) == ("succeeded", "told to stop: 'Freeze, please.'")
    cell.alive = True
    cell.moving()


def test_no_words_stop_where_they_are_switched_off(bench, tmp_path):
    cell = Cell(bench, tmp_path, stop_words="none")
    cell.goal("stop")
    cell.until(lambda: cell.state == "executing", "what the policy answers")


def test_a_whole_system_without_progress_and_with_a_policy_node_that_hangs():
    description = sim_system(policy="hold", world="mock", no_progress_time=1.0)
    with System(description, domain=free_domain()) as system:
        system.wait_ready(READY)
        policy = next(process for process in system.processes if process.name == "policy_node")
        with system.client() as client:
            layout = client.reset("reach", 1)
            result = client.execute(layout.instruction, 60.0, watch=system.check)
            assert result.outcome == "no progress" and "for 1 s" in result.message
            policy.signal(signal.SIGSTOP)
            try:
                result = client.execute("touch the red cube", 60.0, watch=system.check)
                assert (result.outcome, result.message) == ("halted", "nothing heard from the policy node for 5 s")
                result = client.execute("stop moving", 60.0, watch=system.check)
                assert (result.outcome, result.message) == ("succeeded", "told to stop: 'stop moving'")
            finally:
                policy.signal(signal.SIGCONT)
            layout = client.reset("reach", 2)
            assert client.execute(layout.instruction, 60.0, watch=system.check).outcome == "no progress"
