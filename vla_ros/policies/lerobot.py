"""LerobotPolicy: a LeRobot checkpoint that runs in an environment of its own, as a process of ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vla_ros.lerobot import child, fitting, server
from vla_ros.lerobot.options import PREFIX, Options, read_options, require_python
from vla_ros.observing import check_shows
from vla_ros.profile import RobotProfile
from vla_ros.remote.address import Address
from vla_ros.remote.opening import websocket
from vla_ros.types import ActionChunk, Observation

SCRIPT = Path(server.__file__)
HUNG = 60.0  # [s] of one inference, after which its process is ended and started again


class LerobotPolicy:
    """What it remembers of an episode is kept here and sent along, so that a server that was started again, or one
    that several share, answers the same."""

    def __init__(self, options: Options, profile: RobotProfile, script: Path = SCRIPT):
        """script: of the server. Raises VlaError; what does not fit is said before anything is started."""
        self.features, self.talk = fitting.plan(options, profile)
        self.name, self.spec, self.cameras = f"lerobot:{self.features.kind}", self.talk.spec, self.talk.cameras
        arguments = ["--folder", str(options.folder.resolve()), "--hung", str(max(HUNG, 2 * options.deadline))]
        arguments += [word for name in ("device", "vlm") if getattr(options, name)
                      for word in (f"--{name}", getattr(options, name))]
        self.child = child.Child(f"{PREFIX}{options.folder}", require_python(options), script, arguments)
        self.child.wait(options.start)
        self.line = websocket(Address(self.child.url, options.deadline, self.child.token), profile, self.talk)
        self.reset()

    @classmethod
    def open(cls, source: str, profile: RobotProfile) -> LerobotPolicy:
        """source: as lerobot:FOLDER?python=DIR/bin/python."""
        return cls(read_options(source), profile)

    def reset(self) -> None:
        self._past: tuple[tuple[int, dict], ...] = ()  # stamp [ns] and request of earlier observations
        self._asked = 0

    def infer(self, observation: Observation) -> ActionChunk:
        if not any(c.isalnum() for c in observation.instruction):
            return ActionChunk(np.zeros((0, self.spec.dim)), self.spec, observation.stamp,
                               refusal="the instruction is empty")
        self.child.require()
        now = self.talk.request(observation, False)
        for name in self.cameras:
            check_shows(name, observation.images[name])
        past = (*self._before(observation.stamp), (observation.stamp, now))
        chunk = self.line.ask({"observations": [said for _, said in past], "seed": self._asked}, observation.stamp)
        self._past, self._asked = past, self._asked + 1
        return chunk

    def _before(self, stamp: int) -> tuple[tuple[int, dict], ...]:
        """Earlier observations that are as far apart as in training, a period and not half of it more or less. Where
        there are none LeRobot repeats the one of now, as at the beginning of an episode."""
        kept, period = [], self.spec.period_ns
        for earlier, said in reversed(self._past):
            if len(kept) + 1 >= self.features.history or abs(stamp - earlier - period) > period // 2:
                break
            kept.append((earlier, said))
            stamp = earlier
        return tuple(reversed(kept))
