"""Closed-loop evaluation in process, in parallel: the same episodes whatever the number of workers."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache

from vla_ros.bringup import THREADS
from vla_ros.errors import SimulationError
from vla_ros.evaluation.conditions import PLAIN, fitting, make_setting
from vla_ros.evaluation.rollout import Hook, Outcome, run_setting
from vla_ros.evaluation.scenes import Templates
from vla_ros.policies import open_policy
from vla_ros.policy import Policy
from vla_ros.profile import load_profile
from vla_ros.sim.oracle import OraclePolicy
from vla_ros.sim.tasks import get_task
from vla_ros.sim.world import World
from vla_ros.splicing import DEFAULT


@dataclass(frozen=True)
class Episode:
    """What to run: a task, the seed of its layout, and what is changed about it."""

    task: str
    seed: int
    condition: str = PLAIN

    @property
    def key(self) -> tuple[str, int, str]:
        return self.task, self.seed, self.condition


@dataclass(frozen=True)
class Options:
    """templates: of the condition 'wordings', None for the shipped ones; thinking: [s], splice: as in run_setting."""

    templates: Templates = None
    thinking: float | None = None
    splice: str = DEFAULT


USUAL = Options()


def episodes(tasks: Sequence[str], count: int, first: int, conditions: Sequence[str] = (PLAIN,),
             templates: Templates = None) -> list[Episode]:
    """By seed, from `first` on, so that an interrupted run says something of each.

    Plain: `count` seeds for each task; another condition: `count` in all, in turn for the tasks where it makes sense.
    """
    made = []
    for condition in conditions:
        able = fitting(condition, tasks, templates)
        if condition == PLAIN:
            made += [Episode(task, seed) for seed in range(first, first + count) for task in tasks]
        elif able:
            made += [Episode(able[i % len(able)], first + i, condition) for i in range(count)]
    return sorted(made, key=lambda episode: episode.seed)


def evaluate(todo: Sequence[Episode], policy: str, jobs: int, options: Options = USUAL) -> Iterator[Outcome]:
    """Outcomes of `todo` as they come. policy: a name of policies.open_policy, or 'oracle'."""
    return spread(run, todo, policy, jobs, options)


def spread(call: Callable, todo: Sequence[Episode], policy: str, jobs: int, options: Options = USUAL) -> Iterator:
    """What call(policy, episode, options) returns, as it comes, from `jobs` processes with one thread each.

    Raises what a worker raised; ends the workers in any case.
    """
    with workers(min(jobs, len(todo)) or 1) as pool:
        futures = [pool.submit(call, policy, episode, options) for episode in todo]
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


def run(policy: str, episode: Episode, options: Options = USUAL, on_step: Hook | None = None) -> Outcome:
    """One episode, in the worker's own world of that robot."""
    world, opened = stage(policy, get_task(episode.task).robot)
    setting = make_setting(episode.task, episode.seed, episode.condition, options.templates)
    outcome = run_setting(world, opened, setting, thinking=options.thinking, on_step=on_step,
                          splice=options.splice)
    return replace(outcome, condition=episode.condition)


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
