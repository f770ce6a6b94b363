"""The oracle as a policy of the policy node: the expert, told the truth of the simulator on a topic of its own.

It drives all that lies between an observation and the robot without a model, so that what fails is not the model.
"""

from __future__ import annotations

import threading

import numpy as np

from vla_ros.errors import ObservationError
from vla_ros.msg import SceneTruth
from vla_ros.nodes import convert
from vla_ros.profile import RobotProfile
from vla_ros.sim.oracle import Truth, expert_values
from vla_ros.types import ActionChunk, Observation

NAME, TOPIC = "oracle", "sim/truth"
KEPT = 120  # truths: two seconds
PATIENCE = 0.2  # [s] that the truth of a moment may come later than its joint states


def truth_message(truth: Truth, stamp: int) -> SceneTruth:
    """stamp: [ns]; truth_from() is its inverse."""
    def listed(values) -> list[float]:
        return [] if values is None else np.ravel(values).tolist()
    return SceneTruth(header=convert.header(stamp), task=truth.task, shapes=list(truth.shapes),
                      sizes=list(truth.sizes), places=listed(truth.objects), target=truth.target,
                      reference=truth.reference, direction=truth.direction, relation=truth.relation,
                      ee=listed(truth.ee), gap=float(truth.gap), base=listed(truth.base), twist=listed(truth.twist))


def truth_from(message: SceneTruth) -> Truth:
    """Raises ObservationError for a message that does not hold together."""
    count = len(message.shapes)
    if len(message.sizes) != count or len(message.places) != 3 * count:
        raise ObservationError("truth", f"{count} shapes, {len(message.sizes)} sizes and {len(message.places)} "
                                        "coordinates do not go together")
    if not (-1 <= message.target < count and -1 <= message.reference < count):
        raise ObservationError("truth", f"objects {message.target} and {message.reference} of {count}")

    def vector(values) -> np.ndarray | None:
        return np.array(values) if len(values) else None
    return Truth(message.task, tuple(message.shapes), tuple(message.sizes), np.reshape(message.places, (count, 3)),
                 message.target, message.reference, message.direction, message.relation, vector(message.ee),
                 message.gap, vector(message.base), vector(message.twist))


class TopicOracle:
    """Answers an observation by the truth of its moment. `see` may be called by another thread."""

    name = NAME
    cameras: tuple[str, ...] = ()

    def __init__(self, profile: RobotProfile):
        self.profile, self.spec = profile, profile.action
        self._truths: dict[int, Truth] = {}  # by stamp [ns]
        self._come = threading.Condition()

    def see(self, message: SceneTruth) -> None:
        with self._come:
            self._truths[convert.nanoseconds(message.header.stamp)] = truth_from(message)
            while len(self._truths) > KEPT:
                del self._truths[next(iter(self._truths))]
            self._come.notify_all()

    def infer(self, observation: Observation) -> ActionChunk:
        """Raises ObservationError where no truth of that moment comes."""
        stamp = observation.stamp
        with self._come:
            if not self._come.wait_for(lambda: stamp in self._truths, PATIENCE):
                raise ObservationError("truth", f"nothing received from {TOPIC} about this moment: a simulator tells "
                                                "the truth there, a robot does not")
            truth = self._truths[stamp]
        return ActionChunk(expert_values(self.profile, truth), self.spec, stamp)

    def reset(self) -> None:
        """Nothing to forget."""
