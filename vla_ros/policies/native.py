"""NativePolicy: the model trained by this project. It looks, then acts, or says why not."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch

from vla_ros.errors import CheckpointError, ObservationError
from vla_ros.model.files import open_checkpoint
from vla_ros.model.vocabulary import ACTION_BINS, ACTIONS, Words
from vla_ros.observing import proprioception
from vla_ros.paths import data_folder
from vla_ros.profile import RobotProfile
from vla_ros.spec import ActionSpec, require_compatible
from vla_ros.tokens import UniformBins
from vla_ros.transforms import QuantileNormaliser
from vla_ros.types import ActionChunk, Look, Observation

SURE_ABSENT = 0.5  # probability of 'not there' from which on it refuses
BLANK = 12  # [0..255] an image whose values differ by less shows nothing


def shipped_checkpoint(robot: str) -> Path:
    """The folder of the checkpoint that ships for a robot."""
    folder = data_folder("checkpoints") / robot
    if not folder.is_dir():
        shipped = sorted(p.name for p in folder.parent.glob("*") if p.is_dir())
        raise CheckpointError(f"no checkpoint ships for robot '{robot}'; there are: {', '.join(shipped) or 'none'}")
    return folder


class NativePolicy:
    """One checkpoint on one robot."""

    def __init__(self, model, tokenizer, profile: RobotProfile):
        c = model.config
        self.name = f"native:{c.robot}"
        self.model, self.profile = model.eval(), profile
        self.words = Words(tokenizer, c.text_length)
        self.spec = ActionSpec.from_dict(c.action_spec)
        require_compatible(self.spec, profile.action)
        self.cameras = (c.camera,)
        camera = profile.cameras.get(c.camera)
        if camera is None or (camera.width, camera.height) != (c.image_size, c.image_size):
            have = ", ".join(f"'{n}' {v.width} x {v.height}" for n, v in profile.cameras.items())
            raise CheckpointError(f"the checkpoint reads camera '{c.camera}' of {c.image_size} x {c.image_size} px; "
                                  f"robot '{profile.name}' has {have}")
        self.bins = UniformBins(ACTION_BINS)
        self.actions = QuantileNormaliser(c.action_low, c.action_high)
        self.proprio = QuantileNormaliser(c.proprio_low, c.proprio_high)
        self.reset()

    @classmethod
    def load(cls, folder: Path | str, profile: RobotProfile) -> NativePolicy:
        """Raises CheckpointError for a folder that is not a whole checkpoint of this architecture."""
        return cls(*open_checkpoint(Path(folder)), profile)

    def reset(self) -> None:
        """The next instruction's object has not been seen yet."""
        self._seen = ""  # the instruction whose object was seen

    def infer(self, observation: Observation) -> ActionChunk:
        timings, begin = {}, time.perf_counter()

        def lap(stage: str) -> None:
            nonlocal begin
            timings[stage], begin = time.perf_counter() - begin, time.perf_counter()

        ids, reason = self._read(observation.instruction)
        if reason:
            return self._refuse(observation, reason, timings)
        text = torch.tensor([ids])
        pixels = self._pixels(observation)
        body = self.proprio.normalise(proprioception(observation, self.profile.kind))
        lap("preprocess")
        probabilities, point, memory = self.model.see(pixels, text)
        absent = float(probabilities[-1])
        lap("look")
        if absent > SURE_ABSENT and self._seen != observation.instruction:
            return self._refuse(observation, f"I do not see what '{observation.instruction}' is about", timings, absent)
        self._seen = observation.instruction
        look = self.model.look_tokens(point[None])
        logits = self.model.act(memory, text, look, torch.tensor(body, dtype=torch.float32)[None])
        lap("act")
        bins = logits.argmax(-1).numpy().reshape(self.spec.horizon, self.spec.dim)
        values = self.actions.unnormalise(self.bins.decode(bins))
        lap("decode")
        look = Look("target", float(point[0]), float(point[1]), float(probabilities[:-1].max()))
        said = f"I look at ({look.u:.0f}, {look.v:.0f}) px in '{self.cameras[0]}'"
        return ActionChunk(values, self.spec, observation.stamp, tokens=bins + ACTIONS, confidence=1 - absent,
                           text=said, timings=timings, looks=(look,))

    def _read(self, instruction: str) -> tuple[list[int], str]:
        """Token ids of an instruction, or why it cannot be read."""
        unknown = self.words.unknown(instruction)
        if unknown:
            return [], "I do not know the word" + ("s " if len(unknown) > 1 else " ") + ", ".join(map(repr, unknown))
        try:
            ids = self.words.encode(instruction)
        except ValueError as error:
            return [], f"the instruction is too long: {error}"
        return (ids, "") if any(ids[1:]) else ([], "the instruction is empty")

    def _refuse(self, observation: Observation, reason: str, timings: dict, confidence: float = 1.0) -> ActionChunk:
        return ActionChunk(np.zeros((0, self.spec.dim)), self.spec, observation.stamp, confidence=confidence,
                           refusal=reason, timings=timings)

    def _pixels(self, observation: Observation) -> torch.Tensor:
        """(1, 3, H, W) in [-1, 1]."""
        name, size = self.cameras[0], self.model.config.image_size
        image = observation.images.get(name)
        if image is None or image.shape != (size, size, 3):
            have = {n: i.shape for n, i in observation.images.items()}
            raise ObservationError("size", f"the model reads camera '{name}' of {size} x {size} px, got {have}")
        if int(image.max()) - int(image.min()) < BLANK:
            raise ObservationError("blank", f"the image of camera '{name}' shows nothing")
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 127.5 - 1
