"""`vla demos`: demonstrations for training."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

HELP = "write demonstrations of the scripted experts"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--task", default="all", help="all, or families parted by commas")
    parser.add_argument("--episodes", type=int, default=1000, help="episodes a family")
    parser.add_argument("--stills", type=int, default=4000, help="still scenes, of all families together")
    parser.add_argument("--odd", type=int, default=0, help="still scenes of things without whole names")
    parser.add_argument("--out", type=Path, default=Path("data/demos"), help="folder; what it holds already is kept")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")


def run(args: argparse.Namespace) -> int:
    from vla_ros.sim.tasks import TASKS, get_task
    from vla_ros.training.demos import collect
    tasks = list(TASKS) if args.task == "all" else [get_task(name).name for name in args.task.split(",")]
    written = collect(args.out, tasks, args.episodes, args.stills, args.jobs, args.odd)
    print(f"{written} files written; {args.out} holds {len(list(args.out.glob('*.npz')))}")
    return 0
