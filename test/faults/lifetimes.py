"""A whole system is brought up and torn down again and again: does anything of it stay? `make faults`, or
`python test/faults/lifetimes.py --n 20`.

After each time all of its processes must have ended well, none may run, no new file may lie in shared memory, and the
process that starts them, with a client of its own each time, may not have grown. One line at the end, then one of JSON;
exit code 1 after a miss.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path

from tqdm import tqdm

from vla_ros.bringup import sim_system
from vla_ros.errors import VlaError
from vla_ros.nodes.domains import free_domain
from vla_ros.nodes.system import System

READY = 120.0  # [s] on a busy machine
GONE = 5.0  # [s] that what was ended may need to be gone
GROWTH = 0.05  # of the memory of the process that starts them
SHARED = Path("/dev/shm")
TRACER = "lttng-ust-wait"  # of the library that ROS 2 is traced with: two files for a machine, by whoever comes first


def processes_of(domain: int) -> list[str]:
    """Command lines of what runs in a domain, but for this process."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"ROS_DOMAIN_ID={domain}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


def shared_files() -> set[str]:
    return {file.name for file in SHARED.iterdir() if not file.name.startswith(TRACER)}


def memory() -> int:
    """[pages] of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1])


def once(policy: str) -> tuple[float, list[str], list[str], list[str]]:
    """[s] until it was ready, then what is left of it: processes and files, and what did not end well."""
    before, domain, begin = shared_files(), free_domain(), time.monotonic()
    with System(sim_system(policy=policy, world="mock"), domain=domain) as running:
        running.wait_ready(READY)
        ready = time.monotonic() - begin
    end = time.monotonic() + GONE
    while (left := (processes_of(domain), sorted(shared_files() - before))) != ([], []) and time.monotonic() < end:
        time.sleep(0.1)
    return ready, *left, [f"{name} {end}" for name, end in running.ends.items()]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--n", type=int, default=200, help="times (default 200)")
    parser.add_argument("--policy", default="hold", help="as of `vla up sim` (default hold)")
    args = parser.parse_args()
    seconds, failures, left, pages = [], [], [], []
    for number in tqdm(range(args.n), unit="system"):
        try:
            ready, processes, files, ends = once(args.policy)
        except VlaError as error:
            failures.append(f"{number}: {error}")
            continue
        seconds.append(ready)
        failures += [f"{number}: {end}" for end in ends]
        left += [f"{number}: {name}" for name in (*processes, *files)]
        pages.append(memory())
    part = max(1, len(pages) // 10)  # the first times load what the later ones share
    grown = statistics.median(pages[-part:]) / statistics.median(pages[part:2 * part] or pages) - 1 if pages else 0.0
    for text in (*failures, *left):
        print(text, file=sys.stderr)
    size = pages[-1] * os.sysconf("SC_PAGE_SIZE") / 2**20 if pages else 0.0
    found = {"n": args.n, "failures": len(failures), "left": len(left), "growth": round(grown, 4),
             "memory_mib": round(size, 1), "ready_p50": statistics.median(seconds) if seconds else None,
             "ready_max": max(seconds, default=None)}
    print(f"{args.n} systems: {len(failures)} failed, {len(left)} processes or files left, memory {grown:+.1%}; ready "
          f"after {found['ready_p50'] or 0:.1f} s (median), {found['ready_max'] or 0:.1f} s at most")
    print(json.dumps({"lifetimes": found}))
    return 1 if failures or left or grown > GROWTH else 0


if __name__ == "__main__":
    sys.exit(main())
