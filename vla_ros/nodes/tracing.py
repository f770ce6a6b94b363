"""When each message on the way from a camera to a command was published, by wall clock.

Read from the publishers' own time stamps, which the middleware carries, so that neither a simulated clock that moves
in ticks nor a late reader coarsens the figures.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image

from vla_ros.msg import ActionChunk
from vla_ros.nodes import convert, qos
from vla_ros.profile import RobotProfile

WHOLE = "camera stamp to command"
OUTSIDE_MODEL = ("age", "wait", "convert", "total")  # stages that the policy node measures around the policy's own


@dataclass(frozen=True)
class Trace:
    """One chunk that was executed, seconds. parts add up to total; model: the model's own stages."""

    total: float
    parts: Mapping[str, float]
    model: Mapping[str, float]


class Tracer:
    """Collects the times of one robot's path, in a thread of its own, inside a `with` statement; `traces` joins them.

    domain: ROS domain id, None for the environment's. Its executor is not the nodes' one: rclpy's events executor
    does not give callbacks the time stamps of the middleware.
    """

    def __init__(self, profile: RobotProfile, domain: int | None = None):
        self._clock: dict[int, float] = {}  # [s] when the world reached a stamp [ns]
        self._image: dict[int, float] = {}
        self._chunks: list[tuple[float, ActionChunk]] = []
        self._commands: list[float] = []
        self._context = rclpy.Context()
        rclpy.init(context=self._context, domain_id=domain)
        self._node = rclpy.create_node("vla_tracer", context=self._context, start_parameter_services=False,
                                       enable_rosout=False)
        camera, command = next(iter(profile.cameras)), profile.command
        for kind, topic, callback, quality in (
                (Clock, "/clock", self._on_clock, qos.CLOCK),
                (Image, f"camera/{camera}/image_raw", self._on_image, qos.SENSOR),
                (ActionChunk, "vla/action_chunk", self._on_chunk, qos.STREAM),
                (convert.COMMAND_TYPES[command.interface], command.topic, self._on_command, qos.STREAM)):
            self._node.create_subscription(kind, topic, callback, quality)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._spin, name="tracer", daemon=True)

    def __enter__(self) -> Tracer:
        self._thread.start()
        return self

    def __exit__(self, *error) -> None:
        self._ending.set()
        self._thread.join()
        self._executor.shutdown(timeout_sec=1.0)
        self._node.destroy_node()
        self._context.try_shutdown()

    def _spin(self) -> None:
        while not self._ending.is_set():
            self._executor.spin_once(timeout_sec=0.1)

    def _on_clock(self, message: Clock, info: dict) -> None:
        self._clock.setdefault(convert.nanoseconds(message.clock), published(info))

    def _on_image(self, message: Image, info: dict) -> None:
        self._image[convert.nanoseconds(message.header.stamp)] = published(info)

    def _on_chunk(self, message: ActionChunk, info: dict) -> None:
        if not message.refusal:
            self._chunks.append((published(info), message))

    def _on_command(self, message, info: dict) -> None:
        self._commands.append(published(info))

    def traces(self) -> list[Trace]:
        """Of every chunk whose clock tick, picture and next command were seen, in their order."""
        commands = sorted(self._commands.copy())
        made = []
        for sent, chunk in self._chunks.copy():
            stamp, after = convert.nanoseconds(chunk.header.stamp), bisect_right(commands, sent)
            if stamp in self._clock and stamp in self._image and after < len(commands):
                made.append(trace(self._clock[stamp], self._image[stamp], sent, commands[after], chunk))
        return made


def figures(traces: Sequence[Trace]) -> dict[str, tuple[float, float]]:
    """Median and 95th percentile [s] of every part, of the model's stages, and of the whole, by name."""
    rows = {name: [t.parts[name] for t in traces] for name in traces[0].parts}
    rows |= {f"model: {name}": [t.model[name] for t in traces] for name in traces[0].model}
    rows[WHOLE] = [t.total for t in traces]
    return {name: tuple(np.percentile(seconds, [50, 95]).tolist()) for name, seconds in rows.items()}


def published(info: dict) -> float:
    """[s] wall clock"""
    return info["source_timestamp"] / 1e9


def trace(tick: float, image: float, sent: float, command: float, chunk: ActionChunk) -> Trace:
    """From the times [s] at which the tick, its picture, the chunk and the next command were published."""
    stages = dict(zip(chunk.stages, chunk.seconds, strict=True))
    model = {name: seconds for name, seconds in stages.items() if name not in OUTSIDE_MODEL}
    inside = sum(model.values())
    return Trace(command - tick, {
        "render and publish": image - tick, "transport, pairing, waiting": sent - image - stages["convert"] - inside,
        "messages to an observation": stages["convert"], "model": inside,
        "transport, next control period": command - sent}, model)
