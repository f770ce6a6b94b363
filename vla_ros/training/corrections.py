"""Corrections: roll-outs of the model itself, whose frames the expert labels afterwards (DAgger, Ross et al. 2011)."""

from __future__ import annotations

import multiprocessing
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from vla_ros.control import Controller
from vla_ros.errors import ActionError
from vla_ros.policies.native import NativePolicy
from vla_ros.policy import Policy
from vla_ros.profile import load_profile
from vla_ros.sim.bullet import BulletWorld
from vla_ros.sim.tasks import get_task
from vla_ros.training import recording
from vla_ros.training.demos import EPISODES_A_SHARD, begin
from vla_ros.types import Command

FIRST_SEED = 2_000_000  # apart from the demonstrations' seeds, and far from those of evaluation
ROUND_SEEDS = 1_000_000


@dataclass(frozen=True)
class RollOut:
    """One file of roll-outs of a checkpoint."""

    checkpoint: Path
    file: Path
    task: str
    seed: int
    count: int


def collect_corrections(checkpoint: Path, folder: Path, tasks: list[str], episodes: int, number: int,
                        jobs: int) -> None:
    """Writes what is missing of round `number`: `episodes` episodes a task."""
    folder.mkdir(parents=True, exist_ok=True)
    first = FIRST_SEED + number * ROUND_SEEDS
    wanted = [RollOut(checkpoint, folder / f"{task}-{start:06d}.npz", task, first + start,
                      min(EPISODES_A_SHARD, episodes - start))
              for task in tasks for start in range(0, episodes, EPISODES_A_SHARD)]
    missing = [w for w in wanted if not w.file.exists()]
    solved = done = 0
    with multiprocessing.get_context("spawn").Pool(jobs) as pool, \
            tqdm(total=sum(w.count for w in missing), unit="episode", desc=folder.name) as bar:
        for count, successes in pool.imap_unordered(write, missing):
            done, solved = done + count, solved + successes
            bar.set_postfix_str(f"success {solved / done:.2f}")
            bar.update(count)


def write(rollout: RollOut) -> tuple[int, int]:
    """Simulates and saves one file; returns the number of episodes and of successes."""
    torch.set_num_threads(1)
    task = get_task(rollout.task)
    profile = load_profile(task.robot)
    policy = NativePolicy.load(rollout.checkpoint, profile)
    world = BulletWorld(profile, task, cameras=(recording.CAMERA,))
    frames, successes = [], 0
    for seed in range(rollout.seed, rollout.seed + rollout.count):
        begin(world, seed)
        frames += roll_out(world, policy, seed)
        successes += world.progress.success
    world.close()
    recording.save(rollout.file, frames)
    return rollout.count, successes


def roll_out(world: BulletWorld, policy: Policy, seed: int, steps: int = 0) -> list[dict]:
    """Frames of one episode, one each `steps` action steps, 0: at uneven times. A refusal, and what is no chunk or
    leads nowhere, is seen and held through."""
    rng = np.random.default_rng([seed, 2])
    controller = Controller(world.profile)
    policy.reset()
    frames: list[dict] = []
    while world.stamp < world.task.time_limit * 1e9 and not world.progress.success:
        observation = world.observe()
        frames.append(recording.frame(world, observation))
        controller.observe(world.joints())
        with suppress(ActionError):
            controller.accept(policy.infer(observation))
        for _ in range((steps or int(rng.integers(1, 5))) * world.profile.ticks_per_step):
            controller.observe(world.joints())
            world.step(commanded(controller, world.stamp))
    return frames


def commanded(controller: Controller, now: int) -> Command | None:
    """A command that is refused is followed by one on the way to rest."""
    try:
        return controller.tick(now).command
    except ActionError:
        return controller.tick(now).command
