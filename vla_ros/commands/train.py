"""`vla train`: a checkpoint from demonstrations."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from vla_ros.errors import ConfigError

HELP = "train a checkpoint; goes on where an earlier run with the same --out stopped"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", help="a training recipe by name (default, husky) or a YAML file; with --lora, "
                                         "one of its own (default: panda)")
    parser.add_argument("--lora", action="store_true", help="train adapters on --base, a vision-language model whose "
                                                            "words are actions, and merge them (docs/vlm.md)")
    parser.add_argument("--stage", default="polish", help="last to run: motor, look, align, act, corrections or polish")
    parser.add_argument("--out", type=Path, help="folder of the run (default: runs/CONFIG)")
    parser.add_argument("--base", type=Path, help="folder of a checkpoint whose weights and words to begin with")
    parser.add_argument("--demos", type=Path, help="demonstrations; completed if need be (default: data/ROBOT; with "
                                                          "--lora, OUT/demos)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes for simulation")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads for training")


def run(args: argparse.Namespace) -> int:
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(args.threads)  # before torch is imported
    if args.lora:
        return tune(args)
    if args.config is None:
        raise ConfigError("name a training recipe with --config, such as default")
    from vla_ros.training.pipeline import Run, load_settings
    settings = load_settings(args.config)
    out = args.out or Path("runs") / Path(args.config).stem
    demos = args.demos or Path("data") / settings["robot"]
    print(f"checkpoint in {Run(settings, out, demos, args.jobs, args.base).train(args.stage)}")
    return 0


def tune(args: argparse.Namespace) -> int:
    if args.base is None:
        raise ConfigError("--lora needs --base, the folder of a vision-language model whose words are actions")
    try:
        from vla_ros.training.finetuning import load_settings
        from vla_ros.training.finetuning import tune as run_all
    except ModuleNotFoundError as error:
        if error.name != "peft":
            raise
        raise ConfigError("--lora needs peft: pip install 'vla_ros[lora]', or peft") from error
    name = args.config or "panda"
    out = args.out or Path("runs") / f"lora-{Path(name).stem}"
    made = run_all(load_settings(name), args.base, out, args.demos or out / "demos", args.jobs)
    print(f"checkpoint in {made}")
    return 0
