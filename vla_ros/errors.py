"""Errors that name their cause and what would have been valid. No heavy imports."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class VlaError(Exception):
    """Base of every error that this package raises on purpose; commands print it on one line and exit 2."""

    exit_code = 2

    def __reduce__(self):
        """As made, so that it crosses from one process to another whatever its constructor asks for."""
        return revive, (type(self), self.args, vars(self))


def revive(cls: type[VlaError], args: tuple, attributes: dict) -> VlaError:
    error = cls.__new__(cls, *args)
    vars(error).update(attributes)
    return error


class UnknownNameError(VlaError):
    """A name that is not among the valid ones: lists them and suggests the nearest."""

    def __init__(self, kind: str, name: str, valid: Iterable[str]):
        valid = sorted(valid)
        near = difflib.get_close_matches(str(name), valid, n=1)
        hint = f" (did you mean '{near[0]}'?)" if near else ""
        super().__init__(f"unknown {kind} '{name}'{hint}; available: {', '.join(valid) or 'none'}")
        self.kind, self.name, self.valid = kind, name, valid


class ConfigError(VlaError):
    """A configuration file or parameter that cannot be used."""


class CheckpointError(VlaError):
    """A checkpoint that is missing, damaged, or not of this architecture."""


class ObservationError(VlaError):
    """An observation that must not be acted on; `reason` is one word for counting."""

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason


class ActionError(VlaError):
    """An action chunk or a command that must not reach the robot; `reason` is one word for counting."""

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason


class SimulationError(VlaError):
    """A world that cannot do what it was asked to."""


class RemoteError(VlaError):
    """Another program that does not answer in time, or a message of its that cannot be used."""
