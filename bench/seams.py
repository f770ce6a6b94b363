"""Where one chunk meets the next: what each way of splicing them does to an arm, under delays.

    .venv/bin/python bench/seams.py --tasks reach,push,pick --episodes 20 --journal out/seams.jsonl

The clock runs, and each chunk arrives the delay after its observation, the inference included. As ratios, of the joint
that is largest: the gap between two chunks at their seam, the jump that is left of it in what is commanded there, and
the step from any command to the next, to the way of a control period at the velocity limit; the acceleration of what is
commanded to the limit of acceleration. An interrupted run goes on from its journal, and one with more episodes takes
from it what is there.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from vla_ros.bringup import THREADS
from vla_ros.cli import at_least
from vla_ros.errors import ConfigError, VlaError
from vla_ros.evaluation.table import table
from vla_ros.splicing import SPLICES, get_splice

ACCELERATION = np.array([15.0, 7.5, 10.0, 12.5, 15.0, 20.0, 20.0])  # [rad/s^2] the Panda's, by its maker
KEYS = ("splice", "delay", "task", "seed")
COLUMNS = {"gap_p50": "gap p50", "gap_p95": "p95", "gap_max": "max", "jump_p50": "jump p50", "jump_p95": "p95",
           "jump_max": "max", "step_max": "step max", "acceleration_p95": "acceleration p95", "acceleration_max": "max"}


class Watch:
    """Called with every tick of an episode of an arm."""

    def __init__(self, profile, max_velocity: np.ndarray):
        self.joints, self.rate, self.reach = profile.joints, profile.control_rate, max_velocity / profile.control_rate
        self.gaps: list[float] = []  # [rad]
        self.jumps: list[float] = []  # [rad]
        self.commands: list[np.ndarray] = []  # (N,) [rad]
        self.held = 0  # ticks without a step between two with one
        self._gap = 0

    def __call__(self, world, moved) -> None:
        if moved.command is None:
            return
        self.commands.append(np.array([moved.command.positions[joint] for joint in self.joints]))
        if moved.seam is not None:
            self.gaps.append(moved.seam.gap)
            self.jumps.append(moved.seam.jump)
        if moved.step is None:
            self._gap += 1
        else:
            self.held, self._gap = self.held + self._gap, 0

    def figures(self) -> dict:
        """Ratios; those of a seam are to the slowest joint's way, so that they are never too small."""
        commands = np.reshape(self.commands, (-1, len(self.joints)))
        steps = np.abs(np.diff(commands, axis=0)) / self.reach
        changes = np.abs(np.diff(commands, n=2, axis=0)) * self.rate**2 / ACCELERATION
        way = self.reach.min()
        spread = np.percentile(changes.max(1), range(0, 101, 5)).round(3).tolist() if len(changes) else []
        return {"gaps": [round(g / way, 4) for g in self.gaps], "jumps": [round(j / way, 4) for j in self.jumps],
                "ticks": len(self.commands), "held": self.held, "step": float(steps.max(initial=0.0)),
                "accelerations": spread}


def episode(policy_name: str, splice: str, delay: float, task_name: str, seed: int, execute_steps: int) -> dict:
    """One line of the journal. delay: [s]"""
    from vla_ros.evaluation.conditions import make_setting
    from vla_ros.evaluation.evaluate import stage
    from vla_ros.evaluation.rollout import run_setting
    from vla_ros.kinematics import ArmKinematics
    from vla_ros.sim.tasks import get_task
    world, policy = stage(policy_name, get_task(task_name).robot)
    if world.profile.kind != "arm":
        raise ConfigError(f"task '{task_name}' moves a base: seams are measured on an arm")
    watch = Watch(world.profile, ArmKinematics(world.profile).max_velocity)
    setting = replace(make_setting(task_name, seed), latency=delay)
    ended = run_setting(world, policy, setting, execute_steps, thinking=0.0, on_step=watch, splice=splice)
    return {"splice": splice, "delay": delay, "task": task_name, "seed": seed, "success": ended.success,
            "ending": ended.ending, "seconds": ended.seconds, **watch.figures()}


def summary(lines: Sequence[dict]) -> dict:
    """Of the episodes of one splice and delay. accelerations: percentiles of ticks, averaged over the episodes."""
    gaps, jumps = ([value for line in lines for value in line[key]] or [0.0] for key in ("gaps", "jumps"))
    accelerations = np.array([line["accelerations"] for line in lines if line["accelerations"]])
    return {"n": len(lines), "successes": sum(line["success"] for line in lines),
            "seams": sum(len(line["gaps"]) for line in lines), **spread("gap", gaps), **spread("jump", jumps),
            "step_max": max(line["step"] for line in lines),
            "acceleration_p95": float(accelerations[:, 19].mean()), "acceleration_max": float(accelerations.max()),
            "held": sum(line["held"] for line in lines) / sum(line["ticks"] for line in lines)}


def spread(name: str, values: Sequence[float]) -> dict:
    p50, p95 = np.percentile(values, [50, 95])
    return {f"{name}_p50": float(p50), f"{name}_p95": float(p95), f"{name}_max": max(values)}


def measure(args: argparse.Namespace) -> list[dict]:
    """By seed, so that an interrupted run says something of each cell."""
    known = {}
    if args.journal and args.journal.is_file():
        known = {tuple(line[k] for k in KEYS): line for line in map(json.loads, args.journal.read_text().splitlines())}
    lines = []
    for seed in range(args.seeds_from, args.seeds_from + args.episodes):
        for task in args.tasks.split(","):
            for delay in args.delays:
                for splice in args.splices:
                    line = known.get((splice, delay, task, seed))
                    if line is None:
                        line = episode(args.policy, splice, delay, task, seed, args.execute_steps)
                        if args.journal:
                            with args.journal.open("a") as file:
                                file.write(json.dumps(line) + "\n")
                    lines.append(line)
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", default="reach,push,pick", help="families of an arm, parted by commas")
    parser.add_argument("--policy", default="native", help="native, oracle, or a checkpoint's folder")
    parser.add_argument("--delays", default="0,0.1,0.3", type=lambda text: [float(word) for word in text.split(",")],
                        help="[s] from an observation to its chunk, parted by commas")
    parser.add_argument("--splices", default=",".join(SPLICES), type=lambda text: text.split(","))
    parser.add_argument("--episodes", type=at_least(1), default=20, help="a family, delay and splice")
    parser.add_argument("--seeds-from", type=int, default=0)
    parser.add_argument("--execute-steps", type=at_least(1), default=4)
    parser.add_argument("--journal", type=Path, help="keep episodes here; of one policy and one --execute-steps")
    args = parser.parse_args()
    os.environ.update(THREADS)  # before anything that counts its threads when it is loaded
    try:
        for name in args.splices:
            get_splice(name)
        lines = measure(args)
    except VlaError as error:
        print(f"bench/seams: {error}", file=sys.stderr)
        return error.exit_code
    cells = {(splice, delay): summary([m for m in lines if (m["splice"], m["delay"]) == (splice, delay)])
             for splice in args.splices for delay in args.delays}
    print(table(("splice", "delay", "success", *COLUMNS.values(), "held"), [
        (splice, f"{1e3 * delay:g} ms", f"{c['successes']}/{c['n']}", *(f"{c[key]:.2f}" for key in COLUMNS),
         f"{c['held']:.1%}") for (splice, delay), c in cells.items()]))
    print(json.dumps({"bench": "seams", "policy": args.policy, "tasks": args.tasks, "episodes": args.episodes,
                      "seeds_from": args.seeds_from, "execute_steps": args.execute_steps,
                      "cells": [{"splice": splice, "delay": delay, **c} for (splice, delay), c in cells.items()]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
