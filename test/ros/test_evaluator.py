"""The evaluation through the ROS graph ends as the one in process does, at the same simulated moment; traces add up."""

import numpy as np
import pytest

pytest.importorskip("vla_ros.msg", reason="needs ROS 2 and the interfaces: run `make`")

from vla_ros.msg import ActionChunk, TaskState  # noqa: E402

from vla_ros.evaluation.evaluate import Episode, evaluate  # noqa: E402
from vla_ros.evaluation.rollout import run_episode  # noqa: E402
from vla_ros.evaluation.scores import agreement  # noqa: E402
from vla_ros.nodes import convert  # noqa: E402
from vla_ros.nodes.client import Executed, Layout  # noqa: E402
from vla_ros.nodes.domains import free_domain, is_free, own_domain  # noqa: E402
from vla_ros.nodes.evaluator import evaluate_through_ros, run  # noqa: E402
from vla_ros.nodes.tracing import WHOLE, figures, trace  # noqa: E402
from vla_ros.nodes.watching import TaskWatch  # noqa: E402
from vla_ros.policies.replay import ReplayPolicy  # noqa: E402
from vla_ros.profile import load_profile  # noqa: E402
from vla_ros.sim.bullet import BulletWorld  # noqa: E402
from vla_ros.sim.oracle import OraclePolicy  # noqa: E402
from vla_ros.sim.tasks import get_task  # noqa: E402


class Recorded(OraclePolicy):
    """The oracle, keeping what it answers."""

    def reset(self):
        self.chunks = []

    def infer(self, observation):
        chunk = super().infer(observation)
        self.chunks.append(chunk.values)
        return chunk


@pytest.mark.parametrize("task,seed", [("pick", 3), ("drive", 1), ("stop", 0)])
def test_a_recorded_episode_ends_alike_on_both_paths(tmp_path, task, seed):
    profile = load_profile(get_task(task).robot)
    world = BulletWorld(profile, cameras=())
    oracle = Recorded(world)
    expert = run_episode(world, oracle, seed, get_task(task))
    replay = ReplayPolicy(np.array(oracle.chunks), profile.action, ())
    in_process = run_episode(world, replay, seed, get_task(task))
    world.close()
    assert expert.success and in_process == expert
    file = str(tmp_path / "recording.npz")
    replay.save(file)
    through_ros = list(evaluate_through_ros([Episode(task, seed)], f"replay:{file}"))
    made = agreement(through_ros, {in_process.key: in_process})
    assert (made["same"], made["same_moment"]) == (1, 1), made["differences"]
    assert through_ros[0].distance == pytest.approx(in_process.distance)


def test_the_shipped_models_do_what_they_are_told_on_both_paths():
    """Cameras, words, model, commands and physics in a loop: most episodes succeed, and all end alike."""
    todo = [Episode(task, seed) for task, seed in (("reach", 0), ("reach", 1), ("drive", 0))]
    in_process = {o.key: o for o in evaluate(todo, "native", jobs=1)}
    made = agreement(through_ros := list(evaluate_through_ros(todo, "native")), in_process)
    assert (made["same"], made["same_moment"]) == (3, 3), made["differences"]
    assert sum(o.success for o in through_ros) >= 2


def test_a_recording_that_ends_too_soon_is_a_refusal_on_both_paths(tmp_path):
    profile = load_profile("panda")
    replay = ReplayPolicy(np.zeros((2, 8, 4)), profile.action, ())
    world = BulletWorld(profile, cameras=())
    in_process = run_episode(world, replay, 0, get_task("reach"))
    world.close()
    file = str(tmp_path / "recording.npz")
    replay.save(file)
    through_ros = list(evaluate_through_ros([Episode("reach", 0)], f"replay:{file}"))[0]
    assert through_ros.ending == in_process.ending == "refused" and through_ros.detail == in_process.detail


class Overtaken:
    """A client that gets the result while the last states of the task are still on their way."""

    def __init__(self, ending, *states):
        self.ending, self.states = ending, states

    def subscribe(self, kind, topic, callback, profile):
        self.hear = callback

    def reset(self, task, seed):
        return Layout(task, "go", 8.0, 10**9)

    def execute(self, words, limit, watch):
        self.hear(TaskState(elapsed=3.0, success=True))  # of the layout before
        self.hear(TaskState(header=convert.header(2 * 10**9), elapsed=1.0, distance=0.5))
        return Executed(self.ending, "", 0.0, 0.0, 1, {})

    def spin_until(self, condition, timeout, watch):
        for elapsed, distance, success in self.states:
            assert not condition()
            self.hear(TaskState(header=convert.header(round((1 + elapsed) * 1e9)), elapsed=elapsed, distance=distance,
                                success=success))
        return condition()

    def check(self):
        """Every process lives."""


@pytest.mark.parametrize("ending, states, seconds, distance", [
    ("succeeded", [(2.0, 0.1, False), (2.5, 0.0, True)], 2.5, 0.0),
    ("timed out", [(8.0, 0.3, False), (8.1, 0.2, False)], 8.0, 0.3)])
def test_an_outcome_waits_for_the_state_that_decided(ending, states, seconds, distance):
    client = Overtaken(ending, *states)
    made = run(Episode("reach", 0), client, client, TaskWatch(client))
    assert made.success == (ending == "succeeded") and (made.seconds, made.distance) == (seconds, distance)


def test_the_parts_of_a_trace_add_up_to_its_total():
    stages = {"age": 9.0, "wait": 9.0, "convert": 0.002, "look": 0.004, "act": 0.006, "total": 9.0}
    made = trace(10.0, 10.01, 10.05, 10.06, ActionChunk(stages=list(stages), seconds=list(stages.values())))
    assert made.total == pytest.approx(0.06) == pytest.approx(sum(made.parts.values()))
    assert made.model == {"look": 0.004, "act": 0.006} and made.parts["model"] == pytest.approx(0.01)
    assert min(made.parts.values()) > 0
    shown = figures([made, made])
    assert shown[WHOLE] == pytest.approx((0.06, 0.06)) and shown["model: act"] == pytest.approx((0.006, 0.006))


def test_a_domain_of_ones_own_unless_the_user_chose(monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", "7")
    assert own_domain() is None
    monkeypatch.delenv("ROS_DOMAIN_ID")
    assert 1 <= own_domain() <= 99


def test_a_port_in_use_is_not_free():
    import socket
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("", 0))
        assert not is_free(taken.getsockname()[1])
    assert 1 <= free_domain() <= 99
