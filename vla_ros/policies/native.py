"""NativePolicy: the model trained by this project. It looks, then acts, or says why not; and it answers questions."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from vla_ros.errors import CheckpointError, ObservationError
from vla_ros.model import vocabulary as vocab
from vla_ros.model.files import open_checkpoint
from vla_ros.model.look import NAMED
from vla_ros.model.modeling import Sight
from vla_ros.model.vocabulary import Words
from vla_ros.observing import check_shows, proprioception
from vla_ros.policies.gaze import Gaze
from vla_ros.profile import RobotProfile
from vla_ros.spec import ActionSpec, require_compatible
from vla_ros.tokens import UniformBins
from vla_ros.transforms import QuantileNormaliser
from vla_ros.types import ActionChunk, Answer, Look, Observation

REASONS = {"absent": "I do not see what '{}' is about", "impossible": "I cannot do '{}'",
           "nonsense": "I do not understand '{}'"}
STILL = 0.002  # [m] and less in every step is no motion, as in training


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
        self.bins = UniformBins(vocab.ACTION_BINS)
        self.actions = QuantileNormaliser(c.action_low, c.action_high)
        self.proprio = QuantileNormaliser(c.proprio_low, c.proprio_high)
        self.reset()

    @classmethod
    def load(cls, folder: Path | str, profile: RobotProfile) -> NativePolicy:
        """Raises CheckpointError for a folder that is not a whole checkpoint of this architecture."""
        return cls(*open_checkpoint(Path(folder)), profile)

    def reset(self) -> None:
        """The next instruction has not been agreed to yet."""
        self._agreed, self._gaze = "", Gaze(self.model.config.grid)

    def infer(self, observation: Observation) -> ActionChunk:
        made, = self.infer_together([self], [observation])
        if isinstance(made, ObservationError):
            raise made
        return made

    def infer_together(self, episodes: Sequence[NativePolicy],
                       observations: Sequence[Observation]) -> list[ActionChunk | ObservationError]:
        """See policy.Together. Timings are those of all at once, for that is what each waits."""
        timings, begin = {}, time.perf_counter()

        def lap(stage: str) -> None:
            nonlocal begin
            timings[stage], begin = time.perf_counter() - begin, time.perf_counter()

        read = [self._inputs(observation) for observation in observations]
        made: list[ActionChunk | ObservationError | None] = [
            self._refuse(seen, one, 1.0, timings) if isinstance(one, str) else
            one if isinstance(one, ObservationError) else None for one, seen in zip(read, observations, strict=True)]
        rows = [i for i, one in enumerate(made) if one is None]
        if not rows:
            return made
        texts, pixels, bodies = (torch.stack(part) for part in zip(*(read[i] for i in rows), strict=True))
        lap("preprocess")
        with torch.inference_mode():
            sight, _ = self.model.see(pixels, texts[:, None])
            looked = [episodes[i]._look(sight.row(row), observations[i].instruction) for row, i in enumerate(rows)]
            lap("look")
            for (reason, confidence, _, _), i in zip(looked, rows, strict=True):
                made[i] = self._refuse(observations[i], reason, confidence, timings) if reason else None
            acting = [row for row, i in enumerate(rows) if made[i] is None]
            if acting:
                tokens, shapes = (torch.cat([looked[row][2][part] for row in acting]) for part in (0, 1))
                logits = self.model.act(sight.intent[acting, 0], tokens, bodies[acting], shapes)
        lap("act")
        for at, row in enumerate(acting):
            _, confidence, _, looks = looked[row]
            bins = logits[at].argmax(-1).numpy().reshape(self.spec.horizon, self.spec.dim)
            values = self.actions.unnormalise(self.bins.decode(bins))
            made[rows[row]] = ActionChunk(
                values, self.spec, observations[rows[row]].stamp, tokens=bins + vocab.ACTIONS, confidence=confidence,
                text=said(looks, self.cameras[0]), timings=timings, done=nothing_left(values, self.spec),
                looks=tuple(look for look in looks if look is not None))
        lap("decode")
        return made

    def _inputs(self, observation: Observation) -> tuple[torch.Tensor, ...] | str | ObservationError:
        """Token ids (L,), pixels (3, H, W), proprioception (P,); or why there is nothing to be read, or not."""
        ids, reason = self._read(observation.instruction)
        if reason:
            return reason
        try:
            pixels = self._pixels(observation.images.get(self.cameras[0]))[0]
            body = self.proprio.normalise(proprioception(observation, self.profile.kind))
        except ObservationError as error:
            return error
        return torch.tensor(ids), pixels, torch.tensor(body, dtype=torch.float32)

    def _look(self, sight: Sight, instruction: str) -> tuple[str, float, tuple[torch.Tensor, ...], list[Look | None]]:
        """Why not, or the empty string; how sure it is; look tokens (1, 6) and shapes (1, 2); and where what is named
        is."""
        if self._agreed != instruction:
            self.reset()
        place, point, looks = self._looks(sight, bool(self._agreed))
        reason, confidence = self._judge(sight, place, looks, instruction)
        seen = self.model.look.tokens(point, place).reshape(1, -1), self._shapes(sight, place)[None]
        return reason, confidence, seen, looks

    def ask(self, image: np.ndarray, question: str) -> Answer:
        """Answers a question about a camera image, uint8 (H, W, 3) RGB. Raises ObservationError for another size."""
        begin = time.perf_counter()
        ids, reason = self._read(question, "question")
        if reason:
            return Answer(reason, 1.0, {"infer": time.perf_counter() - begin})
        said, probability = self.model.reply(self._pixels(image), torch.tensor([ids]))
        return Answer(self.words.decode(said), probability, {"infer": time.perf_counter() - begin})

    def _read(self, text: str, kind: str = "instruction") -> tuple[list[int], str]:
        """Token ids of a text, or why it cannot be read."""
        try:
            ids = self.words.encode(text)
        except ValueError as error:
            return [], f"the {kind} is too long: {error}"
        return (ids, "") if any(c.isalnum() for c in text) else ([], f"the {kind} is empty")

    def _looks(self, sight: Sight, agreed: bool) -> tuple[torch.Tensor, torch.Tensor, list[Look | None]]:
        """Places (3,), pixels (3, 2), and what the instruction names, where it is in the image.

        What was agreed to is there, if hidden by the hand: no action was ever learnt for what is not.
        """
        grid = self.model.config.grid
        logits = sight.look_logits[0, 0].float()
        if agreed:
            logits[:len(NAMED), grid**2] = float("-inf")
        seen = logits.softmax(-1)  # (3, P + 2)
        odds = torch.cat([self._gaze.update(seen[:len(NAMED)]), seen[len(NAMED):]])  # the hand is never hidden
        place = odds.argmax(-1)
        point = self.model.look.point(sight.patches, sight.query, place.clamp(max=grid**2 - 1)[None, None])[0, 0]
        if (place[1:] < grid**2).all():
            point[1] = self._gaze.remember(*point[1:] / self.model.config.patch_size) * self.model.config.patch_size
        looks = [Look(name, float(point[i, 0]), float(point[i, 1]), self._certainty(odds[i], int(place[i])))
                 if place[i] < grid**2 else None for i, name in enumerate(NAMED)]
        return place, point, looks

    def _shapes(self, sight: Sight, place: torch.Tensor) -> torch.Tensor:
        """(2,) what target and reference at places (3,) are, by all that was seen of them; the last: none, or unknown.
        """
        c, named = self.model.config, place[:len(NAMED)]
        if not c.shapes:
            return torch.zeros_like(named)
        seen = self.model.look.shapes(sight.patches, named.clamp(max=c.grid**2 - 1)[None, None])[0, 0]
        return torch.where(named < c.grid**2, self._gaze.recognise(seen).argmax(-1), c.shapes)

    def _certainty(self, odds: torch.Tensor, place: int) -> float:
        """Probability of a patch and of those around it: a thing on the border of two is not less certain."""
        grid = self.model.config.grid
        row, column = divmod(place, grid)
        near = odds[:grid**2].view(grid, grid)[max(row - 1, 0):row + 2, max(column - 1, 0):column + 2]
        return float(near.sum())

    def _judge(self, sight: Sight, place, looks, instruction: str) -> tuple[str, float]:
        """Why not, or the empty string; and how sure it is. What was agreed to once is not refused on the way."""
        odds, there_not = sight.verdict[0, 0].float().softmax(-1), self.model.config.grid**2
        verdict, sure = vocab.VERDICTS[int(odds.argmax())], float(odds.max())
        named = len(NAMED)
        if verdict == "act" and (place[:named] == there_not).any():
            verdict, sure = "absent", float(sight.look_logits[0, 0, :named].float().softmax(-1)[:, there_not].max())
        if verdict != "act" and self._agreed != instruction:
            return REASONS[verdict].format(instruction), sure
        self._agreed = instruction
        return "", float(odds[0]) * float(np.prod([look.confidence for look in looks if look is not None]))

    def _refuse(self, observation: Observation, reason: str, confidence: float, timings: dict) -> ActionChunk:
        return ActionChunk(np.zeros((0, self.spec.dim)), self.spec, observation.stamp, confidence=confidence,
                           refusal=reason, timings=timings)

    def _pixels(self, image: np.ndarray | None) -> torch.Tensor:
        """(1, 3, H, W) in [-1, 1]."""
        size = self.model.config.image_size
        if image is None or image.shape != (size, size, 3):
            raise ObservationError("size", f"the model reads camera '{self.cameras[0]}' of {size} x {size} px, "
                                           f"got {None if image is None else image.shape}")
        check_shows(self.cameras[0], image)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 127.5 - 1


def nothing_left(values: np.ndarray, spec: ActionSpec) -> bool:
    """Whether a chunk (T, D) asks for no motion, as in training when it is done; of the fingers, that they stay in one
    state. What bins about zero are too wide for, as those of a base's turning, never is."""
    fingers = np.array([name == "gripper" for name in spec.names])
    return bool((np.abs(values[:, ~fingers]) < STILL).all() and (np.ptp(values[:, fingers], axis=0) == 0).all())


def said(looks: list[Look | None], camera: str) -> str:
    """Where the model looks, in words."""
    places = [f"the {look.name} at ({look.u:.0f}, {look.v:.0f}) px" for look in looks if look is not None]
    return f"I look at {' and '.join(places)} in '{camera}'" if places else "I look at nothing"
