"""`vla eval`: closed-loop scores."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from vla_ros.cli import at_least, share
from vla_ros.errors import ConfigError

HELP = "score a policy closed-loop: success per task with its 95 % interval"
PATHS = ("inprocess", "ros")
CLOCKS = ("paused",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--task", default="all", help="all, or tasks parted by commas")
    parser.add_argument("--episodes", type=at_least(1), default=100, help="episodes a task")
    parser.add_argument("--seeds-from", type=at_least(0), default=0, help="first seed; training uses none below 1000000")
    parser.add_argument("--policy", default="native", help="native, oracle, hold, replay:FILE.npz or a checkpoint's folder")
    parser.add_argument("--clock", choices=CLOCKS, default="paused", help="paused: the world waits for the policy")
    parser.add_argument("--json", type=Path, help="write the scores here; an interrupted run with the same file goes on")
    parser.add_argument("--jobs", type=at_least(1), default=os.cpu_count(), help="worker processes, one thread each")
    parser.add_argument("--through", choices=PATHS, default="inprocess", help="in process, or all nodes over ROS in lockstep")
    parser.add_argument("--compare", action="store_true", help="with --through ros: run the same seeds in process, and compare")
    parser.add_argument("--min-rate", type=share, default=0.0, help="exit 1 when a task's success rate is below, 0 to 1")


def run(args: argparse.Namespace) -> int:
    from vla_ros.evaluation.evaluate import episodes, evaluate
    from vla_ros.evaluation.identity import identity
    from vla_ros.evaluation.scores import Journal, agreement, as_table, report

    tasks = chosen_tasks(args.task)
    check(args)
    todo = episodes(tasks, args.episodes, args.seeds_from)
    facts = {"checkpoint": identity(args.policy, tasks), "clock": args.clock, "through": args.through}
    journal = Journal(args.json and args.json.with_suffix(".part.jsonl"), facts)
    if not journal.open():
        print("vla eval: an interrupted run of something else lay beside that file; begun anew", file=sys.stderr)
    missing = [e for e in todo if (e.task, e.seed) not in journal.outcomes]
    if args.through == "ros":
        from vla_ros.nodes.evaluator import evaluate_through_ros
        collect(evaluate_through_ros(missing, args.policy), journal, len(todo))
    else:
        collect(evaluate(missing, args.policy, args.jobs), journal, len(todo))
    outcomes = [journal.outcomes[e.task, e.seed] for e in todo]
    made = report(outcomes, tasks, seeds=[args.seeds_from, args.seeds_from + args.episodes - 1], **facts)
    print(as_table(made))
    if args.compare:
        other = Journal(None, facts)
        collect(evaluate(todo, args.policy, args.jobs), other, len(todo))
        made["agreement"] = agreement(outcomes, other.outcomes)
        print(f"through ros and in process: {made['agreement']['same']} of {len(todo)} episodes end the same")
        for line in made["agreement"]["differences"]:
            print(f"  {line}")
    if args.json:
        args.json.write_text(json.dumps(made, indent=1) + "\n")
        print(f"written to {args.json}")
    journal.close()
    below = [name for name, family in made["families"].items() if family["rate"] < args.min_rate]
    if below:
        print(f"below {args.min_rate:.0%}: {', '.join(below)}")
    return int(bool(below or made.get("agreement", {}).get("differences")))


def chosen_tasks(text: str) -> list[str]:
    """In the order of the registry, each once; UnknownNameError for what is not there."""
    from vla_ros.sim.tasks import TASKS, get_task
    wanted = set(TASKS) if text == "all" else {get_task(name.strip()).name for name in text.split(",")}
    return [name for name in TASKS if name in wanted]


def check(args: argparse.Namespace) -> None:
    """Raises ConfigError for options that do not go together, before anything is started."""
    from vla_ros.training.demos import FIRST_SEED
    if args.seeds_from + args.episodes > FIRST_SEED:
        raise ConfigError(f"--seeds-from {args.seeds_from}: seeds from {FIRST_SEED} on are those that training uses")
    if args.compare and args.through != "ros":
        raise ConfigError("--compare needs --through ros")
    if args.policy == "oracle" and args.through == "ros":
        raise ConfigError("the oracle reads the truth of its world, which no topic carries: use --through inprocess")


def collect(outcomes: Iterable, journal, total: int) -> None:
    """Writes outcomes down as they come, and shows progress and the number of successes."""
    from tqdm import tqdm
    with tqdm(outcomes, total=total, initial=len(journal.outcomes), unit="episode", smoothing=0, mininterval=0.5) as bar:
        for outcome in bar:
            journal.add(outcome)
            bar.set_postfix_str(f"{sum(o.success for o in journal.outcomes.values())} successes", refresh=False)
