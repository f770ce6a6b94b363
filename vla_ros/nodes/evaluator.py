"""Evaluation through the ROS graph: all nodes in lockstep over DDS, with the seeds of the in-process evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vla_ros.bringup import THREADS, sim_system
from vla_ros.evaluation.evaluate import Episode
from vla_ros.evaluation.rollout import Outcome
from vla_ros.nodes import states
from vla_ros.nodes.client import Client, Executed, Layout
from vla_ros.nodes.domains import own_domain
from vla_ros.nodes.system import System
from vla_ros.nodes.watching import TaskWatch
from vla_ros.sim.tasks import get_task
from vla_ros.splicing import DEFAULT

ENDINGS = {states.SUCCEEDED: "success", states.REFUSED: "refused", states.TIMED_OUT: "time"}
# As in process, the policy itself has to stop when it is told to, and an episode ends by its task or its time alone.
TO_THE_END = {"stop_words": "none", "stall_time": 0.0, "no_progress_time": 0.0}
READY = 120.0  # [s] that the nodes may take to start
BEHIND = 30.0  # [s] that the states of the task may take to follow a result


def evaluate_through_ros(todo: Sequence[Episode], policy: str, splice: str = DEFAULT) -> Iterator[Outcome]:
    """Outcomes as they come: one system a robot, its episodes one after the other. splice: by name (splicing.py).

    The number of threads is that of the in-process workers, whatever the user set: it decides the order of sums.
    """
    for robot in dict.fromkeys(get_task(episode.task).robot for episode in todo):
        description = sim_system(robot=robot, policy=policy, mode="lockstep", splice=splice, **TO_THE_END)
        with (System(description, domain=own_domain(), environment=THREADS) as system,
              system.client("vla_eval") as client):
            client.wait_ready(description, READY, system.check)
            watch = TaskWatch(client)
            for episode in todo:
                if get_task(episode.task).robot == robot:
                    yield run(episode, system, client, watch)


def run(episode: Episode, system: System, client: Client, watch: TaskWatch) -> Outcome:
    """Raises ProcessError when a node ends."""
    layout = client.reset(episode.task, episode.seed)
    watch.begin(layout)
    executed = client.execute(layout.instruction, layout.time_limit, watch=system.check)
    if executed.outcome in (states.SUCCEEDED, states.TIMED_OUT):  # its state may be behind a result that overtook it
        client.spin_until(lambda: watch.decided(layout.time_limit), BEHIND, system.check)
    return outcome(episode, layout, executed, watch)


def outcome(episode: Episode, layout: Layout, executed: Executed, watch: TaskWatch) -> Outcome:
    """The nodes go on for a moment after the end: its time and distance are read from the states of the task."""
    ending = ENDINGS.get(executed.outcome, "fault")
    state = watch.success if ending == "success" else watch.last(layout.time_limit)
    seconds, distance = (state.elapsed, state.distance) if state else (executed.duration, float("nan"))
    return Outcome(episode.task, episode.seed, layout.instruction, ending == "success", ending, seconds, distance,
                   "" if ending == "success" else executed.message)
