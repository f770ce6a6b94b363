"""Where the time of an in-process episode goes: reset, render, model, inverse kinematics and guard, physics.

    .venv/bin/python bench/rollout.py --task reach --policy native --episodes 20
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import defaultdict

from timing import Timed, figures

from vla_ros.bringup import THREADS
from vla_ros.cli import at_least
from vla_ros.errors import VlaError
from vla_ros.evaluation.table import milliseconds, table

WARM_UP = 2  # episodes that do not count
WORLD = {"reset": "reset", "observe": "render", "step": "physics", "joints": "joint states"}
CONTROLLER = {"tick": "IK and guard", "accept": "check chunk", "observe": "keep joints"}


def measure(task_name: str, policy_name: str, count: int) -> dict:
    """Seconds by stage over `count` episodes; 'episode' is the whole, and what no stage accounts for is 'rest'."""
    from vla_ros.control import Controller
    from vla_ros.evaluation.evaluate import stage
    from vla_ros.evaluation.rollout import run_episode
    from vla_ros.sim.tasks import get_task

    task = get_task(task_name)
    world, policy = stage(policy_name, task.robot)
    spent: defaultdict[str, list[float]] = defaultdict(list)
    timed_world, timed_policy = Timed(world, WORLD, spent), Timed(policy, {"infer": "model"}, spent)
    controller = Timed(Controller(world.profile), CONTROLLER, spent)
    simulated = 0.0
    for seed in range(WARM_UP + count):
        if seed == WARM_UP:
            spent.clear()
            simulated = 0.0
        begin = time.perf_counter()
        simulated += run_episode(timed_world, timed_policy, seed, task, controller=controller).seconds
        spent["episode"].append(time.perf_counter() - begin)
    whole = sum(spent["episode"])
    stages = {name: figures(seconds) | {"share": sum(seconds) / whole} for name, seconds in spent.items()}
    stages["rest"] = {"share": 1 - sum(s["share"] for name, s in stages.items() if name != "episode")}
    return {"task": task_name, "policy": policy_name, "episodes": count, "stages": stages,
            "real_time_factor": simulated / whole}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", default="reach")
    parser.add_argument("--policy", default="native")
    parser.add_argument("--episodes", type=at_least(1), default=20)
    args = parser.parse_args()
    os.environ.update(THREADS)  # before anything that counts its threads when it is loaded
    try:
        made = measure(args.task, args.policy, args.episodes)
    except VlaError as error:
        print(f"bench/rollout: {error}", file=sys.stderr)
        return error.exit_code
    stages = sorted(made["stages"].items(), key=lambda item: -item[1]["share"])
    print(table(("stage", "calls", "p50", "p95", "share"), [
        (name, s.get("n", ""), milliseconds(s["p50"]) if "n" in s else "", milliseconds(s["p95"]) if "n" in s else "",
         f"{s['share']:.1%}") for name, s in stages]))
    print(f"{made['real_time_factor']:.1f} simulated seconds a second")
    print(json.dumps({"bench": "rollout", **made}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
