"""What the nodes hear is disturbed while the robot moves: images, the clock, the answers of a policy elsewhere.
`make faults`, or `python test/faults/disturb.py --n 3 --only camera late`.

Real nodes over DDS in real time, in the mock world; a relay stands between the world and the nodes that read it. After
each disturbance the robot has to rest, or to go on by what is fresh, as the table below says. Where it has come to rest
it stays there when the disturbance is over, until it is told again; but for a clock, which may have stood or jumped
between two chunks, when nothing moved. And never does a chunk answer an image that was over age when it came. One line
a disturbance, and one line of JSON at the end; exit code 1 after a miss.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from inject import READY, WITHIN, Bench, Motion, description
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from vla_ros.msg import ActionChunk

from vla_ros.bringup import SystemDescription
from vla_ros.nodes import convert, qos
from vla_ros.nodes.domains import free_domain
from vla_ros.nodes.system import System
from vla_ros.nodes.tracing import published
from vla_ros.profile import load_profile

AFTER, HANG, AGAIN = 3.0, 10.0, 1.0  # [s] that are looked at, of a policy that hangs, and when it is over
SLACK = 0.1  # [s] from the gate to the wire and to whoever looks, on a busy machine
LATE = 1_000_000_000  # [ns]
RUN_OUT = 1.0  # [s] a chunk's 0.8 s, 0.1 s of braking, and SLACK
REPEATED = 1.5  # [s] in which this motion turns a joint by as much as one picture may stay the same for
READERS = ("policy_node", "control_node", "task_node")
TRUE_CLOCK = "/clock_of_the_world"


class Relay:
    """Passes messages on, or what `disturb` makes of them: a list from one message, by the stream it came on."""

    def __init__(self, system: System, cameras, clock: bool):
        self.disturb: Callable[[str, object], list] | None = None
        self._client, self._done = system.client("relay"), threading.Event()
        node = self._client.node
        for name in cameras:
            self._join(node, Image, name, f"camera/{name}/image_raw", f"relayed/{name}/image_raw", qos.SENSOR)
        if clock:
            self._join(node, Clock, "clock", TRUE_CLOCK, "/clock", qos.CLOCK)
        self._thread = threading.Thread(target=self._client.spin_until, args=(self._done.is_set, float("inf")))
        self._thread.start()

    def _join(self, node, kind, name: str, come: str, go: str, profile) -> None:
        out = node.create_publisher(kind, go, profile)

        def on_message(message) -> None:
            for changed in [message] if self.disturb is None else self.disturb(name, message):
                out.publish(changed)
        self._client.subscribe(kind, come, on_message, profile)

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *error) -> None:
        self._done.set()
        self._thread.join()
        self._client.close()


# --- disturbances: each makes a function of (stream, message) -----------------------------------------------------


def silent():
    return lambda name, message: []


def repeated():
    """The same message again and again, stamp and all."""
    first: dict = {}
    return lambda name, message: [first.setdefault(name, message)]


def frozen():
    """One picture with new stamps."""
    first: dict = {}

    def disturb(name, message):
        picture = first.setdefault(name, message.data)
        message.data = picture
        return [message]
    return disturb


def black():
    def disturb(name, message):
        message.data = bytes(len(message.data))
        return [message]
    return disturb


def half_lost():
    count: dict[str, int] = {}

    def disturb(name, message):
        count[name] = count.get(name, 0) + 1
        return [message] if count[name] % 2 else []
    return disturb


def late():
    """Each comes a second after it was taken."""
    waiting: dict[str, list] = {}

    def disturb(name, message):
        line, now = waiting.setdefault(name, []), convert.nanoseconds(message.header.stamp)
        line.append(message)
        ripe = [m for m in line if convert.nanoseconds(m.header.stamp) <= now - LATE]
        del line[:len(ripe)]
        return ripe
    return disturb


def disordered():
    """The second of each two comes first."""
    held: dict = {}

    def disturb(name, message):
        before = held.pop(name, None)
        if before is None:
            held[name] = message
            return []
        return [message, before]
    return disturb


def clock(change: Callable[[int, int], int]):
    """change: (time since the disturbance began, when it began) -> time, all in ns."""
    begun: list[int] = []

    def disturb(name, message):
        now = convert.nanoseconds(message.clock)
        begun.append(now) if not begun else None
        return [Clock(clock=convert.time_message(change(now - begun[0], begun[0])))]
    return disturb


TEN = 10_000_000_000  # [ns]


@dataclass(frozen=True)
class Disturbance:
    """make: of the relay's function. rests: [s] within which the robot has to rest; None: it may go on."""

    name: str
    make: Callable
    rests: float | None
    streams: str = "camera"


DISTURBANCES = (
    Disturbance("camera silent", silent, WITHIN),
    Disturbance("camera repeats one message", repeated, WITHIN),
    Disturbance("camera frozen", frozen, REPEATED + WITHIN),
    Disturbance("camera black", black, WITHIN),
    Disturbance("camera 1 s late", late, WITHIN),
    Disturbance("camera loses half", half_lost, None),
    Disturbance("camera out of order", disordered, None),
    Disturbance("clock stops", lambda: clock(lambda t, begun: begun), WITHIN + 0.2, "clock"),
    Disturbance("clock 10 s ahead", lambda: clock(lambda t, begun: begun + t + TEN), WITHIN, "clock"),
    Disturbance("clock 10 s back", lambda: clock(lambda t, begun: max(0, begun + t - TEN)), WITHIN, "clock"),
    Disturbance("clock 10 times slower", lambda: clock(lambda t, begun: begun + t // 10), WITHIN + 0.3, "clock"),
    Disturbance("clock 10 times faster", lambda: clock(lambda t, begun: begun + 10 * t), WITHIN + 0.2, "clock"),
)


def relayed(system: SystemDescription, cameras, streams: str) -> SystemDescription:
    """The system whose nodes hear through the relay."""
    def changed(process):
        if streams == "clock":
            return replace(process, remappings=(("/clock", TRUE_CLOCK),)) if process.name == "sim_node" else process
        through = tuple((f"camera/{name}/image_raw", f"relayed/{name}/image_raw") for name in cameras)
        return replace(process, remappings=through) if process.name == "policy_node" else process
    return replace(system, processes=tuple(map(changed, system.processes)))


@dataclass(frozen=True)
class Seen:
    """rest: [s] from the disturbance to the last motion; resumed: [s] from its end to the last motion after that, of a
    robot that was not told again; over_age: chunks about what was too old; outcome: of the goal under way. Afterwards
    the robot was moved again."""

    rest: float
    resumed: float
    over_age: int
    outcome: str


class Ages:
    """How old what chunks answer was when they were published, by the world's own time: not when they came here, as who
    looks on may be kept from the processor."""

    def __init__(self, client, clock_topic: str):
        self.clock: list[tuple[float, float]] = []  # [s] of the wall, when published, and what it said
        self.chunks: list[tuple[float, float]] = []  # [s] of the wall, when published, and their stamps
        client.subscribe(Clock, clock_topic, self._on_clock, qos.CLOCK)
        client.subscribe(ActionChunk, "vla/action_chunk", self._on_chunk, qos.STREAM)

    def _on_clock(self, message: Clock, info: dict) -> None:
        self.clock.append((published(info), convert.nanoseconds(message.clock) / 1e9))

    def _on_chunk(self, message: ActionChunk, info: dict) -> None:
        if not message.refusal:
            self.chunks.append((published(info), convert.nanoseconds(message.header.stamp) / 1e9))

    @property
    def ages(self) -> list[float]:
        """[s] by the nearest word of the world's clock, which runs as the wall's does."""
        found = []
        for wall, stamp in self.chunks:
            said, now = min(self.clock, key=lambda pair, wall=wall: abs(pair[0] - wall))
            found.append(now + wall - said - stamp)
        return found


def trial(bench: Bench, begin: Callable[[], None], end: Callable[[], None], clock_topic: str,
          after: float = AFTER) -> Seen:
    system, limit = bench.system, bench.profile.max_observation_age + SLACK
    with system.client("observer") as client:
        motion, ages = Motion(client, bench.profile), Ages(client, clock_topic)

        def wait(seconds: float) -> None:
            until = time.monotonic() + seconds
            client.spin_until(lambda: time.monotonic() > until, seconds + 1.0, system.check)
        goal = bench.moving(client, motion)
        del ages.chunks[:]
        since = time.time()
        begin()
        wait(after)
        rest, ended = motion.until(since), time.time()
        end()
        wait(AGAIN)
        resumed, over = motion.until(ended), sum(age > limit for age in ages.ages)
        goal.end()
        bench.moving(client, motion).end()
        return Seen(rest, resumed, over, goal.outcome)


def line(name: str, rests: float | None, stays: bool, made: list[Seen]) -> dict:
    missed = sum((rests is not None and t.rest > rests) or (stays and t.resumed > 0) or t.over_age > 0 for t in made)
    resumed = sum(t.resumed > 0 for t in made)
    found = {"disturbance": name, "n": len(made), "misses": missed, "worst": round(max(t.rest for t in made), 3),
             "resumed": resumed, "allowed": rests, "over_age": sum(t.over_age for t in made),
             "outcomes": sorted({t.outcome for t in made})}
    moved = f"{found['worst']:.2f} s to rest" + (f" of {rests:.1f}" if rests is not None else ", may go on")
    print(f"{name:28} n {len(made):3}  misses {missed:3}  {moved}; {resumed} moved on by "
          f"themselves; {found['over_age']} chunks over age; "
          f"{', '.join(found['outcomes'])}; moved again after each", flush=True)
    return found


def disturbed(what: Disturbance, folder: Path, count: int) -> dict:
    profile = load_profile("panda")
    cameras = profile.cameras
    system = relayed(description("panda", folder), cameras, what.streams)
    with (System(system, domain=free_domain()) as running,
          Relay(running, cameras if what.streams == "camera" else (), what.streams == "clock") as relay):
        running.wait_ready(READY)

        def begin():
            relay.disturb = what.make()

        def end():
            relay.disturb = None
        made = [trial(Bench(running, profile, i), begin, end, TRUE_CLOCK if what.streams == "clock" else "/clock")
                for i in range(count)]
    return line(what.name, what.rests, what.rests is not None and what.streams != "clock", made)


def hanging(folder: Path, count: int) -> dict:
    """A policy elsewhere that stops to answer: the policy node's thread waits for it, and the node lives on. What it
    answered last is executed to its end, as where images stop."""
    profile, server = load_profile("panda"), None
    plain = description("panda", folder)
    source = plain.processes[1].parameters["policy"]
    try:
        server = subprocess.Popen([sys.executable, "-m", "vla_ros.cli", "serve", "--policy", source, "--port", "0"],
                                  stdout=subprocess.PIPE, text=True)
        address = re.search(r"ws://\S+", server.stdout.readline())[0]
        nodes = tuple(replace(p, parameters=p.parameters | {"policy": address}) if "policy" in p.parameters else p
                      for p in plain.processes)
        with System(replace(plain, processes=nodes), domain=free_domain()) as running:
            running.wait_ready(READY)
            made = [trial(Bench(running, profile, i), lambda: os.kill(server.pid, signal.SIGSTOP),
                          lambda: os.kill(server.pid, signal.SIGCONT), "/clock", HANG) for i in range(count)]
    finally:
        if server is not None:
            server.kill()
            server.wait()
    return line("policy elsewhere hangs", RUN_OUT, True, made)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition(".")[0])
    parser.add_argument("--n", type=int, default=5, help="times that each is tried (default 5)")
    parser.add_argument("--only", nargs="+", default=[], help="words that a name must all have")
    args = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as made:
        for what in DISTURBANCES:
            if all(word in what.name for word in args.only):
                results.append(disturbed(what, Path(made), args.n))
        if all(word in "policy elsewhere hangs" for word in args.only):
            results.append(hanging(Path(made), args.n))
    print(json.dumps({"disturbances": results}))
    return 1 if any(found["misses"] for found in results) else 0


if __name__ == "__main__":
    sys.exit(main())
