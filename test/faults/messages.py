"""Fuzzed messages on every input of every node: `python test/faults/messages.py --n 100000`.

Each node is the real one; each message goes through its wire format before the node's own callback gets it. Half of the
messages are well formed but for a few fields, half are noise; now and then comes a whole good set, so that the arm
moves in between, and the policy is asked. Nothing may raise, no thread may end, and no command may leave the limits.
One line an input, and one line of JSON at the end, with how many observations were answered and how many refused, by
reason; exit code 1 when something raised or a command was out of bounds.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module

import numpy as np
import rclpy
from rclpy.logging import LoggingSeverity, set_logger_level
from rclpy.serialization import deserialize_message, serialize_message
from rosidl_parser.definition import AbstractNestedType, Array, BasicType, BoundedSequence, NamespacedType
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String
from vla_ros.msg import ActionChunk

from vla_ros.bringup import literal
from vla_ros.guard import ASTRAY
from vla_ros.kinematics import ArmKinematics
from vla_ros.nodes import convert
from vla_ros.nodes.control_node import ControlNode
from vla_ros.nodes.managed import FINALIZED, UNCONFIGURED, Managed
from vla_ros.nodes.policy_node import PolicyNode
from vla_ros.nodes.sim_node import SimNode
from vla_ros.nodes.task_node import TaskNode
from vla_ros.profile import load_profile
from vla_ros.types import ActionChunk as Chunk

NODES = {"control_node": (ControlNode, {}), "policy_node": (PolicyNode, {"policy": "hold"}),
         "task_node": (TaskNode, {}), "sim_node": (SimNode, {"world": "mock"})}
FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-300, 1e9, -1e9, 1e308, math.nan, math.inf, -math.inf)
LONG = 1_000_000  # characters of the longest text
SOON = 10.0  # [s] until the middleware knows who reads the commands
EVERY = 25  # messages, after which a good set comes
PICTURE = np.repeat(np.arange(128 * 128, dtype=np.uint8).reshape(128, 128, 1), 3, axis=2)
ALPHABET = "abc 0/\\\"'{}\n\t\x00é漢🙂"


class Fuzz:
    """Random messages. Sizes are mostly small, and now and then large."""

    def __init__(self, seed: int):
        self.random = random.Random(seed)

    def text(self) -> str:
        size = self.random.choice((0, 1, 8, 40, 300))
        if self.random.random() < 1e-4:
            size = LONG
        return "".join(self.random.choices(ALPHABET, k=min(size, 300))) * max(size // 300, 1)

    def number(self) -> float:
        return self.random.choice(FLOATS) if self.random.random() < 0.5 else self.random.gauss(0, 1)

    def count(self) -> int:
        return self.random.choice((0, 1, 2, 4, 7, 8, 9, 32, 100)) if self.random.random() < 0.999 else 20_000

    def value(self, kind):
        if isinstance(kind, AbstractNestedType):
            count = kind.size if isinstance(kind, Array) else self.count()
            if isinstance(kind, BoundedSequence):
                count = min(count, kind.maximum_size)
            return [self.value(kind.value_type) for _ in range(count)]
        if isinstance(kind, NamespacedType):
            return self.noise(getattr(import_module(".".join(kind.namespaces)), kind.name))
        if not isinstance(kind, BasicType):
            return self.text()
        if kind.typename == "boolean":
            return self.random.random() < 0.5
        if kind.typename in ("float", "double"):
            return self.number() if kind.typename == "double" else float(np.float32(self.number()))
        if kind.typename == "octet":
            return bytes([self.random.randrange(256)])
        low, high = bounds(kind.typename)
        return self.random.choice((0, 1, low, high, self.random.randint(low, high)))

    def noise(self, kind: type):
        """A message of a type with random fields."""
        message = kind()
        for name, slot in zip(message.get_fields_and_field_types(), kind.SLOT_TYPES, strict=True):
            setattr(message, name, self.value(slot))
        return message

    def spoilt(self, message):
        """A well-formed message with some fields of its own turned into noise."""
        kinds = dict(zip(message.get_fields_and_field_types(), type(message).SLOT_TYPES, strict=True))
        for name in self.random.sample(list(kinds), min(len(kinds), self.random.randint(1, 3))):
            if name != "header" or self.random.random() < 0.3:
                setattr(message, name, self.value(kinds[name]))
        return message


def bounds(typename: str) -> tuple[int, int]:
    bits = int("".join(filter(str.isdigit, typename)) or 8)
    signed = not typename.startswith(("u", "octet", "char"))
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


class Samples:
    """Well-formed messages of the types that are more than words."""

    def __init__(self, profile, now: Callable[[], int]):
        self.profile, self.now = profile, now
        self.kinematics = ArmKinematics(profile)

    def make(self, kind: type, rng: random.Random):
        now = self.now()
        if kind is JointState:
            names = [*self.profile.joints, *self.profile.gripper.joints]
            places = [*self.profile.home, 0.04, 0.04]
            return JointState(header=convert.header(now), name=names, position=places, velocity=[0.0] * len(names))
        if kind is ActionChunk:
            spec = self.profile.action
            values = np.array([[rng.gauss(0, 0.02) for _ in range(3)] + [1.0] for _ in range(spec.horizon)])
            return convert.chunk_message(Chunk(values, spec, now), "go", 1)
        if kind is Image:
            return convert.image_message(PICTURE + rng.randrange(100), now, "front")
        return kind()


@dataclass
class Limits:
    """Holds every command of the arm against its limits of position. An arm that is measured beyond one comes back: no
    command leads it further out than it was measured or told to be before."""

    node: ControlNode
    broken: list[str] = field(default_factory=list)
    seen: int = 0
    before: dict[str, float] = field(default_factory=dict)

    def watch(self) -> None:
        """All commands, also those after a transition has made the node anew."""
        opened = self.node._open

        def watched() -> None:
            opened()
            self.node._commands.publish = self
        self.node._open = watched
        self.node._commands.publish = self

    @property
    def controller(self):
        return self.node.commanding.controller

    def __call__(self, message) -> None:
        self.seen += 1
        q = list(message.points[0].positions) if message.points else []
        values = dict(zip(message.joint_names, q, strict=False))
        current = self.controller.current
        measured = dict(current.positions) if current else {}
        for name, value in values.items():
            been = [self._outside(name, known[name]) for known in (measured, self.before) if name in known]
            most = min(max((out for out in been if math.isfinite(out)), default=0.0), ASTRAY)
            if not self._outside(name, value) <= most + 1e-6:
                self.broken.append(f"{name} {value}, measured at {measured.get(name)}, before {self.before.get(name)}")
        self.before = values

    def _outside(self, name: str, value: float) -> float:
        """[rad] beyond the limits; NaN of what is none."""
        guard = self.controller.guard
        return max(guard.low[name] - value, value - guard.high[name], 0.0) if math.isfinite(value) else math.nan


class Feed:
    """Keeps a control node moving: joint states, an instruction and a chunk that answer each other. And a policy node
    busy: an instruction and what its other sensors say, so that what was attacked last is asked about."""

    def __init__(self, node, samples: Samples):
        self.node, self.samples, self.turn = node, samples, 0

    def __call__(self, rng: random.Random, attacked: str) -> None:
        self.turn += 1
        if isinstance(self.node, Managed) and self.node.state in (UNCONFIGURED, FINALIZED):
            return  # it hears nothing of this any more
        if isinstance(self.node, PolicyNode):
            for sensor in self.node.subscriptions:
                if sensor.msg_type in (Image, JointState) and (sensor.topic_name != attacked or self.turn % EVERY == 0):
                    sensor.callback(self.samples.make(sensor.msg_type, rng))
            self.node._infer_once()
            self.node._on_instruction(String(data="go"))
        if self.turn % EVERY == 0 and isinstance(self.node, ControlNode):
            reset = partial(self.node._latch, self.node.latch.say)
            for callback, message in ((reset, False), (self.node._on_instruction, String(data="go")),
                                      (self.node._on_joints, self.samples.make(JointState, rng)),
                                      (self.node._on_chunk, self.samples.make(ActionChunk, rng))):
                callback(message)


def threads(node) -> list[str]:
    """Those of the node that have ended; a transition may have taken the control loop away."""
    ended = {"control loop": isinstance(node, ControlNode) and node.loop is not None and node.loop.broken,
             "inference": isinstance(node, PolicyNode) and node._worker.broken}
    return [f"the thread of the {name} has ended" for name, over in ended.items() if over]


def activate(node: Managed, samples: Samples, rng: random.Random) -> None:
    """With what it needs: one good message of each sensor."""
    for subscription in node.subscriptions:
        if subscription.msg_type in (Image, JointState):
            subscription.callback(samples.make(subscription.msg_type, rng))
    end = time.monotonic() + SOON
    while "nobody reads" in node.lacking() and time.monotonic() < end:
        time.sleep(0.01)
    node.trigger_activate()
    assert node.active, node.standing


def fuzz(node, samples: Samples, fuzzer: Fuzz, count: int, raised: list[str]) -> list[dict]:
    """Every subscription and service of a node, but for those that ROS 2 itself makes."""
    found, feed = [], Feed(node, samples)
    for subscription in node.subscriptions:
        if subscription.topic_name in ("/clock", "/parameter_events") or "/_action/" in subscription.topic_name:
            continue
        found.append(hammer(subscription.topic_name, subscription.msg_type, subscription.callback, samples, fuzzer,
                            count, raised, feed))
    for service in node.services:
        if service.srv_name.startswith(node.get_name() + "/") or "/_action/" in service.srv_name:
            continue
        kind = service.srv_type
        found.append(hammer(service.srv_name, kind.Request, lambda r, s=service, k=kind: s.callback(r, k.Response()),
                            samples, fuzzer, count // 100, raised, feed))
    return found


def hammer(name, kind, callback, samples, fuzzer, count, raised, feed) -> dict:
    before, node = len(raised), feed.node
    for _ in range(count):
        try:
            feed(fuzzer.random, name)
        except Exception as error:  # as in the node's own thread
            raised.append(f"{name}, then: {type(error).__name__}: {error}")
        half = fuzzer.random.random() < 0.5
        message = fuzzer.noise(kind) if half else fuzzer.spoilt(samples.make(kind, fuzzer.random))
        try:
            message = deserialize_message(serialize_message(message), kind)
        except (ValueError, UnicodeError):
            continue  # no such message can be sent
        try:
            callback(message)
        except Exception as error:  # whatever it is, it would have ended the node
            raised.append(f"{name}: {type(error).__name__}: {error}")
    raised += threads(node)
    return {"input": name, "n": count, "raised": len(raised) - before}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--n", type=int, default=100_000, help="messages on each input (default 100000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--nodes", nargs="+", choices=NODES, default=list(NODES))
    args = parser.parse_args()
    profile, found, raised, broken, commands = load_profile("panda"), [], [], [], 0
    answered, refused = 0, {}
    for name in args.nodes:
        make, parameters = NODES[name]
        words = [word for key, value in parameters.items() for word in ("-p", f"{key}:={literal(value)}")]
        rclpy.init(args=["--ros-args", *words])
        node, robot = make(), rclpy.create_node("robot")
        command = profile.command
        robot.create_subscription(convert.COMMAND_TYPES[command.interface], command.topic, print, 1)  # never spun
        set_logger_level(node.get_logger().name, LoggingSeverity.FATAL)
        limits = None
        if name == "control_node":
            limits = Limits(node)
            limits.watch()
        samples, fuzzer = Samples(profile, node.now if hasattr(node, "now") and callable(node.now) else
                                  lambda node=node: node.get_clock().now().nanoseconds), Fuzz(args.seed)
        if isinstance(node, Managed):
            activate(node, samples, fuzzer.random)
        counted = getattr(node, "inferring", None)
        results = fuzz(node, samples, fuzzer, args.n, raised)
        for result in results:
            print(f"{name:14} {result['input']:28} n {result['n']:7}  raised {result['raised']}", flush=True)
        found += [{"node": name, **result} for result in results]
        if limits:
            broken, commands = limits.broken, limits.seen
        if isinstance(node, PolicyNode):
            answered, refused = counted.chunks, dict(counted.refusals)
        node.close()
        for made in (node, robot):
            made.destroy_node()
        rclpy.try_shutdown()
    for text in [*sorted(set(raised))[:20], *broken[:20]]:
        print(text[:300])
    print(json.dumps({"inputs": found, "raised": len(raised), "commands": commands, "out of limits": len(broken),
                      "answered": answered, "refused": refused}))
    return 1 if raised or broken else 0


if __name__ == "__main__":
    sys.exit(main())
