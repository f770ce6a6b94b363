"""What a running system's topics are to be like. nodes/listening.py hears them; here it is judged, without ROS."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median

from vla_ros.doctor.finding import Finding, error, ok, or_ok, run, warning
from vla_ros.doctor.robot import named_joints
from vla_ros.profile import RobotProfile

WALL, SIM = "the wall clock", "/clock"
SLOWER = 0.9  # of the policy's rate, from which a camera is as good as in time
CONTROL, WATCHDOG = "control_node", "watchdog_node"


@dataclass(frozen=True)
class Endpoint:
    """A publisher or subscription. node: with its namespace; mismatch: of its quality of service with ours, or ''."""

    node: str
    type: str
    mismatch: str = ""

    @property
    def name(self) -> str:
        """Without its namespace."""
        return self.node.rpartition("/")[2]


@dataclass(frozen=True)
class Stream:
    """A topic that was listened to.

    type: expected. stamps: [ns] of what was heard. behind: by clock, how far the freshest message was behind it [s].
    fault: what is wrong with the newest message, or ''. names: the joints, of the message with most of the profile's.
    """

    topic: str
    type: str
    publishers: tuple[Endpoint, ...] = ()
    stamps: tuple[int, ...] = ()
    behind: Mapping[str, float] = field(default_factory=dict)
    fault: str = ""
    names: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Heard:
    """A running system.

    cameras: by name; read: those that the policy reads. commands: the command topic's name, its type, who subscribes
    and who publishes. clocks: publishers of /clock. sim_time: by node of ours, whether it takes its time from /clock.
    lockstep: the simulation waits for commands, so that no rate says anything. seconds: of listening.
    """

    profile: RobotProfile
    cameras: Mapping[str, Stream]
    joints: Stream
    read: tuple[str, ...]
    command_topic: str
    command_type: str
    subscribers: tuple[Endpoint, ...] = ()
    publishers: tuple[Endpoint, ...] = ()
    clocks: int = 0
    sim_time: Mapping[str, bool] = field(default_factory=dict)
    lockstep: bool = False
    seconds: float = 0.0

    @property
    def streams(self) -> dict[str, Stream]:
        return {stream.topic: stream for stream in (*self.cameras.values(), self.joints)}


def examine_topics(heard: Heard) -> list[Finding]:
    return run((cameras, joint_states, command_topic, clock), heard)


def cameras(h: Heard) -> Iterator[Finding]:
    for name, stream in h.cameras.items():
        problems = list(image_problems(h, stream))
        if name not in h.read:  # it cannot do harm yet
            problems = [warning(p.check, f"{p.what} (the policy does not read it)", p.why, p.mend) for p in problems]
        size = h.profile.cameras[name]
        yield from problems or [ok("camera topic", f"{stream.topic}: {size.width} x {size.height} px"
                                   + ("" if h.lockstep else f" at {rate_of(stream):.3g} Hz"))]


def image_problems(h: Heard, stream: Stream) -> Iterator[Finding]:
    unheard = list(connection("camera topic", stream, h.seconds))
    yield from unheard
    if len(stream.publishers) > 1:
        yield error("camera topic", f"{stream.topic} has {len(stream.publishers)} publishers: "
                    f"{nodes(stream.publishers)}", "two pictures take turns", "let one of them publish elsewhere")
    if stream.fault:
        yield error("camera topic", f"{stream.topic}: {stream.fault}", "the policy refuses every such image",
                    "set the driver to what the profile says, or the profile to what the policy was trained on")
    elif not unheard and not h.lockstep:
        yield from slow(h, stream)


def slow(h: Heard, stream: Stream) -> Iterator[Finding]:
    rate, needed = rate_of(stream), 1 / h.profile.action.period
    if rate < SLOWER * needed:
        late = rate * h.profile.max_observation_age < 1
        make = error if late else warning
        yield make("camera topic", f"{stream.topic} comes at {rate:.3g} Hz, the policy's rate is {needed:.3g} Hz",
                   f"between two images the last grows older than {h.profile.max_observation_age:g} s, and is refused"
                   if late else "the robot reacts later than it was trained to", f"a driver at {needed:.3g} Hz or more")


def rate_of(stream: Stream) -> float:
    """[Hz] by the stamps, so that neither a busy machine nor one that was lost counts; 0 where they do not advance."""
    steps = [b - a for a, b in pairwise(stream.stamps)]
    return 1e9 / median(steps) if steps and median(steps) > 0 else 0.0


def connection(check: str, stream: Stream, seconds: float) -> Iterator[Finding]:
    """Why nothing would arrive, or did."""
    types = {p.type for p in stream.publishers}
    mismatched = [p for p in stream.publishers if p.mismatch]
    if not stream.publishers:
        yield error(check, f"nobody publishes {stream.topic}", "the policy waits for it, and never moves",
                    "start its driver, or remap the topic: --remap FROM:=TO, here and for the nodes")
    elif types != {stream.type}:
        yield error(check, f"{stream.topic} is of type {', '.join(sorted(types))}, expected {stream.type}",
                    "nothing of another type is received", f"publish {stream.type}")
    elif mismatched:
        yield error(check, f"{stream.topic}: quality of service of {nodes(mismatched)} does not match ours: "
                    f"{mismatched[0].mismatch}", "publisher and reader never connect", "publish as sensor data: best "
                    "effort or reliable, volatile, without a deadline")
    elif not stream.stamps:
        yield error(check, f"{stream.topic} has a publisher, but nothing arrived in {seconds:g} s",
                    "the policy waits for it, and never moves", "look whether the driver works; for large images see "
                    "transport; between hosts, whether UDP passes")


def joint_states(h: Heard) -> Iterator[Finding]:
    def problems() -> Iterator[Finding]:
        yield from connection("joint states", h.joints, h.seconds)
        if h.joints.fault:
            yield error("joint states", f"{h.joints.topic}: {h.joints.fault}", "the nodes ignore such messages",
                        "one position and one velocity for each name, finite")
        missing = [name for name in needed if name not in h.joints.names]
        if h.joints.stamps and missing:
            have = ", ".join(sorted(h.joints.names)) or "none"
            yield error("joint states", f"{h.joints.topic} lacks {', '.join(missing)}; it has {have}",
                        "nobody knows where the robot is: no motion begins",
                        "name the joints in the profile as the driver does, all of them in one message")
    needed = named_joints(h.profile)
    yield from or_ok(problems(), "joint states", f"{h.joints.topic}: {len(needed)} joints of the profile are there")


def command_topic(h: Heard) -> Iterator[Finding]:
    commanding = but_watchdogs(h.publishers)
    others = commanding if len(commanding) > 1 or any(p.name != CONTROL for p in commanding) else ()
    yield from or_ok(command_problems(h.command_topic, h.command_type, h.subscribers, others), "command topic",
                     f"{h.command_topic} is read by {nodes(but_watchdogs(h.subscribers))}, commanded by "
                     f"{nodes(commanding) or 'nobody yet'}")


def command_problems(topic: str, kind: str, subscribers: Sequence[Endpoint],
                     others: Sequence[Endpoint]) -> Iterator[Finding]:
    """kind: the type of what is commanded; others: who must not command. Whoever looks on, as a recorder does, cannot
    be told from a robot's controller."""
    readers = but_watchdogs(subscribers)
    if not any(s.type == kind and not s.mismatch for s in readers):
        besides = "; ".join(f"{s.node} reads {s.type}{': ' + s.mismatch if s.mismatch else ''}" for s in readers)
        yield error("command topic", f"nobody reads {topic} as {kind}" + (f" ({besides})" if besides else ""),
                    "the robot does not move, whatever is commanded",
                    "start the robot's controller, or set command.interface and command.topic of the profile")
    if others:
        yield error("command topic", f"{topic} is commanded by {nodes(others)}",
                    "two that command one robot make it jump between them, past every limit on acceleration",
                    f"end all but one {CONTROL}, or remap the others")


def but_watchdogs(endpoints: Sequence[Endpoint]) -> list[Endpoint]:
    """A watchdog reads every command, and commands nothing but rest, when nobody else does."""
    return [endpoint for endpoint in endpoints if endpoint.name != WATCHDOG]


def clock(h: Heard) -> Iterator[Finding]:
    """Every stamp fresh by one clock, and that clock ours."""
    limit, problems = h.profile.max_observation_age, []
    heard = {topic: stream for topic, stream in h.streams.items() if stream.behind}
    fitting = {topic: {name for name, behind in stream.behind.items() if abs(behind) <= limit}
               for topic, stream in heard.items()}
    for topic, clocks in fitting.items():
        if not clocks:
            gaps = " and ".join(f"{behind:.3g} s behind {name}" for name, behind in heard[topic].behind.items())
            problems.append(error("clock", f"{topic} is stamped {gaps}; at most {limit:g} s is allowed",
                                  "observations that are too old, or of the future, are refused: no motion begins",
                                  "synchronise the hosts' clocks; stamp when the picture is taken, not 0"))
    common = set.intersection(*fitting.values()) if fitting else set()
    if fitting and not common and not problems:
        told = ", ".join(f"{topic} by {' or '.join(sorted(clocks))}" for topic, clocks in fitting.items())
        problems.append(error("clock", f"stamps are of different clocks: {told}", "parts that lie too far apart are "
                              "refused: no motion begins", "use_sim_time for all drivers, or for none"))
    if common:
        problems += wrong_clock(h, common)
    if h.clocks > 1:
        problems.append(error("clock", f"/clock has {h.clocks} publishers", "time jumps back and forth",
                              "end all simulators and bags but one"))
    yield from or_ok(problems, "clock", f"stamps are fresh by {' and '.join(sorted(common)) or 'no clock: none came'}"
                     + usage(h, common))


def wrong_clock(h: Heard, common: set[str]) -> Iterator[Finding]:
    for node, sim in h.sim_time.items():
        if (SIM if sim else WALL) not in common:
            yield error("clock", f"{node} has use_sim_time {str(sim).lower()}, the stamps are by "
                        f"{' and '.join(sorted(common))}", "it takes every observation for one of long ago, or of the "
                        "future: no motion begins", f"start it with use_sim_time:={str(not sim).lower()}")


def usage(h: Heard, common: set[str]) -> str:
    if h.sim_time:
        return f", by which {', '.join(h.sim_time)} go too"
    return "; start the nodes with use_sim_time:=true" if common == {SIM} else ""


def nodes(endpoints) -> str:
    return ", ".join(sorted(endpoint.node for endpoint in endpoints))
