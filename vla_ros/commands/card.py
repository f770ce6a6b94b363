"""`vla card`: the card of a checkpoint."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "write a checkpoint's README.md from its settings and the scores of vla eval"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=Path, help="the checkpoint's folder")
    parser.add_argument("--scores", type=Path, required=True, help="what vla eval --json wrote")


def run(args: argparse.Namespace) -> int:
    from vla_ros.training.card import card
    text = card(args.checkpoint, args.scores)
    (args.checkpoint / "README.md").write_text(text)
    print(f"wrote {args.checkpoint / 'README.md'}")
    return 0
