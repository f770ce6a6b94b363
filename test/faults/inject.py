"""Processes are killed and stopped while the robot moves; how long does it go on moving? `make faults`, or
`python test/faults/inject.py --n 3 --only husky control_node`.

Real nodes over DDS in real time, in the mock world. The world holds a velocity as long as it runs, as a controller
without a timeout does. The supervisor is that of `vla up`: it starts policy and control again and ends the system with
the others. One line a fault, and one line of JSON at the end; exit code 1 when a robot moved on for too long.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import yaml
from nav_msgs.msg import Odometry
from sensor_msgs.msg import JointState

from vla_ros.bringup import sim_system
from vla_ros.errors import VlaError
from vla_ros.nodes import convert, qos
from vla_ros.nodes.client import Client
from vla_ros.nodes.domains import free_domain
from vla_ros.nodes.system import ProcessError, System
from vla_ros.nodes.tracing import published
from vla_ros.policies.replay import ReplayPolicy
from vla_ros.profile import RobotProfile, config_folder, load_profile

STILL, WITHIN = 0.02, 0.6  # [rad/s or m/s] that counts as rest; [s] after a fault
# [s] after which no command moves when the simulator itself is stopped: its robot and its clock stand still with it,
# so that it is missed only when joint states have not come for a second of wall time.
WITHIN_SIMULATOR = 1.6
MOVING = 0.1  # [rad/s or m/s] at least, when a fault comes
RESIDUE = 0.1  # [s] a command that was on its way when its process was stopped may still arrive, before that to rest
AFTER = 1.5  # [s] that are looked at after a fault, and after a process goes on
READY = 120.0  # [s] on a busy machine
GOALS = 5  # on a busy machine one may end before the fault comes
NODES = ("policy_node", "control_node", "task_node", "sim_node")
WORDS = "go round in circles"
CHUNKS, TURN = 3000, 30  # recorded; action steps of a full circle


def recording(profile: RobotProfile) -> ReplayPolicy:
    """Circles at a constant speed: 0.1 m/s of the hand, or the base's full speed."""
    steps = np.arange(CHUNKS)[:, None] + np.arange(profile.action.horizon)
    if profile.kind == "base":
        values = np.broadcast_to([profile.limits.v, 0.5], (*steps.shape, 2))
    else:
        angle, step = 2 * np.pi * steps / TURN, 0.1 * profile.action.period
        values = np.stack([step * np.cos(angle), step * np.sin(angle), 0 * angle, 1 + 0 * angle], axis=-1)
    return ReplayPolicy(values, profile.action, tuple(profile.cameras))


def velocity_panda(folder: Path) -> str:
    data = yaml.safe_load((config_folder() / "robots" / "panda.yaml").read_text())
    data["command"] = {"interface": "velocity", "topic": "arm_controller/commands"}
    file = folder / "panda_velocity.yaml"
    file.write_text(yaml.safe_dump(data))
    return str(file)


def description(robot: str, folder: Path):
    profile = load_profile(robot)
    file = folder / f"{profile.name}.npz"
    recording(profile).save(str(file))
    system = sim_system(robot=robot, policy=f"replay:{file}", world="mock")
    sim = system.processes[0]
    sim = replace(sim, parameters=sim.parameters | {"command_timeout": 60.0})
    return replace(system, processes=(sim, *system.processes[1:]))


class Motion:
    """Speeds by the time of their publication [s] of the wall clock: measured, and as commanded.

    Not by that of their arrival: a process that is stopped while it writes into shared memory keeps its readers
    waiting, and who looks on may be one of them. late: [s] that a message took at most.
    """

    def __init__(self, client: Client, profile: RobotProfile):
        self.profile = profile
        self.measured: list[tuple[float, float]] = []
        self.commanded: list[tuple[float, float]] = []
        self.late = 0.0
        self._before = None
        if profile.kind == "base":
            client.subscribe(Odometry, "odom", self._on_odometry, qos.STREAM)
        else:
            client.subscribe(JointState, "joint_states", self._on_joints)
        command = profile.command
        client.subscribe(convert.COMMAND_TYPES[command.interface], command.topic, self._on_command, qos.STREAM)

    def _when(self, info: dict) -> float:
        sent = published(info)
        self.late = max(self.late, time.time() - sent)
        return sent

    def _on_odometry(self, message: Odometry, info: dict) -> None:
        twist = message.twist.twist
        self.measured.append((self._when(info), max(abs(twist.linear.x), abs(twist.angular.z))))

    def _on_joints(self, message: JointState, info: dict) -> None:
        velocities = convert.joint_state(message).velocities
        self.measured.append((self._when(info), max(abs(velocities[name]) for name in self.profile.joints)))

    def _on_command(self, message, info: dict) -> None:
        """A target's speed is that from the one before."""
        command = convert.command_from(message, self.profile)
        if self.profile.command.interface == "twist":
            speed = max(abs(command.v), abs(command.w))
        elif command.velocities:
            speed = max(map(abs, command.velocities.values()))
        else:
            before, self._before = self._before or command.positions, command.positions
            speed = max(abs(v - before[n]) for n, v in command.positions.items()) * self.profile.control_rate
        self.commanded.append((self._when(info), speed))

    @property
    def speed(self) -> float:
        return self.measured[-1][1] if self.measured else 0.0

    def told(self, since: float) -> float:
        """[s] from `since` to the last command that moves."""
        return last_motion(self.commanded, since)

    def until(self, since: float) -> float:
        """[s] from `since` to the last motion. Where measurements end too early to tell, commands count."""
        ended = not self.measured or self.measured[-1][0] < since + WITHIN
        return max(last_motion(self.measured, since), self.told(since) if ended else 0.0)


def last_motion(speeds: list[tuple[float, float]], since: float) -> float:
    return max((t - since for t, speed in speeds if t > since and speed > STILL), default=0.0)


class Goal:
    """An instruction that a client of its own follows, in a thread, until `end`."""

    def __init__(self, system: System):
        self.ended, self.outcome, self.message = threading.Event(), "", ""
        self._system = system
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        with self._system.client("goal") as client:
            try:
                executed = client.execute(WORDS, 600.0, canceled=self.ended.is_set, timeout=READY)
                self.outcome, self.message = executed.outcome, executed.message
            except VlaError as error:
                self.outcome = str(error)

    def end(self) -> None:
        self.ended.set()
        self._thread.join(30.0)


class Supervisor:
    """What `vla up` does while it waits: starts again what may be, and ends the system with the others."""

    def __init__(self, system: System):
        self.system, self.stopping = system, None

    def check(self) -> None:
        if self.stopping is None:
            try:
                self.system.check()
            except ProcessError:
                self.stopping = threading.Thread(target=self.system.stop)
                self.stopping.start()

    def close(self) -> None:
        if self.stopping is not None:
            self.stopping.join()


@dataclass(frozen=True)
class Trial:
    """rest: [s] from the fault to the last motion; told: to the last command that moves, without the simulator's delay.

    late: rest took too long; resumed: [s] for which a control node that went on moved the robot; heard: [s] that a
    message took to whoever looks on, at most; outcome: of the goal.
    """

    rest: float
    told: float
    late: bool
    resumed: float
    heard: float
    outcome: str

    @property
    def missed(self) -> bool:
        return self.late or self.resumed > RESIDUE


class Bench:
    """A running system with a robot that is to move."""

    def __init__(self, system: System, profile: RobotProfile, seed: int):
        self.system, self.profile, self.random = system, profile, random.Random(seed)

    def moving(self, client: Client, motion: Motion) -> Goal:
        """The goal of a robot that moves, in any moment of a chunk."""
        for _ in range(GOALS):
            client.reset()  # circles begin where the robot is: several in a row would leave its workspace
            goal, end = Goal(self.system), time.monotonic() + READY
            for pause in (0.0, self.random.uniform(0.5, 1.5)):
                begin = time.monotonic()
                client.spin_until(lambda begin=begin, pause=pause, goal=goal: goal.outcome or (
                    time.monotonic() - begin >= pause and motion.speed > MOVING), end - begin, self.system.check)
            if not goal.outcome and motion.speed > MOVING:
                return goal
            goal.end()
            print(f"  a goal before the fault: {goal.outcome} {goal.message}", file=sys.stderr)
        raise RuntimeError("the robot does not move")

    def trial(self, node: str, number: int) -> Trial:
        with self.system.client("observer") as client:
            supervisor, motion = Supervisor(self.system), Motion(client, self.profile)

            def wait(seconds: float) -> None:
                end = time.monotonic() + seconds
                client.spin_until(lambda: time.monotonic() > end, seconds + 1.0, supervisor.check)

            goal = self.moving(client, motion)
            place = [process.name for process in self.system.description.processes].index(node)
            motion.late = 0.0
            since = time.time()
            self.system.processes[place].signal(number)
            wait(AFTER)
            rest, told, resumed = motion.until(since), motion.told(since), 0.0
            if number == signal.SIGSTOP:
                again = time.time()
                self.system.processes[place].signal(signal.SIGCONT)
                wait(AFTER)
                resumed = motion.until(again) if node == "control_node" else 0.0
            goal.end()
            supervisor.close()
            late = rest > (WITHIN_SIMULATOR if node == "sim_node" else WITHIN)
            made = Trial(rest, told, late, resumed, motion.late, goal.outcome)
            if made.missed:
                print(f"  missed: {made}; {goal.message}", file=sys.stderr, flush=True)
            return made


def trials(what, node: str, number: int, count: int) -> list[Trial]:
    """A system each for a process that is killed; one for all where it goes on."""
    profile = load_profile(what.processes[0].parameters["robot"])
    made: list[Trial] = []
    while len(made) < count:
        with System(what, domain=free_domain(), restart=True) as system:
            system.wait_ready(READY)
            bench = Bench(system, profile, len(made))
            for _ in range(count if number == signal.SIGSTOP else 1):
                made.append(bench.trial(node, number))
    return made


def line(name: str, made: list[Trial]) -> dict:
    """Prints what came of a fault, and gives it for the JSON."""
    worst, told, outcomes = max(t.rest for t in made), max(t.told for t in made), sorted({t.outcome for t in made})
    found = {"fault": name, "n": len(made), "misses": sum(t.missed for t in made), "worst": round(worst, 3),
             "worst_told": round(told, 3), "worst_heard": round(max(t.heard for t in made), 3),
             "resumed": round(max(t.resumed for t in made), 3), "outcomes": outcomes}
    resumed = f"  resumed for {found['resumed']:.2f} s" if found["resumed"] else ""
    print(f"{name:46} n {found['n']:3}  misses {found['misses']:3}  worst {worst:.2f} s to rest, {told:.2f} s told  "
          f"{', '.join(outcomes)}{resumed}", flush=True)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition(".")[0])
    parser.add_argument("--n", type=int, default=50, help="times that each fault is injected (default 50)")
    parser.add_argument("--only", nargs="+", default=[], help="words that a fault's name must all have")
    args = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as made:
        robots = {"panda joint_trajectory": "panda", "panda velocity": velocity_panda(Path(made)),
                  "husky twist": "husky"}
        for robot, source in robots.items():
            for node in NODES:
                for number in (signal.SIGKILL, signal.SIGSTOP):
                    name = f"{robot}, {node} {number.name}"
                    if all(word in name for word in args.only):
                        results.append(line(name, trials(description(source, Path(made)), node, number, args.n)))
    print(json.dumps({"within": WITHIN, "still": STILL, "faults": results}))
    return 1 if any(fault["misses"] for fault in results) else 0


if __name__ == "__main__":
    sys.exit(main())
