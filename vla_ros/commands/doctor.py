"""`vla doctor`: what is wrong with a checkpoint, a robot or a running system, before the first motion."""

from __future__ import annotations

import argparse
import json
import os
import sys
import textwrap
from collections import Counter
from pathlib import Path

from vla_ros.bringup import ENVIRONMENT, EXECUTE_STEPS, NAMESPACE, POLICY, REMAP, ROBOT
from vla_ros.cli import at_least
from vla_ros.errors import ConfigError

HELP = "examine checkpoint, robot and running topics before the first motion: vla doctor --robot panda --policy native"
FIND, LISTEN = 2.0, 5.0  # [s] to find a running system, and to listen to it at most
COLOURS = {"error": "31", "warning": "33", "ok": "32"}  # of a terminal
WIDTH = 120  # columns


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--robot", default=ROBOT.default, help=f"{ROBOT.description} (default {ROBOT.default})")
    add("--policy", default=POLICY.default, help=f"{POLICY.description} (default {POLICY.default})")
    add("--json", type=Path, metavar="FILE", help="write the findings here")
    add("--execute-steps", type=at_least(1), default=EXECUTE_STEPS.default, metavar="N",
        help=f"{EXECUTE_STEPS.description} (default {EXECUTE_STEPS.default})")
    add("--compressed", action="store_true", help="camera images come on image_raw/compressed")
    add("--namespace", default=NAMESPACE.default, help="of a running system")
    add("--remap", default=REMAP.default, help=REMAP.description)


def run(args: argparse.Namespace) -> int:
    """Exit code 1 when there are errors; a robot or a policy that cannot be found is an error of one line, and 2."""
    from vla_ros.doctor.examine import examine
    from vla_ros.profile import load_profile
    profile = load_profile(args.robot)
    if args.json and not args.json.resolve().parent.is_dir():
        raise ConfigError(f"no folder {args.json.resolve().parent} to write {args.json.name} into")
    findings = examine(profile, args.policy, args.execute_steps)
    findings += examine_running(profile, args)
    print("\n".join(map(described, findings)))
    counts = Counter(finding.level for finding in findings)
    print(f"{counts['error']} errors, {counts['warning']} warnings, {counts['ok']} ok")
    if args.json:
        write(args, findings, counts)
    return 1 if counts["error"] else 0


def examine_running(profile, args: argparse.Namespace):
    """What is to be said of the topics; that nothing runs, or that ROS is not there, is no error."""
    from vla_ros.doctor.examine import cameras_read
    from vla_ros.doctor.finding import error, ok
    from vla_ros.doctor.topics import examine_topics
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        from vla_ros.nodes.listening import Listener
    except ImportError as reason:
        return [ok("topics", f"not examined: ROS 2 or the interfaces of vla_ros are not to be found: {reason}")]
    with Listener(profile, cameras_read(profile, args.policy), args.compressed, args.namespace, args.remap) as listener:
        try:
            heard = listener.hear(FIND, LISTEN)
        except ConfigError as reason:
            return [error("topics", str(reason), "no node can publish or read it", "letters, digits, _ and / in the "
                          "names of cameras and topics of the profile")]
    return [ok("topics", "no running system: topics not examined")] if heard is None else examine_topics(heard)


def described(finding) -> str:
    """One line, and for what is not well two more: why it matters, and how to mend it."""
    level = finding.level.ljust(8)
    if sys.stdout.isatty():
        level = f"\x1b[{COLOURS[finding.level]}m{level}\x1b[0m"
    lines = [f"{level} {finding.check}: {finding.what}"]
    for name, text in (("why", finding.why), ("mend", finding.mend)):
        if text:
            lines.append(textwrap.fill(f"{name.ljust(5)}{text}", WIDTH, initial_indent=" " * 9,
                                       subsequent_indent=" " * 14))
    return "\n".join(lines)


def write(args: argparse.Namespace, findings, counts) -> None:
    content = {"robot": args.robot, "policy": args.policy, "errors": counts["error"], "warnings": counts["warning"],
               "findings": [finding.to_dict() for finding in findings]}
    try:
        args.json.write_text(json.dumps(content, indent=1) + "\n")
    except OSError as error:
        raise ConfigError(f"cannot write {args.json}: {error.strerror}") from error
    print(f"written to {args.json}")
