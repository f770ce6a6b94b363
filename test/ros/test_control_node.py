"""The control node over DDS: when it commands, what it refuses, how it holds, stops and ends."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, Empty, String
from vla_ros.action import ExecuteInstruction
from vla_ros.msg import ActionChunk, ControlStatus, PolicyStatus

from vla_ros.errors import UnknownNameError
from vla_ros.nodes import control_node, convert, qos
from vla_ros.profile import config_folder, load_profile
from vla_ros.types import ActionChunk as Chunk
from vla_ros.types import JointState as Joints

PANDA, HUSKY = load_profile("panda"), load_profile("husky")
MOVES = {"panda": np.tile([0.0, 0.0, 0.01, 1.0], (8, 1)), "husky": np.tile([0.2, 0.1], (8, 1))}


class Robot:
    """Joints, a policy and a user on the bench's peer. Chunks come now and then: it is given time for them."""

    def __init__(self, bench, robot="panda", **parameters):
        self.bench = bench
        parameters = {"chunk_timeout": 60.0} | parameters
        self.node = bench.start(control_node.ControlNode, robot=str(robot), **parameters)
        if self.node.params.autostart:
            self.meet()
            bench.until(lambda: self.node.active, "activation", self.measure)

    def meet(self):
        """Once the node is configured."""
        bench = self.bench
        self.profile = self.node.profile
        command = self.profile.command
        self.commands = bench.listen(convert.COMMAND_TYPES[command.interface], command.topic, qos.STREAM)
        self.statuses = bench.listen(ControlStatus, "vla/control_status", qos.STATUS)
        lockstep = self.node.lockstep is not None
        self.joints = bench.speak(JointState, "joint_states", qos.sensor(lockstep))
        self.chunks = bench.speak(ActionChunk, "vla/action_chunk", qos.stream(lockstep))
        self.words = bench.speak(String, "vla/instruction", qos.REQUEST)
        self.stops = bench.speak(Bool, "vla/stop", qos.REQUEST)
        self.resets = bench.speak(Empty, "vla/reset_stop", qos.REQUEST)
        bench.until(lambda: self.node.count_subscribers(command.topic) > 0, "a reader of the commands")

    def measure(self):
        names = (*self.profile.joints, *(self.profile.gripper.joints if self.profile.gripper else ()))
        home = dict(zip(self.profile.joints, self.profile.home or np.zeros(len(names)).tolist(), strict=False))
        joints = Joints(dict.fromkeys(names, 0.02) | home, dict.fromkeys(names, 0.0), self.node.now())
        self.joints.publish(convert.joint_message(joints))

    def say(self, words):
        self.words.publish(String(data=words))
        self.until_status("instruction", words)

    def offer(self, values=None, instruction="go", spec=None):
        """A chunk that answers the newest joint states."""
        self.bench.until(lambda: self.node.commanding.controller.current, "joint states", self.measure)
        values = MOVES[self.profile.name] if values is None else values
        message = convert.chunk_message(Chunk(np.zeros_like(values), spec or self.profile.action,
                                              self.node.commanding.controller.current.stamp), instruction, 5)
        message.values = np.asarray(values, float).ravel().tolist()
        self.chunks.publish(message)

    def until_status(self, field, value, meanwhile=None):
        def found():
            return self.statuses and getattr(self.statuses[-1], field) == value and self.statuses[-1]
        return self.bench.until(found, f"{field} {value}", meanwhile or self.measure)

    def some_statuses(self, count=4, meanwhile=None):
        """Waits for news from the node: at 10 Hz, so that it had time to do what it must not."""
        before = len(self.statuses)
        self.bench.until(lambda: len(self.statuses) >= before + count, "statuses", meanwhile or self.measure)

    def moving(self):
        """In the middle of a chunk. On a busy machine one may run out before its status is heard: another follows."""
        self.say("go")
        self.offer()
        self.until_status("state", ControlStatus.EXECUTING, self._keep_moving)
        return self

    def _keep_moving(self):
        self.measure()
        if self.statuses[-1].state == ControlStatus.HOLDING:
            self.offer()
        self._revive()

    def _revive(self):
        """On a machine that stands still for half a second the motion ends by itself: it begins again."""
        self.measure()
        if self.statuses[-1].state == ControlStatus.HALTED:
            self.words.publish(String(data="go"))
            self.offer()

    def holding(self):
        """After the chunk in force."""
        return self.until_status("state", ControlStatus.HOLDING, self._revive)


def heights(commands):
    """What distinguishes a command of another target."""
    return [tuple(c.points[0].positions) for c in commands]


def test_nothing_is_published_before_the_first_valid_chunk(bench):
    robot = Robot(bench)
    robot.say("go")
    robot.some_statuses()
    assert robot.statuses[-1].state == ControlStatus.IDLE
    robot.offer(MOVES["panda"] * np.nan)
    robot.until_status("refused_chunks", 1)
    robot.offer(np.zeros((8, 2)), spec=HUSKY.action)
    robot.until_status("refused_chunks", 2)
    robot.some_statuses()
    assert robot.commands == [] and robot.statuses[-1].state == ControlStatus.FAILED
    assert "spec" in robot.statuses[-1].detail
    robot.offer()
    bench.until(lambda: len(robot.commands) > 3, "commands", robot.measure)


def test_it_moves_at_its_rate_and_holds_when_chunks_stop(bench):
    robot = Robot(bench).moving()
    status = robot.holding()
    assert status.sequence == 5 and status.commands >= 3
    moved = heights(robot.commands)
    assert len(set(moved)) > 3, "targets changed while the chunk was in force"
    first = robot.commands[0]
    assert list(first.joint_names) == list(convert.joint_order(PANDA))
    assert convert.nanoseconds(first.points[0].time_from_start) == PANDA.control_period_ns
    before = len(robot.commands)
    bench.until(lambda: len(robot.commands) > before + 20, "holding", robot.measure)
    assert len(set(heights(robot.commands[before + 1:]))) == 1
    assert 0.5 / 60 < robot.statuses[-1].period_p50 < 2 / 60


def test_nan_in_the_middle_changes_nothing(bench):
    robot = Robot(bench).moving()
    robot.offer(np.full((8, 4), np.inf))
    robot.until_status("refused_chunks", 1)
    robot.until_status("state", ControlStatus.FAILED)
    assert np.isfinite(heights(robot.commands)).all()


def test_other_words_hold_and_a_late_answer_to_the_words_before_moves_nothing(bench):
    robot = Robot(bench).moving()
    robot.say("wave")
    robot.until_status("state", ControlStatus.HOLDING)
    before = len(robot.commands)
    robot.offer(instruction="go")
    robot.some_statuses()
    assert len(set(heights(robot.commands[before:]))) == 1
    robot.offer(instruction="wave")
    robot.until_status("state", ControlStatus.EXECUTING)


def test_words_that_reached_the_policy_node_alone(bench):
    robot = Robot(bench)
    policy = bench.speak(PolicyStatus, "vla/policy_status", qos.STATUS)
    policy.publish(PolicyStatus(instruction="of before"))
    bench.until(lambda: robot.node._policy_words == "of before", "the first status")
    assert robot.node.commanding.instruction == "", "a node that was restarted does not go on"
    policy.publish(PolicyStatus(instruction="go"))
    robot.until_status("instruction", "go")
    robot.say("")
    policy.publish(PolicyStatus(instruction="go"))
    robot.some_statuses()
    assert robot.statuses[-1].instruction == "", "a report that is repeated is not a new instruction"


def test_a_refusal_holds_with_its_reason(bench):
    robot = Robot(bench).moving()
    stamp = robot.node.commanding.controller.current.stamp
    refusal = Chunk(np.zeros((0, 4)), PANDA.action, stamp, refusal="no such thing")
    robot.chunks.publish(convert.chunk_message(refusal, "go", 6))
    assert "no such thing" in robot.until_status("state", ControlStatus.HOLDING).detail


def test_stop_latches_and_only_a_new_instruction_moves_after_its_reset(bench):
    """A button that is not pressed says false: it takes back nothing."""
    robot = Robot(bench).moving()
    robot.stops.publish(Bool(data=True))
    robot.until_status("state", ControlStatus.STOPPED)
    robot.words.publish(String(data="go"))
    robot.offer()
    robot.some_statuses()
    assert robot.statuses[-1].state == ControlStatus.STOPPED
    held = heights(robot.commands[-1:])
    for _ in range(3):
        robot.stops.publish(Bool(data=False))
        robot.some_statuses()
    assert robot.statuses[-1].state == ControlStatus.STOPPED
    robot.resets.publish(Empty())
    robot.until_status("state", ControlStatus.HOLDING)
    robot.offer()
    robot.some_statuses()
    assert heights(robot.commands[-1:]) == held
    robot.say("go")
    robot.offer()
    robot.until_status("state", ControlStatus.EXECUTING)


def test_joint_states_that_stop_end_the_motion(bench):
    robot = Robot(bench)
    robot.say("go")
    robot.offer(np.tile(MOVES["panda"], (10, 1)))
    status = robot.until_status("state", ControlStatus.HALTED, meanwhile=lambda: None)
    assert "s old, at most 0.2 s" in status.detail and status.instruction == "" and status.halts == 1
    robot.some_statuses(meanwhile=lambda: None)
    held, before = heights(robot.commands[-1:]), len(robot.statuses)
    robot.offer(np.tile(MOVES["panda"], (10, 1)))
    robot.some_statuses(meanwhile=lambda: None)
    assert heights(robot.commands[-1:]) == held, "a chunk that comes all the same moves nothing"
    assert {status.state for status in robot.statuses[before:]} == {ControlStatus.HALTED}


@pytest.mark.parametrize("robot", ["panda", "husky"])
def test_without_a_newer_chunk_it_halts_in_time_and_only_another_instruction_moves(bench, robot):
    """The time is the profile's."""
    robot = Robot(bench, robot, chunk_timeout=0.0)
    robot.say("go")
    robot.offer()
    status = robot.until_status("state", ControlStatus.HALTED)
    assert f"no newer chunk within {robot.profile.chunk_timeout} s" in status.detail
    count = len(robot.commands)
    robot.offer()
    robot.some_statuses()
    at_rest = robot.commands[count:][-1:]
    robot.words.publish(String(data="go"))
    robot.until_status("instruction", "go")
    robot.offer()
    robot.until_status("state", ControlStatus.EXECUTING)
    assert not at_rest or robot.profile.kind == "arm" or at_rest[0].twist.linear.x == 0.0


def test_a_policy_node_that_answers_nothing_halts_the_motion(bench):
    robot = Robot(bench)
    said = bench.speak(PolicyStatus, "vla/policy_status", qos.STATUS)

    def says(state):
        said.publish(PolicyStatus(instruction="go", state=state, detail="'front' is 0.3 s old"))
        robot.measure()
        if robot.statuses[-1].state not in (ControlStatus.EXECUTING, ControlStatus.HALTED):
            robot.offer(np.tile(MOVES["panda"], (10, 1)))
    robot.say("go")
    robot.until_status("state", ControlStatus.EXECUTING, lambda: says(PolicyStatus.RUNNING))
    status = robot.until_status("state", ControlStatus.HALTED, lambda: says(PolicyStatus.STALE))
    assert "policy node stale: 'front' is 0.3 s old" in status.detail


def feedback():
    return ExecuteInstruction.Impl.FeedbackMessage()


@pytest.mark.parametrize("name, kind, topic, make", [
    ("policy node", PolicyStatus, "vla/policy_status",
     lambda: PolicyStatus(instruction="go", state=PolicyStatus.RUNNING)),
    ("task node", ExecuteInstruction.Impl.FeedbackMessage, "vla/execute/_action/feedback", feedback)])
def test_nothing_moves_for_a_node_that_has_fallen_silent(bench, name, kind, topic, make):
    robot, silent = Robot(bench), f"nothing heard from the {name} (only another instruction moves again)"
    signs = bench.speak(kind, topic, qos.STATUS)

    def alive():
        signs.publish(make())
        robot.measure()
        if robot.statuses[-1].state != ControlStatus.EXECUTING:
            robot.offer()

    def dead():
        robot.measure()
        if "nothing heard" not in robot.statuses[-1].detail:
            robot.offer()
    robot.say("go")
    robot.until_status("state", ControlStatus.EXECUTING, alive)
    robot.until_status("detail", silent, dead)
    robot.offer()
    robot.some_statuses(meanwhile=alive)
    assert robot.statuses[-1].state == ControlStatus.HALTED, "no chunk moves it either, nor that it speaks again"
    robot.words.publish(String(data="go"))
    robot.until_status("state", ControlStatus.EXECUTING, alive)
    robot.until_status("detail", silent, dead)
    robot.say("come")
    robot.bench.until(lambda: robot.statuses[-1].state == ControlStatus.EXECUTING, "motion",
                      lambda: robot.offer(instruction="come"))


def test_a_loop_that_stood_still_ends_its_velocity_and_waits_for_a_new_instruction(bench):
    robot = Robot(bench, "husky").moving()
    before = len(robot.commands)
    with robot.node._lock:  # the loop waits for it, as it would for a process that goes on
        time.sleep(1.5 * robot.node.params.joint_state_gap)
    bench.until(lambda: "stood still" in robot.statuses[-1].detail, "the reason")
    bench.until(lambda: robot.commands[before:] and robot.commands[-1].twist.linear.x == 0.0, "rest")
    assert robot.statuses[-1].instruction == ""
    policy = bench.speak(PolicyStatus, "vla/policy_status", qos.STATUS)
    count = len(robot.commands)
    for words in ("go", "go"):
        policy.publish(PolicyStatus(instruction=words))
        robot.offer()
        robot.some_statuses()
    assert len(robot.commands) == count, "the policy goes on, the robot does not"
    robot.say("go")
    robot.offer()
    bench.until(lambda: robot.commands[-1].twist.linear.x > 0, "motion", robot._keep_moving)


def test_a_command_of_before_the_process_stood_still_is_not_published(bench, monkeypatch):
    robot, made = Robot(bench, "husky").moving(), []
    work = robot.node.commanding
    tick = work.tick

    def stopped(now):
        command = tick(now)
        if not made:
            made.append(now)
            time.sleep(1.5 * robot.node.params.joint_state_gap)
        return command
    monkeypatch.setattr(work, "tick", stopped)
    bench.until(lambda: "stood still" in robot.statuses[-1].detail, "the reason")
    bench.until(lambda: robot.commands[-1].twist.linear.x == 0.0, "rest")
    assert made[0] not in map(convert.command_stamp, robot.commands)


def test_a_velocity_ends_when_joint_states_jump(bench):
    robot = Robot(bench, "husky").moving()
    bench.until(lambda: robot.commands[-1].twist.linear.x > 0, "motion", robot.measure)
    with robot.node._lock:  # so that the loop says nothing between the two
        current = robot.node.commanding.controller.current
        robot.joints.publish(convert.joint_message(replace(current, stamp=current.stamp + 10 * 10**9)))
    bench.until(lambda: robot.node.commanding.controller.current.stamp > current.stamp, "the jump")
    bench.until(lambda: robot.commands[-1].twist.linear.x == 0.0, "rest")
    speeds = [c.twist.linear.x for c in robot.commands]
    assert np.abs(np.diff(speeds)).max() <= HUSKY.limits.v_acceleration / HUSKY.control_rate + 1e-9, "it brakes"
    bench.until(lambda: robot.node.commanding._rested > 30, "silence")
    count = len(robot.commands)
    robot.some_statuses(meanwhile=lambda: None)
    assert len(robot.commands) == count and robot.statuses[-1].state == ControlStatus.HALTED


def test_a_node_whose_loop_has_ended_does_not_claim_to_live(bench, monkeypatch):
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    robot = Robot(bench)
    robot.node.commanding.controller = None  # what comes next in the loop is an error that nobody foresaw
    with pytest.raises(RuntimeError, match="the control loop has ended"):
        bench.until(lambda: False, "the end")


def profile_file(folder: Path, interface: str) -> Path:
    data = yaml.safe_load((config_folder() / "robots" / "panda.yaml").read_text())
    data["command"] = {"interface": interface, "topic": "arm_controller/commands"}
    file = folder / f"{interface}.yaml"
    file.write_text(yaml.safe_dump(data))
    return file


@pytest.mark.parametrize("interface", ["position", "velocity"])
def test_streamed_arrays(bench, tmp_path, interface):
    robot = Robot(bench, profile_file(tmp_path, interface)).moving()
    bench.until(lambda: len(robot.commands) > 10, "commands", robot.measure)
    rows = np.array([c.data for c in robot.commands])
    assert rows.shape[1] == 9 and np.isfinite(rows).all()
    near_home = np.abs(rows[:, :7] - PANDA.home).max() < 0.2
    assert near_home == (interface == "position"), "targets, or speeds"
    robot.holding()
    before = len(robot.commands)
    bench.until(lambda: len(robot.commands) > before + 5, "holding", robot.measure)
    assert (np.array(robot.commands[-1].data) == 0).all() == (interface == "velocity")


def test_a_base_slows_down_and_is_told_to_stand_still_at_the_end(bench):
    robot = Robot(bench, "husky").moving()
    bench.until(lambda: max((c.twist.linear.x for c in robot.commands), default=0) > 0.19, "speed", robot.measure)
    assert robot.commands[-1].header.frame_id == "base_link"
    speeds = [c.twist.linear.x for c in robot.commands]
    assert np.abs(np.diff(speeds)).max() <= HUSKY.limits.v_acceleration / 60 + 1e-9
    robot.node.close()
    bench.until(lambda: robot.commands[-1].twist.linear.x == 0.0, "the last word")


def test_diagnostics(bench):
    robot = Robot(bench)
    heard = bench.listen(DiagnosticArray, "/diagnostics")
    robot.moving()
    bench.until(lambda: len(heard) > 1, "diagnostics", robot.measure)
    figures = {v.key: v.value for v in heard[-1].status[0].values}
    assert {"interventions", "overruns"} <= figures.keys()
    for stage in ("period", "latency", "schedule", "command"):
        p50, p95, p99 = (float(figures[f"{stage} {share} [ms]"]) for share in ("p50", "p95", "p99"))
        assert 0 < p50 <= p95 <= p99


def test_diagnostics_count_by_kind_what_was_clamped_and_what_was_ignored(bench):
    robot = Robot(bench, "husky")
    heard = bench.listen(DiagnosticArray, "/diagnostics")
    robot.say("go")
    bench.until(lambda: robot.node.ignored["joints"], "what was ignored",
                lambda: robot.joints.publish(JointState(name=["elbow"], position=[0.0])))
    robot.offer(np.tile([5.0, 0.0], (8, 1)))
    bench.until(lambda: robot.node.commanding.interventions["v"], "a clamped command", robot.measure)
    heard.clear()
    figures = bench.until(lambda: heard and {v.key: v.value for v in heard[-1].status[0].values}, "figures",
                          robot.measure)
    assert int(figures["intervention: v"]) >= 1 and "intervention: w" not in figures
    assert int(figures["joint states refused: joints"]) >= 1


@pytest.mark.parametrize("splice", ["switch", "blend"])
def test_how_far_chunks_are_apart_where_they_meet_is_published(bench, splice):
    """In lockstep, where the second chunk is in time on any machine; the arm stands still, so that they differ."""
    robot = Robot(bench, lockstep=True, execute_steps=1, splice=splice)
    heard = bench.listen(DiagnosticArray, "/diagnostics")
    robot.words.publish(String(data="go"))
    bench.until(lambda: robot.statuses and robot.statuses[-1].instruction == "go", "words")
    joints = Joints(dict(zip(PANDA.joints, PANDA.home, strict=True)) | dict.fromkeys(PANDA.gripper.joints, 0.02), {}, 0)
    for tick in range(7):
        stamp = 10**9 + round(tick * 1e9 / 60)
        if tick % 6 == 0:
            robot.chunks.publish(convert.chunk_message(Chunk(MOVES["panda"], PANDA.action, stamp), "go", tick))
        robot.joints.publish(convert.joint_message(replace(joints, stamp=stamp)))
        bench.until(lambda tick=tick: len(robot.commands) == tick + 1, f"command {tick}")
    status = bench.until(lambda: robot.statuses[-1].seam_max > 0 and robot.statuses[-1], "a seam")
    assert status.seam_p50 == status.seam_p95 == status.seam_max, "there is one"
    heard.clear()
    figures = bench.until(lambda: heard and {v.key: v.value for v in heard[-1].status[0].values}, "figures")
    assert float(figures["seam gap max [rad]"]) == pytest.approx(status.seam_max, rel=1e-5)
    assert (float(figures["seam jump max [rad]"]) > 0) == (splice == "switch")


def test_a_splice_that_is_not_known_is_refused_by_name(bench):
    with pytest.raises(UnknownNameError, match="splice 'average'; available: blend, ensemble, switch"):
        bench.start(control_node.ControlNode, splice="average")


def test_lockstep_answers_each_joint_state_once(bench):
    robot = Robot(bench, lockstep=True, execute_steps=1)
    def at(stamp):
        robot.joints.publish(convert.joint_message(replace(joints, stamp=stamp)))
    joints = Joints(dict(zip(PANDA.joints, PANDA.home, strict=True)) | dict.fromkeys(PANDA.gripper.joints, 0.02), {}, 0)
    robot.words.publish(String(data="go"))
    bench.until(lambda: robot.statuses and robot.statuses[-1].instruction == "go", "words")
    robot.chunks.publish(convert.chunk_message(Chunk(MOVES["panda"], PANDA.action, 10**9), "go", 0))
    for tick in range(6):
        stamp = 10**9 + round(tick * 1e9 / 60)
        at(stamp)
        at(stamp)
        bench.until(lambda tick=tick: len(robot.commands) == tick + 1, f"command {tick}")
        assert convert.command_stamp(robot.commands[-1]) == stamp
    at(10**9 + 10**8)
    robot.some_statuses(meanwhile=lambda: None)
    assert len(robot.commands) == 6, "the next observation is to be answered first"
    robot.chunks.publish(convert.chunk_message(Chunk(MOVES["panda"], PANDA.action, 10**9 + 10**8), "go", 1))
    bench.until(lambda: len(robot.commands) == 7, "the command after its chunk")
