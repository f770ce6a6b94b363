"""All stages of training one checkpoint: look, act, corrections. Each resumes where a kill left it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml

from vla_ros.errors import ConfigError, UnknownNameError
from vla_ros.model.configuration import VlaConfig
from vla_ros.model.files import save_checkpoint
from vla_ros.model.modeling import VlaModel
from vla_ros.model.vocabulary import Words, build_tokenizer
from vla_ros.observing import PROPRIOCEPTION
from vla_ros.paths import data_folder
from vla_ros.profile import RobotProfile, load_profile
from vla_ros.sim.tasks import TASKS
from vla_ros.sim.tasks.wordings import DIRECTIONS, TEMPLATES
from vla_ros.sim.world import COLOURS, SHAPES
from vla_ros.training import recording
from vla_ros.training.batches import Labeller
from vla_ros.training.corrections import collect_corrections
from vla_ros.training.demos import collect
from vla_ros.training.losses import batch_loss
from vla_ros.training.trainer import train_stage
from vla_ros.transforms import QuantileNormaliser

SETTINGS_FILE = "training.json"  # beside the weights: what they were trained with
SETTINGS = ("robot", "seed", "demos", "model", "look", "act", "corrections")


def load_settings(name_or_file: str) -> dict:
    """A shipped training configuration by name, or a YAML file; unknown and missing keys are errors."""
    path = Path(name_or_file)
    if path.suffix not in (".yaml", ".yml"):
        shipped = {p.stem: p for p in (data_folder("config") / "training").glob("*.yaml")}
        if name_or_file not in shipped:
            raise UnknownNameError("training configuration", name_or_file, shipped)
        path = shipped[name_or_file]
    if not path.is_file():
        raise ConfigError(f"no training configuration {path}")
    settings = yaml.safe_load(path.read_text())
    for key in settings:
        if key not in SETTINGS:
            raise UnknownNameError(f"key in {path}", key, SETTINGS)
    missing = [key for key in SETTINGS if key not in settings]
    if missing:
        raise ConfigError(f"{path} lacks {', '.join(missing)}")
    return settings


@dataclass
class Run:
    """One training run: its settings and where it writes."""

    settings: dict
    folder: Path
    demos: Path
    jobs: int

    def __post_init__(self):
        self.profile: RobotProfile = load_profile(self.settings["robot"])
        self.seed: int = self.settings["seed"]
        self.tokenizer = build_tokenizer(vocabulary_texts())
        self.folder.mkdir(parents=True, exist_ok=True)

    def train(self) -> Path:
        """Runs every stage that is not done and returns the folder of the finished checkpoint."""
        tasks = [name for name, task in TASKS.items() if task.robot == self.profile.name]
        wanted = self.settings["demos"]
        collect(self.demos, tasks, wanted["episodes"], wanted["stills"], self.jobs)
        frames, stills = recording.load([self.demos]), recording.load([self.demos], "*-still-*")
        model = self._model(recording.load([self.demos], "*-episode-*"))
        self._stage(model, "look", self.settings["look"], stills, acting=False)
        self._stage(model, "act", self.settings["act"], frames, acting=True)
        self._export(model)
        corrections = self.settings["corrections"]
        gathered: list[Path] = []
        for number in range(1, corrections["rounds"] + 1):
            gathered.append(self.folder / f"rollouts-{number}")
            collect_corrections(self.folder / "checkpoint", gathered[-1], tasks, corrections["episodes"], number,
                                self.jobs)
            own = recording.load(gathered)
            self._stage(model, f"corrections-{number}", corrections, frames, acting=True, own=own)
            self._export(model)
        return self.folder / "checkpoint"

    def _model(self, frames) -> VlaModel:
        """A fresh model; its normalisation is kept in the run's folder, so that a resumed run has the same.

        frames: of whole episodes; still scenes are all beginnings, without the motions of an end.
        """
        file = self.folder / "config.json"
        if not file.exists():
            proprio, actions = self._labeller(frames).statistics(np.random.default_rng(self.seed))
            VlaConfig(
                vocab_size=len(self.tokenizer), action_spec=self.profile.action.to_dict(), robot=self.profile.name,
                action_low=actions.low.tolist(), action_high=actions.high.tolist(), camera=recording.CAMERA,
                proprio_names=list(PROPRIOCEPTION[self.profile.kind]), proprio_low=proprio.low.tolist(),
                proprio_high=proprio.high.tolist(), **self.settings["model"]).save_pretrained(self.folder)
        torch.manual_seed(self.seed)
        return VlaModel(VlaConfig.from_pretrained(self.folder))

    def _labeller(self, frames) -> Labeller:
        return Labeller(frames, self.profile, Words(self.tokenizer, VlaConfig(**self.settings["model"]).text_length))

    def _stage(self, model: VlaModel, name: str, settings: dict, frames, acting: bool, own=None) -> None:
        """own: frames of the model's own roll-outs; they make up half of the images."""
        c = model.config
        proprio = QuantileNormaliser(c.proprio_low, c.proprio_high)
        actions = QuantileNormaliser(c.action_low, c.action_high) if acting else None
        sources = [self._labeller(f) for f in (frames, own) if f is not None]

        def loss_of(rng, generator):
            source = sources[int(rng.integers(len(sources)))]
            batch = source.batch(rng, settings["images"], settings["instructions"], proprio, actions,
                                 settings.get("focus", 0.0))
            return batch_loss(model, batch, generator, acting)

        train_stage(model, name, settings, self.seed, self.folder, loss_of)

    def _export(self, model: VlaModel) -> None:
        out = self.folder / "checkpoint"
        save_checkpoint(out, model, self.tokenizer)
        (out / SETTINGS_FILE).write_text(json.dumps(self.settings, indent=1))


def vocabulary_texts() -> list[str]:
    """Every word that the tasks may use."""
    texts = [t.format(o="", d="") for templates in TEMPLATES.values() for t in templates]
    texts += [synonym for synonyms in DIRECTIONS.values() for synonym in synonyms]
    return texts + list(COLOURS) + list(SHAPES)
