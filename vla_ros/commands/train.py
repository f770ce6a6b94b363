"""`vla train`: a checkpoint from demonstrations."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

HELP = "train a checkpoint; goes on where an earlier run with the same --out stopped"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", required=True, help="a training recipe by name (default, husky) or a YAML file")
    parser.add_argument("--stage", default="corrections", help="last to run: motor, look, align, act or corrections")
    parser.add_argument("--out", type=Path, help="folder of the run (default: runs/CONFIG)")
    parser.add_argument("--base", type=Path, help="folder of a checkpoint whose weights and words to begin with")
    parser.add_argument("--demos", type=Path, help="demonstrations; completed if need be (default: data/ROBOT)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes for simulation")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads for training")


def run(args: argparse.Namespace) -> int:
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(args.threads)  # before torch is imported
    from vla_ros.training.pipeline import Run, load_settings
    settings = load_settings(args.config)
    out = args.out or Path("runs") / Path(args.config).stem
    demos = args.demos or Path("data") / settings["robot"]
    print(f"checkpoint in {Run(settings, out, demos, args.jobs, args.base).train(args.stage)}")
    return 0
