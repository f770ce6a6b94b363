"""What a client sees of an episode: how the task stands, and pictures of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sensor_msgs.msg import Image

from vla_ros.msg import TaskState
from vla_ros.nodes import convert, qos
from vla_ros.nodes.client import Client, Layout


@dataclass(frozen=True)
class State:
    """stamp: [ns] ROS time; elapsed: [s] simulated; distance: left to do [m]; success: held long enough."""

    stamp: int
    elapsed: float
    distance: float
    success: bool


class TaskWatch:
    """The states of the task since its newest layout."""

    def __init__(self, client: Client):
        self.states: list[State] = []
        self._since = 0  # [ns] stamp of the newest layout
        client.subscribe(TaskState, "sim/task_state", self._add, qos.EVERY_TICK)

    def _add(self, message: TaskState) -> None:
        stamp = convert.nanoseconds(message.header.stamp)
        if stamp >= self._since:
            self.states.append(State(stamp, message.elapsed, message.distance, message.success))

    def begin(self, layout: Layout) -> None:
        """Forgets what was before a layout, also what comes late."""
        self._since = layout.stamp
        self.states = [state for state in self.states if state.stamp >= layout.stamp]

    @property
    def success(self) -> State | None:
        """The first state of success; None while there is none."""
        return next((state for state in self.states if state.success), None)

    def decided(self, limit: float) -> bool:
        """Whether a state has come that ends an episode of `limit` [s] simulated: a success, or one that is later."""
        return any(state.success or state.elapsed > limit + 1e-9 for state in self.states)

    def last(self, limit: float) -> State | None:
        """The newest state of at most `limit` [s] simulated; None when none has come."""
        within = [state for state in self.states if state.elapsed <= limit + 1e-9]
        return max(within, key=lambda state: state.stamp, default=None)


class Film:
    """Pairs of pictures, one for each of the first camera's, beside the newest of the second. uint8 (H, W, 3) RGB."""

    def __init__(self, client: Client, first: str, second: str):
        self.frames: list[tuple[int, np.ndarray, np.ndarray]] = []
        self._beside: np.ndarray | None = None
        client.subscribe(Image, f"camera/{first}/image_raw", self._add)
        client.subscribe(Image, f"camera/{second}/image_raw", self._keep)

    def _keep(self, message: Image) -> None:
        self._beside = convert.image_array(message)

    def _add(self, message: Image) -> None:
        if self._beside is not None:
            stamp = convert.nanoseconds(message.header.stamp)
            self.frames.append((stamp, convert.image_array(message), self._beside))

    def begin(self, layout: Layout) -> None:
        """Forgets what was before a layout."""
        self.frames = [frame for frame in self.frames if frame[0] >= layout.stamp]

    @property
    def rate(self) -> float:
        """Frames a simulated second."""
        if len(self.frames) < 2:
            return 1.0
        return 1e9 / float(np.median(np.diff([stamp for stamp, _, _ in self.frames])))
