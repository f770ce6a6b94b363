"""Closed-loop evaluation in process, in parallel: the same episodes whatever the number of workers."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

from vla_ros.bringup import THREADS
from vla_ros.errors import SimulationError
from vla_ros.evaluation.rollout import Outcome, run_episode
from vla_ros.policies import open_policy
from vla_ros.policy import Policy
from vla_ros.profile import load_profile
from vla_ros.sim.oracle import OraclePolicy
from vla_ros.sim.tasks import get_task
from vla_ros.sim.world import World


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
    with workers(min(jobs, len(todo)) or 1) as pool:
        futures = [pool.submit(run, policy, episode) for episode in todo]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            raise SimulationError("a worker died, for example of too little memory: use fewer --jobs") from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def workers(count: int) -> Iterator[ProcessPoolExecutor]:
    """Processes with one thread each. They are born with that: libraries count their threads when they are loaded."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(THREADS)
    try:
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(count, mp_context=spawn, initializer=prepare_worker) as pool:
            yield pool
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def prepare_worker() -> None:
    """Ctrl-C is the parent's to handle; an orphan ends itself."""
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
    from vla_ros.sim.bullet import BulletWorld  # only workers need the physics
    profile = load_profile(robot)
    if policy == OraclePolicy.name:
        world = BulletWorld(profile, cameras=OraclePolicy.cameras)
        return world, OraclePolicy(world)
    opened = open_policy(policy, profile)
    return BulletWorld(profile, cameras=opened.cameras), opened
