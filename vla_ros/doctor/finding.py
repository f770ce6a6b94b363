"""What a check finds, and how checks run: none of them ends the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from vla_ros.errors import VlaError

OK, WARNING, ERROR = "ok", "warning", "error"
LEVELS = (ERROR, WARNING, OK)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    level: 'error' (the robot will not move, or will do something else than was meant), 'warning' (it may move worse
    than it could, or only a person can tell) or 'ok'. check: what was looked at. what: is the case; why: that matters;
    mend: what to change. The last two are empty when all is well.
    """

    level: str
    check: str
    what: str
    why: str = ""
    mend: str = ""

    def to_dict(self) -> dict[str, str]:
        return asdict(self)


Check = Callable[[Any], Iterable[Finding]]


def ok(check: str, what: str) -> Finding:
    return Finding(OK, check, what)


def warning(check: str, what: str, why: str, mend: str) -> Finding:
    return Finding(WARNING, check, what, why, mend)


def error(check: str, what: str, why: str, mend: str) -> Finding:
    return Finding(ERROR, check, what, why, mend)


def or_ok(findings: Iterable[Finding], check: str, what: str) -> list[Finding]:
    """The findings, or that all is well where there are none."""
    return list(findings) or [ok(check, what)]


def run(checks: Iterable[Check], subject: Any) -> list[Finding]:
    """What all checks find. One that cannot be made, because what it reads is missing or malformed, is a finding too:
    once, however many checks read it."""
    found: list[Finding] = []
    for check in checks:
        name = check.__name__.replace("_", " ")
        try:
            found += check(subject)
        except VlaError as reason:
            if all(finding.what != str(reason) for finding in found):
                found.append(error(name, str(reason), "what is missing or malformed cannot be examined, nor used",
                                   "correct what is named, then examine again"))
    return found
