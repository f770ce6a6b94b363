"""vla send: gives a running system an instruction and follows what it does."""

from __future__ import annotations

import argparse
import os
import signal
import sys

from vla_ros.bringup import ENVIRONMENT, NAMESPACE
from vla_ros.errors import ConfigError

HELP = 'give a running system an instruction and follow it: vla send "touch the red cube"'
BAR = 20  # characters


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("instruction", help="what to do, in words")
    parser.add_argument("--time-limit", type=float, default=0.0, metavar="S",
                        help="[s] ROS time; 0: the task node's own (default)")
    parser.add_argument("--namespace", default=NAMESPACE.default, help=NAMESPACE.description)
    parser.add_argument("--wait", type=float, default=5.0, metavar="S", help="[s] to look for a system (default 5)")


def run(args: argparse.Namespace) -> int:
    """Exit code 0 when it was done, 130 when Ctrl-C canceled it, else 1. NoSystemError (2) when nothing runs."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        from vla_ros.nodes.client import Client
    except ImportError as error:
        raise ConfigError(f"ROS 2 or the interfaces of vla_ros are not to be found: {error}") from error
    stop: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.append(1))
    line = Line()
    with Client("vla_send", args.namespace) as client:
        result = client.execute(args.instruction, args.time_limit, lambda f: line.show(progress_text(f)),
                                lambda: bool(stop), timeout=args.wait)
    line.end()
    print(result_text(result))
    if result.outcome == "succeeded":
        return 0
    return 130 if stop else 1


class Line:
    """One line that is written over on a terminal; elsewhere a line for each change of the phase."""

    def __init__(self, stream=None):
        self.stream = stream or sys.stdout
        self.live, self._last = self.stream.isatty(), ""

    def show(self, text: tuple[str, str]) -> None:
        phase, full = text
        if self.live:
            self.stream.write("\r\x1b[K" + full)
        elif phase != self._last:
            self.stream.write(full + "\n")
        self._last = phase
        self.stream.flush()

    def end(self) -> None:
        if self.live and self._last:
            self.stream.write("\n")


def progress_text(feedback) -> tuple[str, str]:
    """The phase, and the whole line."""
    filled = round(feedback.progress * BAR)
    text = (f"{feedback.phase:<8} [{'#' * filled}{'.' * (BAR - filled)}] {100 * feedback.progress:3.0f} %  "
            f"{feedback.elapsed:5.1f} s  latency {1e3 * feedback.latency:4.0f} ms")
    return feedback.phase, f"{text}  {feedback.text}".rstrip()


def result_text(result) -> str:
    stages = ", ".join(f"{name} {1e3 * p50:.1f}/{1e3 * p95:.1f}" for name, (p50, p95) in result.stages.items())
    text = f"{result.outcome}: {result.message}"
    if not result.chunks:
        return text
    return (f"{text} ({result.duration:.1f} s, {result.chunks} chunks, first after {result.first_chunk:.2f} s)\n"
            f"latency p50/p95 [ms]: {stages}")
