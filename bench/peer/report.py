"""Both figures side by side, from two scores of `vla eval` over the same seeds, and what each was trained with.

    .venv/bin/python bench/peer/report.py --peer peer.json --training RUN/checkpoint-130/training.json \\
        --ours ours.json --ours-minutes 130 --out bench/peer/figures.json
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from vla_ros.errors import ConfigError, VlaError
from vla_ros.evaluation.table import table

FAMILY = "reach"
FIGURES = ("n", "successes", "rate", "ci95")
SAME = ("seeds", "clock", "through", "splice")  # of the two scores


def read(file: Path) -> dict:
    try:
        made = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} cannot be read as JSON: {error}") from error
    return made


def score(file: Path) -> tuple[dict, dict]:
    """What `vla eval` was told, and its score of the family. Raises ConfigError."""
    made = read(file)
    family = made.get("families", {}).get(FAMILY)
    if family is None or any(name not in made for name in ("checkpoint", *SAME)):
        raise ConfigError(f"{file} is no score of {FAMILY}: make it with `vla eval --task {FAMILY} --json {file}`")
    return made, {"checkpoint": made["checkpoint"]} | {name: family[name] for name in FIGURES}


def compared(peer: Path, training: Path, ours: Path, minutes: float) -> dict:
    """Raises ConfigError for scores that were not made alike."""
    (theirs, of_peer), (own, of_ours) = score(peer), score(ours)
    differ = [f"{name}: {theirs[name]} and {own[name]}" for name in SAME if theirs[name] != own[name]]
    if differ:
        raise ConfigError(f"{peer} and {ours} were not made alike: {'; '.join(differ)}")
    trained = read(training)
    try:
        of_peer |= {"cpu_minutes": trained["cpu_seconds"] / 60, "samples": trained["samples"],
                    "missed_mm": trained["missed_mm"]}
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{training} is no training.json of train.py: it lacks {error}") from error
    return {"family": FAMILY, **{name: own[name] for name in SAME}, "peer": of_peer,
            "ours": of_ours | {"cpu_minutes": minutes}}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--peer", type=Path, required=True, help="score of the peer")
    add("--training", type=Path, required=True, help="training.json of the checkpoint that was served")
    add("--ours", type=Path, required=True, help="score of ours")
    add("--ours-minutes", type=float, required=True, help="processor time that all of ours' training took")
    add("--out", type=Path, required=True)
    args = parser.parse_args()
    try:
        made = compared(args.peer, args.training, args.ours, args.ours_minutes)
    except VlaError as error:
        print(f"bench/peer: {error}", file=sys.stderr)
        return error.exit_code
    args.out.write_text(json.dumps(made, indent=1) + "\n")
    print(table(("policy", "families", "CPU minutes", "n", "success", "95 % interval"), [
        (name, families, f"{one['cpu_minutes']:.0f}", one["n"], f"{one['rate']:.0%}",
         "{:.1%} to {:.1%}".format(*one["ci95"]))
        for name, families, one in (("LeRobot's ACT", FAMILY, made["peer"]), ("vla_ros", "all", made["ours"]))]))
    print(json.dumps({"bench": "peer", **made}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
