"""`vla`: one command with sub-commands, each imported only when it is called."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from collections.abc import Callable

from vla_ros import commands
from vla_ros.errors import UnknownNameError, VlaError


class Parser(argparse.ArgumentParser):
    """Answers a wrong option with one line, as everything else does."""

    def error(self, message: str):
        raise VlaError(f"{message} ({self.prog} --help tells more)")


def at_least(low: int) -> Callable[[str], int]:
    """An argparse type: a whole number of at least `low`."""
    def number(text: str) -> int:
        if not text.lstrip("-").isdigit() or int(text) < low:
            raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of at least {low}")
        return int(text)
    return number


def share(text: str) -> float:
    """An argparse type: a number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number from 0 to 1")
    return value


def command_names() -> list[str]:
    return sorted(m.name.replace("_", "-") for m in pkgutil.iter_modules(commands.__path__))


def load(name: str):
    """The module of a command, or UnknownNameError."""
    if name not in command_names():
        raise UnknownNameError("command", name, command_names())
    return importlib.import_module(f"vla_ros.commands.{name.replace('-', '_')}")


def usage() -> str:
    width = max(map(len, command_names()))
    lines = [f"  {name.ljust(width)}  {load(name).HELP}" for name in command_names()]
    return "usage: vla COMMAND [options]    (vla COMMAND --help tells more)\n\n" + "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Runs one command. Errors of this package become one line on standard error and exit code 2."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    try:
        command = load(argv[0])
        parser = Parser(prog=f"vla {argv[0]}", description=command.HELP)
        command.add_arguments(parser)
        return command.run(parser.parse_args(argv[1:])) or 0
    except VlaError as error:
        print("vla:", *str(error).split(), file=sys.stderr)  # one line, whatever the text holds
        return error.exit_code
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
