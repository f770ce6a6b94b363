"""Pi0Policy: a pi0 checkpoint on a robot, whose cameras, state and actions a file beside it names."""

from __future__ import annotations

import time
from pathlib import Path

from vla_ros.adapters import TURNS
from vla_ros.continuing import Committing
from vla_ros.errors import ActionError, ConfigError, RemoteError
from vla_ros.observing import require_image
from vla_ros.policies.openvla import device_named
from vla_ros.profile import RobotProfile
from vla_ros.remote.described import Described
from vla_ros.types import ActionChunk, Observation
from vla_ros.vlm.description import OF_PI0, read_options
from vla_ros.vlm.pi0 import Before, Pi0

WORDS = "prompt"  # key of the instruction, as openpi's servers have it


class Pi0Policy:
    """One checkpoint on one robot. The noise is what the observation's stamp decides.

    delay: [s] that a chunk takes to the robot, at most: each goes on from what is executed until then, and after it.
    None: each observation is answered by itself. execute_steps: of a chunk, before a newer one takes over.
    """

    def __init__(self, model: Pi0, meant: Described, delay: float | None, execute_steps: int):
        self.delay, self.execute_steps = delay, execute_steps
        self.name, self.model, self.meant, self.spec, self.cameras = "pi0", model, meant, meant.spec, meant.cameras
        self.adapters = meant.adapters
        made, said = (model.horizon, len(model.actions.mean)), meant.chain.shape
        if made != said:
            raise ActionError("spec", f"the checkpoint's chunks are of shape {made}, those of its file {said}")
        named = [name for name in model.images if name in meant.description.images]
        if model.images and named != list(meant.description.images):
            raise ConfigError(f"the file's images must be of {', '.join(model.images)}, in this order; they are "
                              f"{', '.join(meant.description.images)}")
        if len(meant.description.state) != 1:
            raise ConfigError(f"the file must name one state, names {len(meant.description.state)}")
        adapt, turns = meant.description.adapt, set(TURNS) & set(self.spec.names)
        if delay is not None and turns and adapt.absolute and adapt.rotation != "rotation_6d":
            raise ConfigError(f"delay: what the chunk in force turns to may be said in more than one way as "
                              f"{adapt.rotation}; only absolute rotations of rotation_6d can be gone on from")
        self.reset()

    @classmethod
    def load(cls, folder: Path, file: Path, profile: RobotProfile, options: str) -> Pi0Policy:
        """Raises ConfigError, UnknownNameError, CheckpointError, or ActionError where the file does not fit."""
        chosen, meant = read_options(options, OF_PI0), Described(str(file), profile, WORDS)
        return cls(Pi0.open(folder, chosen.dtype, device_named(chosen.device)), meant, chosen.delay,
                   chosen.execute_steps)

    def reset(self) -> None:
        """Forgets the chunk in force, where it knows of one."""
        self.committing = None
        if self.delay is not None:
            self.committing = Committing(self.spec, self.delay, self.execute_steps)

    def infer(self, observation: Observation) -> ActionChunk:
        """Raises ObservationError, or ActionError for a chunk that must not be executed."""
        begin, d = time.perf_counter(), self.meant.description
        for name in self.cameras:
            require_image(observation, name)
        asked = self.meant.request(observation, reset=False)
        state = asked[next(iter(d.state))]
        if state.shape != self.model.state.mean.shape:
            raise ConfigError(f"the file's state has {len(state)} numbers, that of the checkpoint "
                              f"{len(self.model.state.mean)}")
        read = time.perf_counter()
        values = self.model.act(observation.instruction, [asked[key] for key in d.images], state,
                                observation.stamp % 2**63, self.before(observation))
        acted = time.perf_counter()
        try:
            chunk = self.meant.chunk(values, observation.stamp, 0.0)
        except RemoteError as error:
            raise ActionError("values", str(error)) from error
        chunk = ActionChunk(chunk.values, self.spec, observation.stamp,
                            timings={"preprocess": read - begin, "act": acted - read})
        if self.committing is not None:
            self.committing.keep(chunk, observation)
        return chunk

    def before(self, observation: Observation) -> Before | None:
        """What an answer goes on from; None where there is nothing."""
        committed = self.committing and self.committing.at(observation)
        if committed is None:
            return None
        steps = self.spec.horizon // self.meant.chain.shape[0]  # of the action in one of the model's
        left, frozen = committed.left // steps, -(-committed.frozen // steps)
        rows = self.meant.chain.backward(committed.values, observation.ee_pose)
        return Before(rows, left, min(left, frozen)) if left else None
