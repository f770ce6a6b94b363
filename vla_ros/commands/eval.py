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
from vla_ros.splicing import DEFAULT, SPLICES

HELP = "score a policy closed-loop: success per task and condition with its 95 % interval"
PATHS = ("inprocess", "ros")
CLOCKS = ("paused",)
ENGINES = ("processes", "ray")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--task", default="all", help="all, or tasks parted by commas")
    add("--conditions", help="all, or conditions parted by commas (default: plain; with --wordings: wordings)")
    add("--episodes", type=at_least(1), default=100, help="episodes a task; of a condition but plain, in all")
    add("--seeds-from", type=at_least(0), default=0, help="first seed; training uses none below 1000000")
    add("--trained", action="store_true", help="seeds of training too, for a look at what was learnt by heart")
    add("--policy", default="native", help="native, oracle, hold, replay:FILE.npz, a checkpoint's folder or "
                                            "ws://HOST:PORT (there with ?deadline=60: seconds for an answer)")
    add("--clock", choices=CLOCKS, default="paused",
        help="paused: the world waits for the policy; it runs under the conditions latency-*")
    add("--thinking", type=seconds, help="[s] that an inference counts for under a running clock (default: measured)")
    add("--splice", choices=tuple(SPLICES), default=DEFAULT,
        help=f"how a newer chunk takes over from the one that runs (default: {DEFAULT})")
    add("--wordings", type=Path, help="YAML file of families to templates, for the condition wordings")
    add("--json", type=Path, help="write the scores here; an interrupted run with the same file goes on")
    add("--html", type=Path, help="write a report here: tables, plots, videos of failures, in one file")
    add("--videos", type=at_least(0), default=12, help="with --html: failures to film, at most")
    add("--engine", choices=ENGINES, default="processes", help="ray: spread over the cluster that RAY_ADDRESS names")
    add("--jobs", type=at_least(1), default=os.cpu_count(), help="worker processes, one thread each")
    add("--through", choices=PATHS, default="inprocess", help="in process, or all nodes over ROS in lockstep")
    add("--compare", action="store_true", help="with --through ros: also run the same seeds in process, and compare")
    add("--min-rate", type=share, default=0.0, help="exit 1 when a task's success rate is below, 0 to 1")


def seconds(text: str) -> float:
    """An argparse type: seconds, 0 or more."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of seconds, 0 or more")
    return value


def run(args: argparse.Namespace) -> int:
    """Exit code 1 when a rate is below --min-rate, or --compare finds a difference."""
    from vla_ros.evaluation.evaluate import Options, episodes
    from vla_ros.evaluation.identity import identity
    from vla_ros.evaluation.scores import Journal, as_table, report

    tasks = chosen_tasks(args.task)
    options = Options(templates_of(args.wordings), args.thinking, args.splice)
    conditions = chosen_conditions(args, tasks, options.templates)
    check(args, conditions)
    todo = episodes(tasks, args.episodes, args.seeds_from, conditions, options.templates)
    facts = {"checkpoint": identity(args.policy, tasks), "clock": args.clock, "through": args.through,
             "splice": args.splice}
    journal = Journal(args.json and args.json.with_suffix(".part.jsonl"), facts | changed_facts(args))
    if not journal.open():
        print("vla eval: an interrupted run of something else lay beside that file; begun anew", file=sys.stderr)
    complete(todo, args, options, journal)
    outcomes = [journal.outcomes[e.key] for e in todo]
    made = report(outcomes, tasks, seeds=[args.seeds_from, args.seeds_from + args.episodes - 1], **facts,
                  **changed_facts(args))
    print(as_table(made))
    if args.compare:
        made["agreement"] = compare(todo, args, options, outcomes)
    save(made, args, options, outcomes)
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


def templates_of(file: Path | None) -> dict | None:
    from vla_ros.words import load_wordings
    return load_wordings(file) if file else None


def chosen_conditions(args: argparse.Namespace, tasks: list[str], templates: dict | None) -> list[str]:
    from vla_ros.evaluation.conditions import PLAIN, WORDINGS, choose
    names = choose(args.conditions or (WORDINGS if args.wordings else PLAIN), tasks, templates)
    if args.wordings and WORDINGS not in names:
        raise ConfigError("--wordings needs the condition wordings")
    return names


def changed_facts(args: argparse.Namespace) -> dict:
    """What else decides the outcomes, where it is not as usual."""
    from vla_ros.evaluation.identity import digest
    facts = {"wordings": args.wordings and f"{args.wordings.name}@{digest(args.wordings)}", "thinking": args.thinking}
    return {name: value for name, value in facts.items() if value is not None}


def check(args: argparse.Namespace, conditions: list[str]) -> None:
    """Raises ConfigError for options that do not go together, before anything is started."""
    from vla_ros.training.demos import FIRST_SEED
    if args.seeds_from + args.episodes > FIRST_SEED and not args.trained:
        raise ConfigError(f"--seeds-from {args.seeds_from}: seeds from {FIRST_SEED} on are those that training uses; "
                          "what was learnt by heart is no score (--trained looks at it nevertheless)")
    if args.compare and args.through != "ros":
        raise ConfigError("--compare needs --through ros")
    if args.through == "ros" and (conditions != ["plain"] or args.engine != "processes"):
        raise ConfigError("--through ros knows the condition plain and one system: use --through inprocess")
    if args.engine == "ray":
        from vla_ros.evaluation.cluster import require_ray
        require_ray()
    if args.html:
        from vla_ros.evaluation.page import prepare
        prepare(args.html)


def spreader(args: argparse.Namespace):
    """spread(call, todo, policy, jobs, options) of the engine."""
    from vla_ros.evaluation import cluster, evaluate
    return (cluster if args.engine == "ray" else evaluate).spread


def complete(todo: list, args: argparse.Namespace, options, journal) -> None:
    """Runs what the journal lacks."""
    from vla_ros.evaluation.evaluate import run as run_one
    missing = [e for e in todo if e.key not in journal.outcomes]
    if args.through == "ros":
        try:
            from vla_ros.nodes.evaluator import evaluate_through_ros
        except ImportError as error:
            raise ConfigError(f"ROS 2 or the interfaces of vla_ros are not to be found: {error}") from error
        collect(evaluate_through_ros(missing, args.policy, args.splice), journal, len(todo))
    else:
        collect(spreader(args)(run_one, missing, args.policy, args.jobs, options), journal, len(todo))


def save(made: dict, args: argparse.Namespace, options, outcomes: list) -> None:
    """The files that were asked for."""
    if args.json:
        args.json.write_text(json.dumps(made, indent=1) + "\n")
        print(f"written to {args.json}")
    if args.html:
        from vla_ros.evaluation import page
        shot = films(outcomes, args, options) if args.through == "inprocess" else ()
        args.html.write_text(page.page(made, shot))
        print(f"written to {args.html}")


def films(outcomes: list, args: argparse.Namespace, options) -> list:
    """Of failures, in the order in which they were chosen."""
    from tqdm import tqdm

    from vla_ros.evaluation.filming import failures, film
    todo = failures(outcomes, args.videos)
    shot = spreader(args)(film, todo, args.policy, args.jobs, options)
    made = {f.outcome.key: f for f in tqdm(shot, total=len(todo), unit="video", disable=not todo)}
    return [made[episode.key] for episode in todo]


def compare(todo: list, args: argparse.Namespace, options, outcomes: list) -> dict:
    """Runs the same episodes in process, and prints how many end as `outcomes` did."""
    from vla_ros.evaluation.evaluate import evaluate
    from vla_ros.evaluation.scores import Journal, agreement
    other = Journal(None, {})
    collect(evaluate(todo, args.policy, args.jobs, options), other, len(todo))
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
