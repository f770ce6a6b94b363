"""vla up: runs a simulated robot or the nodes for a real one, until Ctrl-C."""

from __future__ import annotations

import argparse
import signal
import sys
import threading

from vla_ros.bringup import SYSTEMS, Argument
from vla_ros.nodes.system import System

HELP = "start a system of nodes: a simulated robot, or the nodes for a real one"


class EndRequested(Exception):
    """Ctrl-C or SIGTERM."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="system", required=True, metavar="sim|robot")
    for name, (describe, arguments) in SYSTEMS.items():
        text = describe.__doc__.partition(".")[0]
        kind = kinds.add_parser(name, help=text, description=text,
                                formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        for argument in arguments:
            add_option(kind, argument)


def add_option(parser: argparse.ArgumentParser, argument: Argument) -> None:
    if isinstance(argument.default, bool):
        parser.add_argument(argument.option, action=argparse.BooleanOptionalAction, default=argument.default,
                            help=argument.description)
    else:
        parser.add_argument(argument.option, type=argument.parse, default=argument.default, help=argument.description,
                            metavar="|".join(argument.choices) or type(argument.default).__name__.upper())


def run(args: argparse.Namespace) -> int:
    """Exit code 0 after Ctrl-C or SIGTERM; 1 when a node ended by itself, for good."""
    describe, arguments = SYSTEMS[args.system]
    description = describe(**{argument.name: getattr(args, argument.name) for argument in arguments})
    width = max(len(process.name) for process in description.processes)
    ending = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ending.set())
    with System(description, lambda name, line: print(f"[{name.ljust(width)}] {line}", flush=True),
                restart=True) as system:
        try:
            follow(system, ending)
        except EndRequested:
            print("vla up: ending", file=sys.stderr)
    return 0


def follow(system: System, ending: threading.Event) -> None:
    """Watches the processes until one of them ends for good, which is an error, or the user wants to end."""
    def watch() -> None:
        if ending.is_set():
            raise EndRequested
        system.check()

    system.wait_ready(float("inf"), watch)
    print('vla up: ready. In another shell: vla send "touch the red cube"', file=sys.stderr)
    while True:
        watch()
        ending.wait(0.2)
