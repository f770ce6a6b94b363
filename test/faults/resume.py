"""Somebody else leads the arm away while the control node is paused, or silent: where does the next motion begin?
`make faults`, or `python test/faults/resume.py --n 5`.

Real nodes over DDS in real time, in the mock world, commanding positions and velocities. Paused is deactivated in
motion: the arm brakes to rest, and the node lets go of it. Silent is what it is some time after a motion. Then the arm
is led away, by up to half a radian, and the node activated again where it was paused. Until it is told anew nothing may
come from it; its first command has to lie within one period at the limit of velocity of where the arm was measured
last, fingers too where velocities are commanded, and the arm has to move then. One line a case, and one line of JSON at
the end; exit code 1 after a miss.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from inject import READY, STILL, Bench, Goal, Motion, description, velocity_panda
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
LEADING, WAY = 60, 0.5  # commands, and [s] that they take
SILENT = 0.5  # [s] after the node is resumed, in which nobody tells it anything
QUIET = 2.0  # [s] to rest, and until the node has said so for long enough
ROUNDING = 1e-6
SOON = 5.0  # [s] for a change of state, and for a first command
PAUSE, RESUME = Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_ACTIVATE


@dataclass(frozen=True)
class Resumed:
    """uncalled: commands before the node was told anew; first: the largest way of a joint from where it was measured to
    the first command, as a share of a period at its limit of velocity; moved: whether the arm did, then."""

    uncalled: int
    first: float
    moved: bool

    @property
    def missed(self) -> bool:
        return self.uncalled > 0 or not self.first <= 1 + ROUNDING or not self.moved


class Ends:
    """Joints as measured and as commanded, each with the time of its publication [s] of the wall clock."""

    def __init__(self, client: Client, profile):
        self.measured: list[tuple[float, dict[str, float]]] = []
        self.commanded: list[tuple[float, JointCommand]] = []
        self.rate, command = profile.control_rate, profile.command

        def on_joints(message, info) -> None:
            self.measured.append((published(info), dict(convert.joint_state(message).positions)))

        def on_command(message, info) -> None:
            self.commanded.append((published(info), convert.command_from(message, profile)))
        client.subscribe(JointState, "joint_states", on_joints, qos.SENSOR)
        client.subscribe(convert.COMMAND_TYPES[command.interface], command.topic, on_command, qos.STREAM)

    def first(self, since: float, fastest: dict[str, float]) -> float:
        """Of the first command after `since`; see Resumed. fastest: [rad/s], by joint."""
        when, command = next((t, command) for t, command in self.commanded if t > since)
        before = [positions for t, positions in self.measured if t <= when][-1]
        speeds = command.velocities or {name: (value - before[name]) * self.rate
                                        for name, value in command.positions.items()}
        return max(abs(speeds[name]) / most for name, most in fastest.items())


def change(client: Client, transition: int) -> None:
    """Asks until the node makes it: that who led the arm is gone is known a moment later."""
    service, end = client.node.create_client(ChangeState, "control_node/change_state"), time.monotonic() + SOON
    try:
        client.spin_until(service.service_is_ready, SOON)
        while time.monotonic() < end:
            answer = service.call_async(ChangeState.Request(transition=Transition(id=transition)))
            if client.spin_until(answer.done, SOON) and answer.result().success:
                return
        raise RuntimeError(f"the control node did not make transition {transition}")
    finally:
        client.node.destroy_client(service)


def lead_away(client: Client, bench: Bench, ends: Ends) -> None:
    """As another controller would. Returns when the arm is there, and the controller gone."""
    profile = bench.profile
    joint, begin = profile.joints[0], ends.measured[-1][1]
    way = (-1.0 if begin[joint] > 0 else 1.0) * bench.random.uniform(LEAST, MOST)
    topic, by_velocity = profile.command.topic, profile.command.interface == "velocity"
    others = client.node.count_publishers(topic)
    commands = client.node.create_publisher(convert.COMMAND_TYPES[profile.command.interface], topic, qos.STREAM)
    try:
        client.spin_until(lambda: commands.get_subscription_count() > 0, SOON)
        for i in range(1, LEADING + 1):
            gone = begin[joint] + way * i / LEADING
            command = JointCommand({}, dict.fromkeys(begin, 0.0) | {joint: way / WAY if i < LEADING else 0.0})
            if not by_velocity:
                command = JointCommand(begin | {joint: gone})
            commands.publish(convert.command_message(command, profile, 0))
            until = time.monotonic() + WAY / LEADING
            client.spin_until(lambda until=until: time.monotonic() > until, 1.0, bench.system.check)
        if not client.spin_until(lambda: abs(ends.measured[-1][1][joint] - begin[joint]) > 0.8 * abs(way), SOON):
            raise RuntimeError("the arm was not led away")
    finally:
        client.node.destroy_publisher(commands)
    client.spin_until(lambda: client.node.count_publishers(topic) == others, SOON)


def trial(bench: Bench, pause: bool) -> Resumed:
    profile, kinematics = bench.profile, ArmKinematics(bench.profile)
    fastest = dict(zip(profile.joints, kinematics.max_velocity, strict=True))
    if profile.command.interface == "velocity":
        fastest |= kinematics.finger_speed
    with bench.system.client("observer") as client:
        motion, ends = Motion(client, profile), Ends(client, profile)

        def wait(seconds: float) -> None:
            until = time.monotonic() + seconds
            client.spin_until(lambda: time.monotonic() > until, 2 * seconds + 1.0, bench.system.check)
        goal = bench.moving(client, motion)
        if pause:
            change(client, PAUSE)
        goal.end()
        wait(0.0 if pause else QUIET)
        lead_away(client, bench, ends)
        if pause:
            change(client, RESUME)
        resumed = time.time()
        wait(SILENT)
        uncalled = sum(t > resumed for t, _ in ends.commanded)
        told = time.time()
        goal = Goal(bench.system)
        moved = client.spin_until(lambda: ends.commanded[-1][0] > told and motion.speed > STILL, READY,
                                  bench.system.check)
        goal.end()
        return Resumed(uncalled, ends.first(told, fastest) if moved else float("nan"), moved)


def case(robot: str, folder: Path, pause: bool, count: int) -> dict:
    profile = load_profile(robot)
    with System(description(robot, folder), domain=free_domain()) as running:
        running.wait_ready(READY)
        made = [trial(Bench(running, profile, seed), pause) for seed in range(count)]
    found = {"interface": profile.command.interface, "paused": pause, "n": len(made),
             "misses": sum(t.missed for t in made), "first": round(max(t.first for t in made), 4),
             "uncalled": sum(t.uncalled for t in made)}
    print(f"{found['interface']:18} {'paused' if pause else 'silent'}, led away, told anew: n {found['n']:3}  misses "
          f"{found['misses']:3}  first command at most {found['first']:.3f} of a period's way from where the arm was; "
          f"{found['uncalled']} commands before", flush=True)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("?")[0] + "?")
    parser.add_argument("--n", type=int, default=25, help="times in each of four cases (default 25)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        robots = ("panda", velocity_panda(Path(folder)))
        found = [case(robot, Path(folder), pause, args.n) for robot in robots for pause in (True, False)]
    print(json.dumps({"resume": found}))
    return 1 if any(one["misses"] for one in found) else 0


if __name__ == "__main__":
    sys.exit(main())
