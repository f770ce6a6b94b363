"""Closed-loop evaluation in process, in parallel: the same episodes whatever the number of workers."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache

from vla_ros.errors import SimulationError
from vla_ros.evaluation.rollout import Outcome, run_episode
from vla_ros.policies import open_policy
from vla_ros.policy import Policy
from vla_ros.profile import load_profile
from vla_ros.sim.bullet import BulletWorld
from vla_ros.sim.oracle import OraclePolicy
from vla_ros.sim.tasks import get_task
from vla_ros.sim.world import World

# Environment of what runs a policy: more threads help no model that answers one image, and starve each other; and the
# number of threads decides the order of sums, so that both paths of an evaluation have to have the same.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Episode:
    """What to run: a task and the seed of its layout."""

    task: str
    seed: int


def episodes(tasks: Sequence[str], count: int, first: int) -> list[Episode]:
    """`count` seeds from `first` on for each task, interleaved, so that an interrupted run says something of each."""
    return [Episode(task, seed) for seed in range(first, first + count) for task in tasks]


def evaluate(todo: Sequence[Episode], policy: str, jobs: int) -> Iterator[Outcome]:
    """Outcomes of `todo` as they come, from `jobs` processes with one thread each.

    policy: a name of policies.open_policy, or 'oracle'. Raises what a worker raised; ends the workers in any case.
    """
    context = multiprocessing.get_context("spawn")
    workers = min(jobs, len(todo)) or 1
    with ProcessPoolExecutor(workers, mp_context=context, initializer=prepare_worker) as pool:
        futures = [pool.submit(run, policy, episode) for episode in todo]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            raise SimulationError("a worker died, for example of too little memory: use fewer --jobs") from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def prepare_worker() -> None:
    """Before anything heavy is imported: one thread each; Ctrl-C is the parent's to handle; an orphan ends itself."""
    os.environ.update(ONE_THREAD)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()


def end_with_parent() -> None:
    """Waits for the death of the process that started this one: the pool's queues do not tell of it."""
    multiprocessing.parent_process().join()
    os._exit(1)


def run(policy: str, episode: Episode) -> Outcome:
    """One episode, in the worker's own world of that robot."""
    world, opened = stage(policy, get_task(episode.task).robot)
    return run_episode(world, opened, episode.seed, get_task(episode.task))


@cache
def stage(policy: str, robot: str) -> tuple[World, Policy]:
    """World and policy of a robot, kept for the worker's life. The world renders only what the policy looks at."""
    profile = load_profile(robot)
    if policy == OraclePolicy.name:
        world = BulletWorld(profile, cameras=OraclePolicy.cameras)
        return world, OraclePolicy(world)
    opened = open_policy(policy, profile)
    return BulletWorld(profile, cameras=opened.cameras), opened
