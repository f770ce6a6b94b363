"""Is a policy done when it says so? Episodes go on until it says so for as long as the task node wants to hear it.

    .venv/bin/python bench/done.py --tasks reach,push,pick,place,next_to,stack,away,home --episodes 50

The clock is paused while it thinks, and nothing but the policy ends an episode, or the task's time limit. Right: the
task's own predicate holds then. Wrong: it does not. Silent: it never said so; of these, how many were done at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter

from vla_ros.bringup import THREADS
from vla_ros.cli import at_least
from vla_ros.errors import VlaError
from vla_ros.evaluation.table import table

RIGHT, WRONG, DONE_SILENTLY, SILENT, REFUSED = "right", "wrong", "done, but silent", "neither", "refused"


def episode(world, policy, task: str, seed: int) -> str:
    """One of the five."""
    from vla_ros.control import Controller
    from vla_ros.evaluation.conditions import make_setting
    from vla_ros.evaluation.rollout import EXECUTE_STEPS
    from vla_ros.nodes.tasking import DONE
    setting = make_setting(task, seed)
    world.lay_out(setting.scene, setting.task, setting.appearance)
    policy.reset()
    controller, since = Controller(world.profile), None
    while world.stamp < world.task.time_limit * 1e9:
        chunk = policy.infer(world.observe())
        if chunk.refusal:
            return REFUSED
        since = (chunk.stamp if since is None else since) if chunk.done else None
        if since is not None and chunk.stamp - since >= round(DONE * 1e9):
            return RIGHT if world.progress.success else WRONG
        controller.observe(world.joints())
        controller.accept(chunk)
        for _ in range(EXECUTE_STEPS * world.profile.ticks_per_step):
            controller.observe(world.joints())
            world.step(controller.tick(world.stamp).command)
    return DONE_SILENTLY if world.progress.success else SILENT


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--policy", default="native")
    parser.add_argument("--tasks", default="reach,push,pick,place,next_to,stack,away,home",
                        help="families of one robot, parted by commas")
    parser.add_argument("--episodes", type=at_least(1), default=50, help="a family")
    parser.add_argument("--seeds-from", type=int, default=0)
    args = parser.parse_args()
    os.environ.update(THREADS)  # before anything that counts its threads when it is loaded
    from vla_ros.evaluation.evaluate import stage
    from vla_ros.sim.tasks import get_task
    counts: dict[str, Counter] = {}
    try:
        tasks = args.tasks.split(",")
        world, policy = stage(args.policy, get_task(tasks[0]).robot)
        for task in tasks:
            seeds = range(args.seeds_from, args.seeds_from + args.episodes)
            counts[task] = Counter(episode(world, policy, task, seed) for seed in seeds)
    except VlaError as error:
        print(f"bench/done: {error}", file=sys.stderr)
        return error.exit_code
    counts["all"] = sum(counts.values(), Counter())
    kinds = (RIGHT, WRONG, DONE_SILENTLY, SILENT, REFUSED)
    print(table(("task", *kinds), [(task, *(str(made[kind]) for kind in kinds)) for task, made in counts.items()]))
    print(json.dumps({"bench": "done", "policy": args.policy, "episodes": args.episodes, "counts": counts}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
