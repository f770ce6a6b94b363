"""Robots come and go at one `vla serve` for a long time: is a reply lost, does the server grow?

    .venv/bin/python bench/soak.py --seconds 600 --robots 4

Each robot connects, asks as often as robots do, and leaves: properly, or as one whose cable is pulled, or with a
question that it does not wait for the answer to. Then it comes back. The first answer of a connection has to be that of
the robot's own scene. One line at the end, then one of JSON; exit code 1 when a reply was lost or wrong, or the server
grew by more than a twentieth.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import time
from pathlib import Path
from socket import SHUT_RDWR

import aiohttp
import numpy as np
from serving import DEADLINE, scenes, server
from timing import figures

from vla_ros.cli import at_least
from vla_ros.errors import VlaError
from vla_ros.profile import load_profile
from vla_ros.remote.declared import Declared
from vla_ros.remote.packing import pack, unpack

PERIOD = 0.4  # [s] between the questions of a robot: four steps of a chunk
LONGEST = 20  # questions of a connection
SAMPLE = 2.0  # [s] between looks at the server's memory
GROWTH = 0.05
SLOTS = 4  # robots at a time that the server takes, for each that comes and goes: it learns of some ends late
FULL = 503  # what it says when they are taken
NEAR = 0.02  # share of an action's span: answers of a batch are those of one alone but for rounding


class Soak:
    def __init__(self, address: str, profile, seen: list, end: float):
        self.address, self.profile, self.seen, self.end = address.partition("?")[0], profile, seen, end
        self.waits: list[float] = []
        self.first: dict[int, np.ndarray] = {}  # what each scene was answered at first
        self.connections = self.left = self.turned_away = 0  # left: answers that nobody waited for
        self.faults: list[str] = []

    async def robot(self, session: aiohttp.ClientSession, number: int) -> None:
        rng = random.Random(number)
        while time.monotonic() < self.end:
            try:
                await self.visit(session, number, rng)
            except (VlaError, aiohttp.ClientError, ConnectionError, TimeoutError) as error:
                full = getattr(error, "status", 0) == FULL
                self.turned_away += full
                self.faults += [] if full else [f"robot {number}: {type(error).__name__} {error}"]
                await asyncio.sleep(PERIOD)

    async def visit(self, session: aiohttp.ClientSession, number: int, rng: random.Random) -> None:
        """One connection, from its beginning to its end."""
        async with session.ws_connect(self.address, compress=0, max_msg_size=0) as socket:
            self.connections += 1
            talk = Declared(unpack((await socket.receive(DEADLINE)).data), self.profile, self.address)
            for turn in range(rng.randint(1, LONGEST)):
                begin = time.monotonic()
                await socket.send_bytes(pack(talk.request(self.seen[number], turn == 0)))
                reply = await socket.receive(DEADLINE)
                spent = time.monotonic() - begin
                chunk = talk.chunk(unpack(reply.data), self.seen[number].stamp, spent)
                self.waits.append(spent)
                if turn == 0:
                    self.compare(number, chunk)
                await asyncio.sleep(max(0.0, PERIOD - spent))
            how = rng.choice(("closed", "pulled", "unread"))
            if how == "unread":
                self.left += 1
                await socket.send_bytes(pack(talk.request(self.seen[number], False)))
            if how != "closed":
                socket.get_extra_info("socket").shutdown(SHUT_RDWR)

    def compare(self, number: int, chunk) -> None:
        known = self.first.setdefault(number, chunk.values)
        span = np.abs(known).max()
        if chunk.refusal or np.abs(chunk.values - known).max() > NEAR * span:
            self.faults.append(f"robot {number}: another answer than at first {chunk.refusal}")

    async def run(self, pid: int) -> list[int]:
        """Until the end; the server's memory [pages], sampled."""
        pages: list[int] = []

        async def watch() -> None:
            while time.monotonic() < self.end:
                pages.append(int(Path(f"/proc/{pid}/statm").read_text().split()[1]))
                await asyncio.sleep(SAMPLE)
        async with aiohttp.ClientSession() as session:
            await asyncio.gather(watch(), *(self.robot(session, number) for number in range(len(self.seen))))
        return pages


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--seconds", type=at_least(10), default=600)
    parser.add_argument("--robots", type=at_least(1), default=4)
    args = parser.parse_args()
    try:
        profile = load_profile("panda")
        seen = scenes(profile, args.robots)
        with server("panda", SLOTS * args.robots, args.robots) as (address, pid):
            soak = Soak(address, profile, seen, time.monotonic() + args.seconds)
            pages = asyncio.run(soak.run(pid))
    except VlaError as error:
        print(f"bench/soak: {error}", file=sys.stderr)
        return error.exit_code
    part = max(1, len(pages) // 10)  # the first connections load what the later ones share
    grown = statistics.median(pages[-part:]) / statistics.median(pages[part:2 * part] or pages) - 1
    for text in soak.faults[:20]:
        print(text, file=sys.stderr)
    found = {"seconds": args.seconds, "robots": args.robots, "connections": soak.connections,
             "replies": len(soak.waits), "faults": len(soak.faults), "left": soak.left,
             "turned_away": soak.turned_away, **figures(soak.waits),
             "memory_mib": round(pages[-1] * os.sysconf("SC_PAGE_SIZE") / 2**20, 1), "growth": round(grown, 4)}
    print(f"{args.seconds} s, {args.robots} robots: {found['connections']} connections, {found['replies']} replies, "
          f"{found['faults']} lost or wrong; p95 {1e3 * found['p95']:.0f} ms; {found['memory_mib']} MiB, {grown:+.1%}")
    print(json.dumps({"bench": "soak", **found}))
    return 1 if soak.faults or grown > GROWTH else 0


if __name__ == "__main__":
    sys.exit(main())
