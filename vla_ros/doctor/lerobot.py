"""A LeRobot checkpoint beside a robot: from its JSON, and from the file that says what its numbers mean."""

from __future__ import annotations

from collections.abc import Iterator

from vla_ros.doctor.finding import Finding, error, ok, warning
from vla_ros.errors import VlaError
from vla_ros.lerobot.checkpoint import WORDLESS, Features
from vla_ros.lerobot.fitting import plan
from vla_ros.lerobot.options import read_options
from vla_ros.policies import open_policy
from vla_ros.profile import RobotProfile
from vla_ros.remote.described import Described

MEND = "docs/lerobot.md has what the file must say, and how LeRobot's environment is made"


def planned(policy: str, profile: RobotProfile) -> tuple[Features, Described]:
    """policy: as open_policy takes it. Raises VlaError."""
    return plan(read_options(policy), profile)


def of_plan(found: Features, described: Described) -> Iterator[Finding]:
    said = described.description
    unread = [key for key in found.images if key not in said.images]
    yield ok("inputs", ", ".join([f"{key} is camera '{name}'" for key, name in said.images.items()]
                                 + [f"{key} is {' '.join(parts)}" for key, parts in said.state.items()]))
    if unread:
        yield warning("inputs", f"{', '.join(unread)} will be masked", f"{found.kind} can do without a camera, and "
                      "does worse", "name a camera for it under images")
    if found.kind in WORDLESS:
        yield warning("words", f"{found.kind} reads no words", "whatever it is told, it does the one thing that it has "
                      "learnt", "tell it nothing else, or take a policy that reads words")


def weights(policy: str, profile: RobotProfile) -> Iterator[Finding]:
    """Opens the policy as the policy node does, which takes as long."""
    try:
        open_policy(policy, profile)
    except VlaError as reason:
        yield error("weights", str(reason), "the policy node ends with this very error", MEND)
    else:
        yield ok("weights", "LeRobot opens them")
