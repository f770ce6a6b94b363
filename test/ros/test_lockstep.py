"""All nodes as processes, in lockstep: a recorded episode ends as it did in process, bit for bit, every time."""

from __future__ import annotations

import numpy as np
import pytest
from sensor_msgs.msg import JointState
from vla_ros.msg import TaskState

from vla_ros.bringup import sim_system
from vla_ros.errors import SimulationError
from vla_ros.evaluation.rollout import run_episode
from vla_ros.nodes import convert, qos
from vla_ros.nodes.domains import free_domain
from vla_ros.nodes.system import System
from vla_ros.policies.replay import ReplayPolicy
from vla_ros.profile import load_profile
from vla_ros.sim.bullet import BulletWorld
from vla_ros.sim.oracle import OraclePolicy
from vla_ros.sim.tasks import TASKS

READY = 90.0  # [s] on a busy machine


class Recorder(OraclePolicy):
    """The oracle, and what it answered."""

    def infer(self, observation):
        chunk = super().infer(observation)
        self.chunks.append(np.array(chunk.values))
        return chunk

    def reset(self):
        self.chunks = []


def record(task, seed, file):
    """An oracle's episode in process: its outcome, and the joints at its end."""
    profile = load_profile(TASKS[task].robot)
    world = BulletWorld(profile, TASKS[task])
    policy = Recorder(world)
    outcome = run_episode(world, policy, seed, TASKS[task])
    joints = world.joints()
    world.close()
    ReplayPolicy(np.stack(policy.chunks), profile.action, tuple(profile.cameras)).save(file)
    return outcome, joints


class Watch:
    """What a client hears of an episode, by stamp."""

    def __init__(self, client):
        self.client, self.joints, self.states = client, {}, {}
        client.subscribe(JointState, "joint_states", self._on_joints, qos.EVERY_TICK)
        client.subscribe(TaskState, "sim/task_state", self._on_state, qos.EVERY_TICK)

    def _on_joints(self, message):
        joints = convert.joint_state(message)
        self.joints[joints.stamp] = joints

    def _on_state(self, message):
        self.states[convert.nanoseconds(message.header.stamp)] = message

    def end(self, layout):
        """The task's state when it first showed success after a layout, and the joints of that moment."""
        def found():
            stamps = [s for s, m in self.states.items() if m.success and s >= layout.stamp]
            return min(stamps, default=None) in self.joints and min(stamps)
        assert self.client.spin_until(found, 10.0), "the success and its joint states"
        return self.states[found()], self.joints[found()]


@pytest.mark.parametrize("task, seed", [("pick", 5), ("drive", 2)])
def test_a_replayed_episode_is_the_same_through_all_nodes(tmp_path, task, seed):
    outcome, joints = record(task, seed, str(tmp_path / "episode.npz"))
    assert outcome.success
    robot = TASKS[task].robot
    description = sim_system(robot=robot, policy=f"replay:{tmp_path / 'episode.npz'}", mode="lockstep")
    with System(description, domain=free_domain()) as system:
        system.wait_ready(READY)
        with system.client() as client:
            watch, feedback = Watch(client), []
            with pytest.raises(SimulationError, match=f"unknown task for {robot} 'juggle'.*available: .*{task}"):
                client.reset("juggle", 0)
            for _ in range(2):
                layout = client.reset(task, seed)
                assert layout.instruction == outcome.instruction
                result = client.execute(layout.instruction, layout.time_limit, feedback.append, watch=system.check)
                assert result.outcome == "succeeded", result.message
                state, end = watch.end(layout)
                assert state.steps == round(outcome.seconds * 60) and state.elapsed == outcome.seconds
                assert state.distance == outcome.distance and state.seed == seed and state.task == task
                assert (end.positions, end.velocities) == (joints.positions, joints.velocities)
                assert result.chunks >= -(-state.steps // 24) and "total" in result.stages
            run_out(client, layout, system)
            cancel(client, layout, system)


def run_out(client, layout, system):
    """Without a task of these words in the simulator the recording ends, and the policy says so."""
    layout = client.reset(layout.task, 12345)
    result = client.execute(layout.instruction + " please", 60.0, watch=system.check)
    assert (result.outcome, result.message) == ("refused", "the recording has ended")


def cancel(client, layout, system):
    """A goal that is canceled ends, and what it moved comes to rest."""
    client.reset(layout.task, 12346)
    feedback = []
    result = client.execute("anything else", 60.0, feedback.append, lambda: bool(feedback), system.check)
    assert result.outcome == "canceled"
