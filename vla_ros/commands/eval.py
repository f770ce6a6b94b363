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
    add = parser.add_argument
    add("--task", default="all", help="all, or tasks parted by commas")
    add("--episodes", type=at_least(1), default=100, help="episodes a task")
    add("--seeds-from", type=at_least(0), default=0, help="first seed; training uses none below 1000000")
    add("--policy", default="native", help="native, oracle, hold, replay:FILE.npz or a checkpoint's folder")
    add("--clock", choices=CLOCKS, default="paused", help="paused: the world waits for the policy")
    add("--json", type=Path, help="write the scores here; an interrupted run with the same file goes on")
    add("--jobs", type=at_least(1), default=os.cpu_count(), help="worker processes, one thread each")
    add("--through", choices=PATHS, default="inprocess", help="in process, or all nodes over ROS in lockstep")
    add("--compare", action="store_true", help="with --through ros: also run the same seeds in process, and compare")
    add("--min-rate", type=share, default=0.0, help="exit 1 when a task's success rate is below, 0 to 1")


def run(args: argparse.Namespace) -> int:
    """Exit code 1 when a rate is below --min-rate, or --compare finds a difference."""
    from vla_ros.evaluation.evaluate import episodes
    from vla_ros.evaluation.identity import identity
    from vla_ros.evaluation.scores import Journal, as_table, report

    tasks = chosen_tasks(args.task)
    check(args)
    todo = episodes(tasks, args.episodes, args.seeds_from)
    facts = {"checkpoint": identity(args.policy, tasks), "clock": args.clock, "through": args.through}
    journal = Journal(args.json and args.json.with_suffix(".part.jsonl"), facts)
    if not journal.open():
        print("vla eval: an interrupted run of something else lay beside that file; begun anew", file=sys.stderr)
    complete(todo, args, journal)
    outcomes = [journal.outcomes[e.task, e.seed] for e in todo]
    made = report(outcomes, tasks, seeds=[args.seeds_from, args.seeds_from + args.episodes - 1], **facts)
    print(as_table(made))
    if args.compare:
        made["agreement"] = compare(todo, args, outcomes)
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


def complete(todo: list, args: argparse.Namespace, journal) -> None:
    """Runs what the journal lacks."""
    from vla_ros.evaluation.evaluate import evaluate
    missing = [e for e in todo if (e.task, e.seed) not in journal.outcomes]
    if args.through == "ros":
        try:
            from vla_ros.nodes.evaluator import evaluate_through_ros
        except ImportError as error:
            raise ConfigError(f"ROS 2 or the interfaces of vla_ros are not to be found: {error}") from error
        collect(evaluate_through_ros(missing, args.policy), journal, len(todo))
    else:
        collect(evaluate(missing, args.policy, args.jobs), journal, len(todo))


def compare(todo: list, args: argparse.Namespace, outcomes: list) -> dict:
    """Runs the same episodes in process, and prints how many end as `outcomes` did."""
    from vla_ros.evaluation.evaluate import evaluate
    from vla_ros.evaluation.scores import Journal, agreement
    other = Journal(None, {})
    collect(evaluate(todo, args.policy, args.jobs), other, len(todo))
    made = agreement(outcomes, other.outcomes)
    print(f"through ros and in process: {made['same']} of {made['n']} episodes end the same, "
          f"{made['same_moment']} of them at the same simulated moment")
    for line in made["differences"]:
        print(f"  {line}")
    return made


def collect(outcomes: Iterable, journal, total: int) -> None:
    """Writes outcomes down as they come, and shows progress and the number of successes."""
    from tqdm import tqdm
    with tqdm(outcomes, total=total, initial=len(journal.outcomes), unit="episode", smoothing=0) as bar:
        for outcome in bar:
            journal.add(outcome)
            bar.set_postfix_str(f"{sum(o.success for o in journal.outcomes.values())} successes", refresh=False)
