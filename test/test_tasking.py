"""How an execution ends, without ROS."""

from __future__ import annotations

import pytest

from vla_ros.nodes.progress import Progress
from vla_ros.nodes.tasking import Board, Execution, Report, TaskReport

S = 10**9


class Bench:
    """A board of nodes that are well, and an execution on it. Steady time and ROS time run together from 100 s."""

    def __init__(self, words="go", limit=10.0, patience=0.0):
        self.board, self.clock = Board(), 100.0
        self.policy(instruction="")
        self.control(instruction="")
        self.execution = Execution(words, limit, 5.0, self.board, self.ros, self.clock, Progress(patience))

    @property
    def ros(self):
        return round(self.clock * S)

    def policy(self, state="running", instruction="go", detail=""):
        self.board.policy = Report(state, instruction, detail, self.clock)

    def control(self, state="executing", instruction="go", detail=""):
        self.board.control = Report(state, instruction, detail, self.clock)

    def task(self, success=False, distance=1.0, instruction="go", stamp=None):
        self.board.task = TaskReport(self.ros if stamp is None else stamp, instruction, success, distance, self.clock)
        return self.execution.task(self.board.task)

    def chunk(self, instruction="go", refusal="", stamp=None, done=False):
        stamp = self.ros if stamp is None else stamp
        return self.execution.chunk(instruction, stamp, refusal, "", {"total": 0.05}, self.clock, done)

    def check(self, seconds=0.0, alive=True):
        """After some time in which the nodes go on speaking."""
        self.clock += seconds
        if alive:
            self.policy(self.board.policy.state, self.board.policy.instruction, self.board.policy.detail)
            self.control(self.board.control.state, self.board.control.instruction, self.board.control.detail)
        return self.execution.check(self.ros, self.clock)

    def started(self):
        self.policy()
        self.control()
        assert self.check() is None and self.execution.running
        assert self.chunk() is None
        return self


def test_the_words_are_wanted_until_both_nodes_have_them():
    bench = Bench()
    assert bench.execution.wanted == "go" and bench.check() is None
    bench.policy()
    assert bench.check() is None and not bench.execution.running
    bench.control()
    assert bench.check() is None and bench.execution.running


def test_words_that_are_in_force_are_taken_back_first():
    bench = Bench()
    bench.policy()
    bench.control()
    bench.execution = Execution("go", 10.0, 5.0, bench.board, bench.ros, bench.clock)
    assert bench.execution.wanted == ""
    assert bench.chunk(refusal="of before") is None and bench.check() is None
    bench.policy(instruction="")
    bench.control(instruction="")
    assert bench.check() is None and bench.execution.wanted == "go"


def test_a_node_that_does_not_take_the_words():
    bench = Bench()
    bench.policy()
    assert bench.check(4.0) is None
    verdict = bench.check(1.1)
    assert verdict.outcome == "halted" and verdict.message.endswith("by the control node")


def test_success_is_the_tasks_own_and_of_this_execution():
    bench = Bench().started()
    assert bench.task(success=True, stamp=bench.ros) is None, "the first observation's moment is not its effect"
    bench.clock += 1
    assert bench.task(success=True, instruction="other words") is None
    assert bench.task(distance=0.4) is None
    assert bench.task(distance=0.1) is None and bench.execution.progress == pytest.approx(0.75)
    assert bench.task(success=True).outcome == "succeeded"


def test_success_before_the_first_chunk_is_not_ours():
    bench = Bench()
    assert bench.task(success=True) is None


def test_the_time_limit_is_by_the_tasks_stamps_to_the_nanosecond():
    for late, outcome in ((0, "succeeded"), (1, "timed out")):
        bench = Bench().started()
        first = bench.ros
        bench.clock += 11
        assert bench.task(distance=0.5, stamp=first + 9 * S) is None
        assert bench.check() is None, "the clock alone does not end it: the state that came in time may be on its way"
        assert bench.task(success=True, stamp=first + 10 * S + late).outcome == outcome


def test_the_time_limit_without_a_simulated_task():
    bench = Bench().started()
    assert bench.check(9.9) is None and bench.check(0.2).outcome == "timed out"
    bench = Bench()
    bench.policy()
    bench.control()
    bench.check()
    assert bench.check(10.1).outcome == "timed out", "also when no chunk ever came"


def test_a_policy_that_says_for_a_while_that_it_is_done_is_believed_where_nobody_judges():
    bench = Bench().started()
    begin = bench.ros
    at = [begin + round(seconds * 1e9) for seconds in (0.1, 0.9, 1.0, 1.5, 2.1)]
    assert bench.chunk(stamp=at[0], done=True) is None and bench.chunk(stamp=at[1], done=True) is None
    assert bench.chunk(stamp=at[2]) is None, "it moved again"
    assert bench.chunk(stamp=at[3], done=True) is None
    assert bench.chunk(stamp=at[3] + round(0.99e9), done=True) is None
    verdict = bench.chunk(stamp=at[3] + round(1e9), done=True)
    assert verdict.outcome == "succeeded" and "own account" in verdict.message


@pytest.mark.parametrize("state, words", [("failed", "go"), ("no progress", "go"), ("executing", "")])
def test_what_is_not_executed_is_not_done(state, words):
    bench = Bench().started()
    bench.control(state, instruction=words)
    bench.chunk(stamp=bench.ros, done=True)
    assert bench.chunk(stamp=bench.ros + round(2e9), done=True) is None


def test_a_simulated_task_knows_better_than_a_policy_that_says_that_it_is_done():
    for judged, outcome in (("go", None), ("something else", "succeeded")):
        bench = Bench().started()
        bench.task(instruction=judged)
        assert bench.chunk(stamp=bench.ros, done=True) is None
        verdict = bench.chunk(stamp=bench.ros + round(2e9), done=True)
        assert (verdict and verdict.outcome) == outcome


def test_refused_by_chunk_or_by_status():
    bench = Bench().started()
    verdict = bench.chunk(refusal="no cube")
    assert (verdict.outcome, verdict.message) == ("refused", "no cube")
    bench = Bench().started()
    bench.policy("refused", detail="no cube")
    assert bench.check().outcome == "refused"


def test_stopped_at_once_and_failed_after_a_moment():
    bench = Bench().started()
    bench.control("stopped", "", "vla/stop is latched")
    assert bench.check().outcome == "halted"
    bench = Bench()
    bench.control("stopped", "", "vla/stop is latched")
    assert bench.check().outcome == "halted"
    bench = Bench().started()
    bench.policy("failed", detail="out of memory")
    assert bench.check() is None and bench.check(0.9) is None
    bench.policy()
    assert bench.check(0.2) is None, "one failure is not the end"
    bench.policy("failed", detail="out of memory")
    assert bench.check() is None
    verdict = bench.check(1.1)
    assert verdict.outcome == "halted" and "policy node: out of memory" in verdict.message


@pytest.mark.parametrize("reason", ["late: the chunk came 0.90 s after its observation",
                                    "joint states are 0.310 s old", "finite: command is not finite"])
def test_a_halt_carries_the_control_nodes_reason(reason):
    bench = Bench().started()
    bench.control("failed", detail=reason)
    assert bench.check() is None
    verdict = bench.check(1.1)
    assert (verdict.outcome, verdict.message) == ("halted", f"control node: {reason}")


def test_an_arm_in_one_place_makes_no_progress_where_no_simulated_task_knows_better():
    for judged, outcome in (("go", None), ("something else", "no progress")):
        bench = Bench().started()
        bench.task(instruction=judged)
        bench.control("no progress", instruction="other words")
        assert bench.check() is None
        bench.control("no progress", detail="no joint has left its place")
        verdict = bench.check()
        assert (verdict and verdict.outcome) == outcome


def test_stalled_at_once_and_only_about_these_words():
    bench = Bench().started()
    bench.control("stalled", instruction="other words", detail="no joint moves")
    assert bench.check() is None
    bench.control("stalled", detail="no joint moves")
    verdict = bench.check()
    assert (verdict.outcome, verdict.message) == ("stalled", "no joint moves")


def test_no_progress_by_the_tasks_own_stamps():
    bench = Bench(patience=3.0).started()
    for seconds, distance in ((0.5, 0.4), (2.0, 0.3), (2.9, 0.5)):
        bench.clock += seconds
        assert bench.task(distance=distance) is None
    bench.clock += 0.2
    assert bench.task(distance=0.1, instruction="other words") is None and bench.check() is None
    verdict = bench.task(distance=0.5)
    assert verdict.outcome == "no progress" and "no nearer than 0.300 m for 3 s" in verdict.message
    assert bench.task(distance=0.0, success=True).outcome == "succeeded", "what is done has made it"


class StopBench(Bench):
    """Words that mean stop."""

    def __init__(self):
        super().__init__("halt")
        self.begin()

    def begin(self):
        self.clock += 1
        self.execution = Execution("halt", 10.0, 5.0, self.board, self.ros, self.clock, stops=True)

    def hold(self, instruction="halt"):
        self.control("held", instruction, f"told to stop: '{instruction}'")


def test_words_that_mean_stop_are_done_when_the_control_node_holds():
    bench = StopBench()
    assert bench.execution.wanted == "halt"
    bench.clock += 4.9
    assert bench.check(alive=False) is None, "the policy node is silent"
    assert bench.chunk("halt", refusal="no such thing") is None, "it need not understand"
    bench.hold()
    verdict = bench.check(alive=False)
    assert (verdict.outcome, verdict.message) == ("succeeded", "told to stop: 'halt'")
    bench.control("stopped", "", "vla/stop is latched")
    assert bench.check().outcome == "succeeded", "it does not move either"


def test_a_hold_of_before_or_of_other_words_is_not_ours():
    bench = StopBench()
    bench.hold()
    bench.policy(instruction="halt")
    bench.begin()
    assert bench.execution.wanted == "halt" and bench.check(alive=False) is None, "nothing was heard since"
    bench.hold("freeze")
    assert bench.check() is None
    verdict = bench.check(5.1)
    assert (verdict.outcome, verdict.message) == ("halted", "the control node has not said within 5 s that it holds")


def test_whoever_says_stop_ends_the_goal_also_before_its_words_are_in_force():
    bench = Bench()
    assert bench.execution.told("go", False) is None and bench.execution.told("", False) is None
    assert bench.execution.told("touch the ball", False) is None, "the nodes say whether these came into force"
    verdict = bench.execution.told("stop", True)
    assert (verdict.outcome, verdict.message) == ("canceled", "told to stop: 'stop'")
    assert StopBench().execution.told("halt", True) is None


@pytest.mark.parametrize("name", ["policy", "control", "task"])
def test_a_node_that_falls_silent(name):
    bench = Bench().started()
    bench.task()
    bench.clock += 5.1
    for other in {"policy", "control"} - {name}:
        getattr(bench, other)()
    if name != "task":
        bench.task()
    verdict = bench.check(alive=False)
    assert verdict.outcome == "halted" and "nothing heard" in verdict.message


def test_another_instruction_or_one_that_is_lost():
    bench = Bench().started()
    bench.policy(instruction="something else")
    assert bench.check() is None
    verdict = bench.check(1.1)
    assert verdict.outcome == "canceled" and "something else" in verdict.message
    bench = Bench().started()
    bench.control("idle", "")
    assert bench.check() is None and bench.check(1.1).outcome == "halted"


def test_what_the_feedback_says():
    bench = Bench()
    assert bench.execution.phase == "waiting" and bench.execution.progress == 0.0
    bench.started()
    assert bench.execution.phase == "running" and bench.execution.latency == 0.05
    bench.control("holding")
    assert bench.execution.phase == "holding"
    bench.clock += 2
    assert bench.execution.elapsed(bench.ros) == pytest.approx(2.0)
    bench.task(distance=0.0)
    assert bench.execution.progress == 0.0, "nothing was left to do from the start"
