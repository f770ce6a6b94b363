"""OpenVlaPolicy: an OpenVLA checkpoint in its original layout, on a robot whose hand is moved by steps."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch

from vla_ros.errors import ConfigError
from vla_ros.observing import require_image
from vla_ros.openvla.files import Checkpoint, open_checkpoint
from vla_ros.openvla.fitting import Plan, plan, require_fitting
from vla_ros.openvla.options import Options
from vla_ros.openvla.prompt import asked
from vla_ros.profile import RobotProfile
from vla_ros.spec import ARM_UNITS
from vla_ros.tokens import EdgeBins
from vla_ros.types import ActionChunk, Observation


class OpenVlaPolicy:
    """One checkpoint on one robot. Each image is answered by one action; nothing is remembered."""

    def __init__(self, checkpoint: Checkpoint, plan: Plan, center_crop: bool = False):
        self.name = f"openvla:{plan.statistics.key}"
        self.checkpoint, self.plan, self.center_crop = checkpoint, plan, center_crop
        self.spec, self.cameras = plan.fitting.spec, (plan.camera,)
        self.adapters = plan.fitting.told()
        self.bins = EdgeBins(checkpoint.config.bins)

    @classmethod
    def load(cls, folder: Path, profile: RobotProfile, options: Options) -> OpenVlaPolicy:
        """Raises CheckpointError, UnknownNameError, ConfigError, or ActionError where the robot's steps differ: all of
        that before the weights are read, which takes long."""
        made = plan(folder, options, profile)
        require_fitting(made.fitting.spec, profile)
        return cls(open_checkpoint(folder, options.dtype, device_named(options.device)), made, options.center_crop)

    def reset(self) -> None:
        """There is nothing to forget."""

    def infer(self, observation: Observation) -> ActionChunk:
        begin, statistics, fitting = time.perf_counter(), self.plan.statistics, self.plan.fitting
        c, taken = self.checkpoint, self.checkpoint.config.patches + statistics.dim
        ids, reason = asked(observation.instruction, c.config, c.tokenizer, c.model.room - taken)
        if reason:
            return self._refuse(observation, reason)
        pixels = self.checkpoint.images.read(require_image(observation, self.cameras[0]), self.center_crop)
        read = time.perf_counter()
        said = self.checkpoint.model.say(ids, pixels, statistics.dim)
        timings = {"preprocess": read - begin, "act": time.perf_counter() - read}
        reason = self._stray(said.tokens)
        if reason:
            return self._refuse(observation, reason, timings)
        action = statistics.unnormalise(self.bins.decode(self.checkpoint.config.words - said.tokens))
        return ActionChunk(fitting.steps(action), self.spec, observation.stamp, tokens=fitting.tokens(said.tokens),
                           confidence=typical(said.probabilities), timings=timings)

    def _stray(self, tokens: np.ndarray) -> str:
        """What the model said that is no action; the reference takes any other word for the largest motion."""
        last = self.checkpoint.config.words
        for name, token in zip(ARM_UNITS, tokens.tolist(), strict=True):
            if not last - self.bins.count <= token < last:
                word = self.checkpoint.tokenizer.id_to_token(token)
                return f"the model says no action: {word!r} in the place of {name}"
        return ""

    def _refuse(self, observation: Observation, reason: str, timings: dict | None = None) -> ActionChunk:
        return ActionChunk(np.zeros((0, self.spec.dim)), self.spec, observation.stamp, refusal=reason,
                           timings=timings or {})


def device_named(name: str) -> str:
    """'' is a GPU where there is one. Raises ConfigError for what torch cannot use."""
    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device '{name}' cannot be used: {str(error).splitlines()[0]}") from error
    return name


def typical(probabilities: np.ndarray) -> float:
    """The geometric mean; 0 where one of them is none."""
    return float(np.exp(np.log(np.clip(np.nan_to_num(probabilities), 1e-30, 1)).mean()))
