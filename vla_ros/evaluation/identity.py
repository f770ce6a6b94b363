"""What exactly was evaluated: a policy's name and a digest of its files, so that two scores can be compared."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from vla_ros.naming import pinned_title
from vla_ros.policies import checkpoint_folder, open_policy, with_options
from vla_ros.profile import load_profile
from vla_ros.remote.address import is_address
from vla_ros.sim.tasks import get_task

DIGITS = 12
PART = 1 << 24  # [bytes] read at once: weights may be larger than memory
WITHOUT_FILES = ("oracle", "hold")


def identity(policy: str, tasks: Sequence[str]) -> str:
    """For each robot of the tasks, the file or folder that holds the policy, and its digest.

    Opens it first, so that what cannot be used on these robots is an error before anything is started.
    """
    if policy in WITHOUT_FILES:
        return policy
    robots = dict.fromkeys(get_task(task).robot for task in tasks)
    return ", ".join(dict.fromkeys(opened_name(policy, robot) for robot in robots))


def opened_name(policy: str, robot: str) -> str:
    """As `named`, of one that is opened first; of a remote one, what its server says of itself, and where it is."""
    opened = open_policy(policy, load_profile(robot))
    return f"{opened.checkpoint or opened.name} at {opened.place}" if is_address(policy) else named(policy, robot)


def named(policy: str, robot: str) -> str:
    """A policy that is there, by name and digest."""
    if policy in WITHOUT_FILES:
        return policy
    path, (_, options) = source(policy, robot), with_options(policy)
    return f"{pinned_title(path)}{options and f'?{options}'}@{digest(path)}"


def source(policy: str, robot: str) -> Path:
    """Where a policy for a robot is stored."""
    if policy.startswith("replay:"):
        return Path(policy.removeprefix("replay:"))
    return checkpoint_folder(policy, load_profile(robot)).resolve()


def digest(path: Path) -> str:
    """Of a file, or of a folder's files with their names; not of its card, which is written from the scores."""
    total = hashlib.sha256()
    inside = sorted(p for p in path.rglob("*") if p.is_file() and p.suffix != ".md")
    for file in inside if path.is_dir() else [path]:
        total.update(file.relative_to(path).as_posix().encode() + b"\0")
        with file.open("rb") as opened:
            while part := opened.read(PART):
                total.update(part)
    return total.hexdigest()[:DIGITS]
