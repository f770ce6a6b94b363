"""What the path from a camera to the wire costs without a model: two cameras of 640 x 480, and a recording acts.

    .venv/bin/python bench/overhead.py --seconds 60                # and, under load:
    .venv/bin/python bench/overhead.py --seconds 60 --alone        # without the subscriber that is compared with
    .venv/bin/python bench/overhead.py --seconds 600 --busy 2

A process plays the robot: it publishes both images with one stamp, and goes where it is told. The nodes are those of
`vla up robot`. Beside them, in the same run, a bare rclpy subscriber takes the same images: what the ratio is to. Times
count from the stamp of a pair of images, and are read from the publishers' own stamps. busy: processes that compute
meanwhile, at the same priority.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from bisect import bisect_left, bisect_right
from pathlib import Path

import numpy as np
import rclpy
import yaml
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import Image, JointState
from timing import figures
from vla_ros.msg import ActionChunk, ControlStatus

from vla_ros.bringup import ENVIRONMENT, robot_system
from vla_ros.cli import at_least
from vla_ros.errors import SimulationError, VlaError
from vla_ros.nodes import convert, qos
from vla_ros.nodes.domains import free_domain
from vla_ros.nodes.system import System
from vla_ros.nodes.tracing import OUTSIDE_MODEL, published
from vla_ros.policies.replay import ReplayPolicy
from vla_ros.profile import config_folder, load_profile
from vla_ros.types import JointState as Joints

WIDTH, HEIGHT = 640, 480
READY, GOAL = 120.0, 20.0  # [s] on a busy machine; of one instruction
TURN = 30  # action steps of a full circle
WARM_UP = 30  # chunks, and images, that do not count


def robot_file(folder: Path, control_rate: float) -> str:
    data = yaml.safe_load((config_folder() / "robots" / "panda.yaml").read_text())
    for camera in data["cameras"].values():
        camera |= {"width": WIDTH, "height": HEIGHT}
    file = folder / "panda_640.yaml"
    file.write_text(yaml.safe_dump(data | {"control_rate": control_rate}))
    return str(file)


def circles(profile, folder: Path) -> str:
    """A recording of 0.1 m/s of the hand: as many chunks as a goal can need."""
    steps = np.arange(round(GOAL * 60))[:, None] + np.arange(profile.action.horizon)
    angle, step = 2 * np.pi * steps / TURN, 0.1 * profile.action.period
    values = np.stack([step * np.cos(angle), step * np.sin(angle), 0 * angle, 1 + 0 * angle], axis=-1)
    ReplayPolicy(values, profile.action, tuple(profile.cameras)).save(str(folder / "circles.npz"))
    return f"replay:{folder / 'circles.npz'}"


def play_robot(domain: int, file: str, rate: float, done, stamps) -> None:
    """Images at `rate` [Hz] and joint states at 100 Hz, until `done`; then gives the stamps [ns] of the pairs."""
    profile = load_profile(file)
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    node = rclpy.create_node("robot", context=context)
    cameras = {n: node.create_publisher(Image, f"camera/{n}/image_raw", qos.SENSOR) for n in profile.cameras}
    states = node.create_publisher(JointState, "joint_states", qos.SENSOR)
    positions = dict.fromkeys(convert.joint_order(profile), profile.gripper.open / 2)
    positions |= dict(zip(profile.joints, profile.home, strict=True))

    def on_command(message) -> None:
        positions.update(convert.command_from(message, profile).positions)
    node.create_subscription(convert.COMMAND_TYPES[profile.command.interface], profile.command.topic, on_command,
                             qos.STREAM)
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8) for _ in range(4)]
    messages = [{name: convert.image_message(picture, 0, f"{name}_optical_frame") for name in cameras}
                for picture in pictures]
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)

    sent: list[int] = []

    def publish_images() -> None:
        sent.append(time.time_ns())
        for name, message in messages[len(sent) % len(messages)].items():
            message.header.stamp = convert.time_message(sent[-1])
            cameras[name].publish(message)

    node.create_timer(1 / rate, publish_images)
    node.create_timer(0.01, lambda: states.publish(convert.joint_message(Joints(dict(positions), {}, time.time_ns()))))
    while not done.is_set():
        executor.spin_once(timeout_sec=0.05)
    stamps.put(sent)


def listen(domain: int, done, heard) -> None:
    """The bare subscriber: gives [s] from the stamp until both images have come, and how many pairs did."""
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    node, executor = rclpy.create_node("bare", context=context), SingleThreadedExecutor(context=context)
    came: dict[int, list[int]] = {}
    for name in load_profile("panda").cameras:
        node.create_subscription(Image, f"camera/{name}/image_raw", lambda m: came.setdefault(
            convert.nanoseconds(m.header.stamp), []).append(time.time_ns()), qos.SENSOR)
    executor.add_node(node)
    while not done.is_set():
        executor.spin_once(timeout_sec=0.05)
    heard.put([(max(times) - stamp) / 1e9 for stamp, times in sorted(came.items()) if len(times) == 2])


def compute(done) -> None:
    while not done.is_set():
        sum(range(10_000))


class Observer:
    """Chunks, commands and states as they were published [s]."""

    def __init__(self, client, profile):
        self.chunks: list[tuple[float, ActionChunk]] = []
        self.commands: list[float] = []
        self.states: list[int] = []
        self.taken: set[int] = set()  # the chunks that were executed: each is in force for longer than a status lasts
        command, node = profile.command, client.node
        node.create_subscription(ActionChunk, "vla/action_chunk",
                                 lambda m, info: self.chunks.append((published(info), m)), qos.STREAM)
        node.create_subscription(convert.COMMAND_TYPES[command.interface], command.topic,
                                 lambda m, info: self.commands.append(published(info)), qos.STREAM)
        node.create_subscription(ControlStatus, "vla/control_status", self._on_status, qos.STATUS)

    def _on_status(self, message: ControlStatus) -> None:
        self.states.append(message.state)
        if message.state == ControlStatus.EXECUTING:
            self.taken.add(message.sequence)

    def overheads(self, images: list[int]) -> tuple[list[float], list[float]]:
        """[s] by chunk, without the model's own stages: from its images' stamp to the chunk; and of those that were
        executed, to the next command, which is the first that answers it.

        images: all stamps [ns]; a chunk has that of its oldest part, of a joint state just before the images."""
        commands, to_chunk, to_command = sorted(self.commands), [], []
        for sent, chunk in self.chunks:
            after = bisect_right(commands, sent)
            if chunk.refusal or after == len(commands):
                continue
            stages = dict(zip(chunk.stages, chunk.seconds, strict=True))
            model = sum(seconds for name, seconds in stages.items() if name not in OUTSIDE_MODEL)
            begun = images[bisect_left(images, convert.nanoseconds(chunk.header.stamp))] / 1e9 + model
            to_chunk.append(sent - begun)
            if chunk.sequence in self.taken:
                to_command.append(commands[after] - begun)
        return to_chunk[WARM_UP:], to_command[WARM_UP // 10:]

    def stages(self) -> dict[str, dict[str, float]]:
        """[s] what the policy node measures around the policy's own stages."""
        rows: dict[str, list[float]] = {}
        for _, chunk in self.chunks[WARM_UP:]:
            for name, seconds in zip(chunk.stages, chunk.seconds, strict=True):
                rows.setdefault(name, []).append(seconds)
        return {name: spread(seconds) for name, seconds in rows.items()}

    def periods(self) -> list[float]:
        """[s] between commands, but for pauses between two goals."""
        gaps = np.diff(sorted(self.commands))
        return gaps[gaps < 0.5].tolist()


def measure(args, folder: Path) -> dict:
    file, domain = robot_file(folder, args.control_rate), free_domain()
    profile = load_profile(file)
    spawn = multiprocessing.get_context("spawn")
    done, heard, stamps = spawn.Event(), spawn.Queue(), spawn.Queue()
    jobs = [(play_robot, (domain, file, args.rate, done, stamps)), *[(compute, (done,))] * args.busy,
            *([] if args.alone else [(listen, (domain, done, heard))])]
    processes = [spawn.Process(target=job, args=given, daemon=True) for job, given in jobs]
    system = robot_system(robot=file, policy=circles(profile, folder), stall_time=0.0)
    stops, goals = 0, max(1, round(args.seconds / GOAL))
    with System(system, domain=domain) as running, running.client("overhead") as client:
        for process in processes:
            process.start()
        observer = Observer(client, profile)
        running.wait_ready(READY)
        for _ in range(goals):
            outcome = client.execute("go round in circles", GOAL, watch=running.check, timeout=READY).outcome
            stops += outcome != "timed out"
        done.set()
        images = stamps.get(timeout=30.0)
        bare = [] if args.alone else heard.get(timeout=30.0)[WARM_UP:]
    for process in processes:
        process.join(10.0)
    to_chunk, to_command = observer.overheads(images)
    if len(to_command) < WARM_UP // 10:
        raise SimulationError(f"only {len(to_command)} chunks in {goals} goals")
    holding = np.mean([state != ControlStatus.EXECUTING for state in observer.states])
    compared = {"bare": spread(bare), "delivered": len(bare) / max(1, len(images) - WARM_UP)} if bare else {}
    return {**compared, "to_chunk": spread(to_chunk), "to_command": spread(to_command),
            "stages": observer.stages(), "period": spread(observer.periods()),
            "nominal_period": 1 / args.control_rate, "goals": goals, "goals_stopped": stops,
            "share_not_executing": float(holding)}


def spread(seconds) -> dict[str, float]:
    return figures(seconds) | {"p99": float(np.percentile(seconds, 99))}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--seconds", type=at_least(1), default=60, help="that the robot is told to move (default 60)")
    parser.add_argument("--rate", type=float, default=30.0, help="[Hz] of both cameras (default 30)")
    parser.add_argument("--control-rate", type=float, default=60.0, help="[Hz] (default 60, the Panda's)")
    parser.add_argument("--alone", action="store_true", help="no bare subscriber beside, which takes of the same cores")
    parser.add_argument("--busy", type=at_least(0), default=0, help="processes that compute meanwhile (default 0)")
    args = parser.parse_args()
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        with tempfile.TemporaryDirectory() as folder:
            made = measure(args, Path(folder))
    except VlaError as error:
        print(f"bench/overhead: {error}", file=sys.stderr)
        return error.exit_code
    stages = {f"  {name}": row for name, row in made["stages"].items()}
    bare = {"bare": made["bare"]} if "bare" in made else {}
    rows = bare | stages | {name: made[name] for name in ("to_chunk", "to_command", "period")}
    for name, row in rows.items():
        print(f"{name:12} n {row['n']:6}  p50 {1e3 * row['p50']:6.2f} ms  p95 {1e3 * row['p95']:6.2f} ms  "
              f"p99 {1e3 * row['p99']:6.2f} ms")
    made["period_p99_to_nominal"] = made["period"]["p99"] / made["nominal_period"]
    print(f"p99 of the control period {made['period_p99_to_nominal']:.2f} times nominal")
    if bare:
        made["chunk_to_bare"] = made["to_chunk"]["p50"] / made["bare"]["p50"]
        made["command_to_bare"] = made["to_command"]["p50"] / made["bare"]["p50"]
        print(f"to the chunk {made['chunk_to_bare']:.2f} times the bare subscriber (medians), to the command "
              f"{made['command_to_bare']:.2f}; {made['delivered']:.1%} of the pairs delivered")
    print(json.dumps({"bench": "overhead", "rate": args.rate, "control_rate": args.control_rate, "busy": args.busy,
                      "alone": args.alone, **made}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
