"""The control node is paused while the arm moves, the arm is moved elsewhere, the node is resumed: where does the next
motion begin? `make faults`, or `python test/faults/resume.py --n 5`.

Real nodes over DDS in real time, in the mock world. Paused is deactivated: the arm brakes to rest, and the node lets go
of it. Then somebody else commands it away, by up to half a radian, and the node is activated again. Until it is told
anew nothing may come from it; its first command then has to lie within one period at the limit of velocity of where the
arm was measured last, and the motion has to go on from there. One line, and one line of JSON at the end; exit code 1
after a miss.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from inject import READY, STILL, Bench, Goal, Motion, description
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from sensor_msgs.msg import JointState

from vla_ros.kinematics import ArmKinematics
from vla_ros.nodes import convert, qos
from vla_ros.nodes.client import Client
from vla_ros.nodes.domains import free_domain
from vla_ros.nodes.system import System
from vla_ros.nodes.tracing import published
from vla_ros.profile import load_profile
from vla_ros.types import JointCommand

LEAST, MOST = 0.2, 0.5  # [rad] by which the arm is led elsewhere, about its first joint
LEADING = 60  # commands of half a second's way
SILENT = 0.5  # [s] after the node is resumed, in which nobody tells it anything
SOON = 5.0  # [s] for a change of state, and for a first command
PAUSE, RESUME = Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_ACTIVATE


@dataclass(frozen=True)
class Resumed:
    """uncalled: commands before the node was told anew; first: the largest way of a joint from where it was measured to
    the first command, as a share of a period at its limit of velocity."""

    uncalled: int
    first: float

    @property
    def missed(self) -> bool:
        return self.uncalled > 0 or not self.first <= 1.0


class Ends:
    """Joints as measured and as commanded, each with the time of its publication [s] of the wall clock."""

    def __init__(self, client: Client, profile):
        self.measured: list[tuple[float, dict[str, float]]] = []
        self.commanded: list[tuple[float, dict[str, float]]] = []
        command = profile.command

        def on_joints(message, info) -> None:
            self.measured.append((published(info), dict(convert.joint_state(message).positions)))

        def on_command(message, info) -> None:
            self.commanded.append((published(info), dict(convert.command_from(message, profile).positions)))
        client.subscribe(JointState, "joint_states", on_joints, qos.SENSOR)
        client.subscribe(convert.COMMAND_TYPES[command.interface], command.topic, on_command, qos.STREAM)

    def first(self, since: float, reach: dict[str, float]) -> float:
        """Of the first command after `since`; see Resumed."""
        when, wanted = next((t, positions) for t, positions in self.commanded if t > since)
        before = [positions for t, positions in self.measured if t <= when][-1]
        return max(abs(wanted[name] - before[name]) / way for name, way in reach.items())


def change(client: Client, transition: int) -> None:
    service = client.node.create_client(ChangeState, "control_node/change_state")
    try:
        if not client.spin_until(service.service_is_ready, SOON):
            raise RuntimeError("the control node's service change_state is not there")
        answer = service.call_async(ChangeState.Request(transition=Transition(id=transition)))
        if not client.spin_until(answer.done, SOON) or not answer.result().success:
            raise RuntimeError(f"the control node did not make transition {transition}")
    finally:
        client.node.destroy_client(service)


def lead_away(client: Client, bench: Bench, ends: Ends) -> None:
    """As another controller would. Returns when the arm is there."""
    profile = bench.profile
    joint, begin = profile.joints[0], ends.measured[-1][1]
    side = -1.0 if begin[joint] > 0 else 1.0
    way = side * bench.random.uniform(LEAST, MOST)
    kind = convert.COMMAND_TYPES[profile.command.interface]
    commands = client.node.create_publisher(kind, profile.command.topic, qos.STREAM)
    try:
        client.spin_until(lambda: commands.get_subscription_count() > 0, SOON)
        for i in range(1, LEADING + 1):
            there = begin | {joint: begin[joint] + way * i / LEADING}
            commands.publish(convert.command_message(JointCommand(there), profile, 0))
            until = time.monotonic() + 0.5 / LEADING
            client.spin_until(lambda until=until: time.monotonic() > until, 1.0, bench.system.check)
        if not client.spin_until(lambda: abs(ends.measured[-1][1][joint] - begin[joint] - way) < STILL, SOON):
            raise RuntimeError("the arm was not led away")
    finally:
        client.node.destroy_publisher(commands)


def trial(bench: Bench) -> Resumed:
    profile = bench.profile
    fastest = dict(zip(profile.joints, ArmKinematics(profile).max_velocity, strict=True))
    reach = {name: speed / profile.control_rate for name, speed in fastest.items()}
    with bench.system.client("observer") as client:
        motion, ends = Motion(client, profile), Ends(client, profile)
        goal = bench.moving(client, motion)
        change(client, PAUSE)
        goal.end()
        lead_away(client, bench, ends)
        change(client, RESUME)
        resumed = time.time()
        client.spin_until(lambda: time.time() > resumed + SILENT, 2 * SILENT + 1.0, bench.system.check)
        uncalled = sum(t > resumed for t, _ in ends.commanded)
        told = time.time()
        goal = Goal(bench.system)
        client.spin_until(lambda: ends.commanded[-1][0] > told and motion.speed > STILL, READY, bench.system.check)
        goal.end()
        return Resumed(uncalled, ends.first(told, reach))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("?")[0] + "?")
    parser.add_argument("--n", type=int, default=50, help="times (default 50)")
    args = parser.parse_args()
    with (tempfile.TemporaryDirectory() as folder,
          System(description("panda", Path(folder)), domain=free_domain()) as running):
        running.wait_ready(READY)
        profile = load_profile("panda")
        made = [trial(Bench(running, profile, seed)) for seed in range(args.n)]
    missed, worst = sum(t.missed for t in made), max(t.first for t in made)
    uncalled = sum(t.uncalled for t in made)
    print(f"paused, moved elsewhere, resumed: n {len(made)}  misses {missed}  first command at most {worst:.3f} of a "
          f"period's way from where the arm was; {uncalled} commands before it was told anew")
    print(json.dumps({"resume": {"n": len(made), "misses": missed, "first": round(worst, 4), "uncalled": uncalled}}))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
