"""`vla`: one command with sub-commands, each imported only when it is called."""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys

from vla_ros import commands
from vla_ros.errors import UnknownNameError, VlaError


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
        parser = argparse.ArgumentParser(prog=f"vla {argv[0]}", description=command.HELP)
        command.add_arguments(parser)
        return command.run(parser.parse_args(argv[1:])) or 0
    except VlaError as error:
        print(f"vla: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
