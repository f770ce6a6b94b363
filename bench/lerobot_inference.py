"""The default model beside LeRobot's ACT, diffusion and SmolVLA with random weights of the published sizes.

    python3 -m venv DIR && DIR/bin/pip install "lerobot[smolvla]==0.4.4" aiohttp msgpack pyyaml num2words
    DIR/bin/python test/lerobot_samples.py --out FOLDER --published
    LEROBOT_PYTHON=DIR/bin/python .venv/bin/python bench/lerobot_inference.py --checkpoints FOLDER

Time from images to actions, as a robot waits for it: LeRobot's run in a process of their own, and the way there counts.
actions: steps of a chunk that a policy's own loop executes before it looks again; LeRobot's n_action_steps, ours 4.
Policies take turns, so that what else the machine does falls on all.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

from timing import figures

from vla_ros.bringup import EXECUTE_STEPS, THREADS
from vla_ros.cli import at_least
from vla_ros.errors import VlaError

KINDS = ("act", "diffusion", "smolvla")
WARM_UP = 1
PATIENCE = 600  # [s] of an answer, and of loading


def opened(checkpoints: Path, profile) -> dict:
    """Policies by name, and how many actions of a chunk their loop executes."""
    from vla_ros.policies import open_policy
    made = {"native": (open_policy("native", profile), EXECUTE_STEPS.default)}
    for kind in KINDS:
        if (checkpoints / kind).is_dir():
            policy = open_policy(f"lerobot:{checkpoints / kind}?deadline={PATIENCE}&start={PATIENCE}", profile)
            made[kind] = policy, policy.spec.horizon
    return made


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoints", type=Path, required=True, help="folder that lerobot_samples.py wrote")
    parser.add_argument("--rounds", type=at_least(1), default=10)
    args = parser.parse_args()
    for name, value in THREADS.items():
        os.environ.setdefault(name, value)
    from vla_ros.profile import load_profile
    from vla_ros.sim.bullet import BulletWorld
    try:
        profile = load_profile("panda")
        world = BulletWorld(profile)
        world.reset(0)
        seen, policies = world.observe(), opened(args.checkpoints, profile)
        world.close()
        waits = {name: [] for name in policies}
        for _ in range(WARM_UP + args.rounds):
            for name, (policy, _) in policies.items():
                begin = time.perf_counter()
                policy.infer(seen)
                waits[name].append(time.perf_counter() - begin)
    except VlaError as error:
        print(f"bench/lerobot_inference: {error}", file=sys.stderr)
        return error.exit_code
    found = {}
    for name, (_, actions) in policies.items():
        found[name] = figures(waits[name][WARM_UP:]) | {"actions": actions}
        found[name] |= {"actions_per_second": actions / found[name]["p50"],
                        "to_native": found[name]["p50"] / found["native"]["p50"]}
        row = found[name]
        print(f"{name:10} n {row['n']:3}  p50 {1e3 * row['p50']:9.1f} ms  p95 {1e3 * row['p95']:9.1f} ms  "
              f"{row['to_native']:7.1f} times native  {actions:3} actions, {row['actions_per_second']:7.1f} a second")
    print(json.dumps({"bench": "lerobot_inference", "policies": found}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
