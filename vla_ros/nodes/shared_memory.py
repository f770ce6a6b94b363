"""What a process has in shared memory, and what of it is left when it was killed. No ROS.

Fast DDS removes its files as a process ends; of one that is killed they stay, fill the memory, and new nodes may wait
for locks that nobody holds any more. The names are those of its shared memory transport: NAME, sem.NAME_mutex, and
NAME_el, which is locked (flock) by the process that NAME belongs to, in whatever container that runs.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterable
from pathlib import Path

FOLDER = Path("/dev/shm")
PREFIX, LOCK = "fastdds_", "_el"


def files_of(pid: int | str) -> set[Path]:
    """Files in shared memory that a process has mapped or open; none of one that is gone or somebody else's."""
    process, found = Path("/proc") / str(pid), set()
    try:
        for line in (process / "maps").read_text().splitlines():
            found.add(Path(line.split(maxsplit=5)[-1]))
        found |= {link.readlink() for link in (process / "fd").iterdir()}
    except OSError:
        pass  # it ends meanwhile
    return {file for file in found if file.parent == FOLDER and file.exists()}


def remove_unused(files: Iterable[Path]) -> set[Path]:
    """Removes those of the middleware that nobody uses any more, and returns them."""
    files = {file for file in files if file.name.removeprefix("sem.").startswith(PREFIX)}
    if not files:
        return set()
    used = set().union(*(files_of(process.name) for process in Path("/proc").glob("[0-9]*")))
    left = {file for file in files - used if not locked(file)}
    for file in left:
        file.unlink(missing_ok=True)
    return left


def locked(file: Path) -> bool:
    """Whether the process that it belongs to lives, where that cannot be seen otherwise."""
    name = file.name.removeprefix("sem.").removesuffix("_mutex").removesuffix(LOCK)
    try:
        with (file.parent / (name + LOCK)).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False
