"""From a camera's stamp to the command that answers it, over the real nodes in real time, stage by stage.

    .venv/bin/python bench/latency.py --robot panda --policy native --chunks 200

The first command that is published after a chunk is taken for the one that answers it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys

from vla_ros.bringup import ENVIRONMENT, sim_system
from vla_ros.cli import at_least
from vla_ros.errors import SimulationError, VlaError
from vla_ros.evaluation.table import milliseconds, table
from vla_ros.nodes.domains import own_domain
from vla_ros.nodes.system import System
from vla_ros.nodes.tracing import Trace, Tracer, figures
from vla_ros.profile import load_profile
from vla_ros.sim.tasks import TASKS

WARM_UP = 20  # chunks that do not count
READY, MAX_EPISODES = 120.0, 100


def traces(robot: str, policy: str, count: int) -> list[Trace]:
    """At least `count` traces after the warm-up, from as many episodes as that takes."""
    task = next(task for task in TASKS.values() if task.robot == robot)
    system = sim_system(robot=robot, policy=policy)
    domain = own_domain()
    with (System(system, domain=domain) as processes, processes.client("vla_latency") as client,
          Tracer(load_profile(robot), domain) as tracer):
        client.wait_ready(system, READY, processes.check)
        for seed in range(MAX_EPISODES):
            layout = client.reset(task.name, seed)
            client.execute(layout.instruction, layout.time_limit, watch=processes.check)
            made = tracer.traces()[WARM_UP:]
            if len(made) >= count:
                return made
            print(f"{max(0, len(made))} of {count} chunks", file=sys.stderr)
    raise SimulationError(f"only {len(made)} chunks in {MAX_EPISODES} episodes")


def summary(made: list[Trace]) -> dict:
    """Median and p95 [s] by stage, and the share of the whole time that is not the model's."""
    stages = {name: {"p50": p50, "p95": p95} for name, (p50, p95) in figures(made).items()}
    share = 1 - sum(t.parts["model"] for t in made) / sum(t.total for t in made)
    return {"chunks": len(made), "stages": stages, "share_not_model": share}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--robot", default="panda")
    parser.add_argument("--policy", default="native")
    parser.add_argument("--chunks", type=at_least(1), default=200)
    args = parser.parse_args()
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        made = summary(traces(load_profile(args.robot).name, args.policy, args.chunks))
    except VlaError as error:
        print(f"bench/latency: {error}", file=sys.stderr)
        return error.exit_code
    print(table(("stage", "p50", "p95"), [(name, milliseconds(stage["p50"]), milliseconds(stage["p95"]))
                                          for name, stage in made["stages"].items()]))
    print(f"{made['chunks']} chunks; {made['share_not_model']:.1%} of the time is not the model's")
    print(json.dumps({"bench": "latency", "robot": args.robot, "policy": args.policy, **made}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
