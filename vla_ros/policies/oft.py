"""OftPolicy: a checkpoint of OpenVLA-OFT on a robot, whose cameras, state and actions a file beside it names."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vla_ros.errors import ActionError, CheckpointError, ConfigError, RemoteError
from vla_ros.observing import require_image
from vla_ros.openvla.configuration import open_config, undescribed
from vla_ros.openvla.files import Checkpoint, open_checkpoint
from vla_ros.openvla.oft import Parts, open_parts, predict
from vla_ros.openvla.options import BOUNDS, OftOptions
from vla_ros.openvla.prompt import asked
from vla_ros.openvla.statistics import choose, stored
from vla_ros.policies.openvla import device_named
from vla_ros.profile import RobotProfile
from vla_ros.remote.described import Described
from vla_ros.types import ActionChunk, Observation
from vla_ros.vlm.description import file_of

WORDS, EPSILON = "prompt", 1e-8  # the key of the instruction; what the reference adds to the span of a state


class OftPolicy:
    """One checkpoint on one robot. Each observation is answered by itself, with all steps of a chunk in one pass."""

    def __init__(self, checkpoint: Checkpoint, parts: Parts, meant: Described, statistics: Mapping[str, Any],
                 options: OftOptions):
        """Raises CheckpointError, ConfigError or ActionError where weights, statistics and file do not agree."""
        self.checkpoint, self.parts, self.meant, self.center_crop = checkpoint, parts, meant, options.center_crop
        keys = BOUNDS[options.bounds]
        self.actions = choose(statistics, options.unnorm_key, keys=keys)
        self.name, self.spec = f"oft:{self.actions.key}", meant.spec
        self.cameras, self.adapters = meant.cameras, meant.adapters
        self.state = choose(statistics, options.unnorm_key, "proprio", keys) if parts.numbers else None
        steps, numbers = meant.chain.shape
        if not numbers == self.actions.dim == parts.dim:
            raise ActionError("spec", f"the file's actions have {numbers} numbers, the statistics' {self.actions.dim}, "
                              f"the head's {parts.dim}")
        said = list(meant.description.lengths(meant.profile).values())
        if said != ([parts.numbers] if parts.numbers else []):
            raise ConfigError(f"the file names states of {said} numbers, the checkpoint reads "
                              f"{f'one of {parts.numbers}' if parts.numbers else 'none'}")
        if self.state and self.state.dim != parts.numbers:
            raise CheckpointError(f"statistics of '{self.state.key}' have {self.state.dim} numbers of proprio, the "
                                  f"checkpoint reads {parts.numbers}")
        self.room = checkpoint.model.room - len(self.cameras_read) * checkpoint.config.patches - bool(self.state)
        self.room -= steps * numbers + 1

    @classmethod
    def load(cls, folder: Path, profile: RobotProfile, options: OftOptions) -> OftPolicy:
        """Raises ConfigError, UnknownNameError, CheckpointError, or ActionError where the file does not fit."""
        file = file_of(folder, f"spec={options.spec}" if options.spec else "")
        if file is None:
            raise undescribed(folder)
        meant = Described(str(file), profile, WORDS)
        statistics = stored(folder, open_config(folder))
        choose(statistics, options.unnorm_key, keys=BOUNDS[options.bounds])  # before the weights are read
        checkpoint = open_checkpoint(folder, options.dtype, device_named(options.device))
        return cls(checkpoint, open_parts(folder, checkpoint.model), meant, statistics, options)

    @property
    def cameras_read(self) -> tuple[str, ...]:
        """One for each of the model's images, in its order; a camera may be read twice."""
        return tuple(self.meant.description.images.values())

    def reset(self) -> None:
        """There is nothing to forget."""

    def infer(self, observation: Observation) -> ActionChunk:
        """Raises ObservationError, or ActionError for a chunk that must not be executed."""
        begin, c = time.perf_counter(), self.checkpoint
        ids, reason = asked(observation.instruction, c.config, c.tokenizer, self.room)
        if reason:
            return ActionChunk(np.zeros((0, self.spec.dim)), self.spec, observation.stamp, refusal=reason)
        images = [c.images.read(require_image(observation, name), self.center_crop) for name in self.cameras_read]
        state = self._state(observation) if self.state else None
        read = time.perf_counter()
        made = predict(c.model, self.parts, ids, images, state, self.meant.chain.shape[0]).cpu().numpy()
        acted = time.perf_counter()
        try:
            chunk = self.meant.chunk(self.actions.unnormalise(made), observation.stamp, 0.0)
        except RemoteError as error:
            raise ActionError("values", str(error)) from error
        return ActionChunk(chunk.values, self.spec, observation.stamp,
                           timings={"preprocess": read - begin, "act": acted - read})

    def _state(self, observation: Observation) -> torch.Tensor:
        """float32 (N,), as the model reads it: a number that never changed becomes -1, or 1 where it has."""
        given = self.meant.request(observation, reset=False)[next(iter(self.meant.description.state))]
        s = self.state
        scaled = np.where(s.scaled, 2 * (given - s.low) / (s.high - s.low + EPSILON) - 1, given)
        return torch.from_numpy(np.clip(scaled, -1, 1)).float()
