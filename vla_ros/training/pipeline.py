"""All stages of training one checkpoint: motor, look, align, act, corrections, polish. Each resumes where a kill left
it, and says how good it left the model."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import yaml
from accelerate import Accelerator
from transformers import PreTrainedTokenizerFast

from vla_ros import words
from vla_ros.errors import ConfigError, UnknownNameError
from vla_ros.evaluation.identity import digest
from vla_ros.model.configuration import VlaConfig
from vla_ros.model.files import open_checkpoint, save_checkpoint
from vla_ros.model.modeling import VlaModel
from vla_ros.model.vocabulary import Words, build_tokenizer
from vla_ros.observing import PROPRIOCEPTION
from vla_ros.paths import data_folder
from vla_ros.profile import RobotProfile, load_profile, require
from vla_ros.sim import questions
from vla_ros.sim.tasks import TASKS
from vla_ros.sim.world import SHAPES
from vla_ros.training import recording
from vla_ros.training.batches import Batch, Labeller, Questions
from vla_ros.training.corrections import collect_corrections
from vla_ros.training.curves import plot_curves
from vla_ros.training.demos import EPISODES_A_SHARD, STILLS_A_SHARD, collect, collect_held_out
from vla_ros.training.instructing import Asker
from vla_ros.training.losses import Objective
from vla_ros.training.measuring import measure, motor
from vla_ros.training.practice import Practice
from vla_ros.training.trainer import make_accelerator, train_stage
from vla_ros.transforms import QuantileNormaliser

SETTINGS_FILE = "training.json"  # beside the weights: what they were trained with
SETTINGS = ("robot", "seed", "demos", "model", "motor", "look", "align", "act", "corrections")
OPTIONAL = ("polish",)
STAGES = ("motor", "look", "align", "act", "corrections", "polish")
BLIND = ("motor", "polish")  # stages without images


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
        if key not in SETTINGS + OPTIONAL:
            raise UnknownNameError(f"key in {path}", key, SETTINGS + OPTIONAL)
    missing = [key for key in SETTINGS if key not in settings]
    if missing:
        raise ConfigError(f"{path} lacks {', '.join(missing)}")
    return settings


def together(*sets: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([frames[name] for frames in sets]) for name in recording.FIELDS}


def copied(model: VlaModel) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in model.state_dict().items()}


@torch.no_grad()
def blend(model: VlaModel, before: dict[str, torch.Tensor], kept: float) -> None:
    """Weights become `kept` times what they were before, and for the rest what they are."""
    now = model.state_dict()
    for key, value in before.items():
        if value.is_floating_point():
            now[key].copy_(kept * value + (1 - kept) * now[key])


def grown(base: VlaModel, changes: dict, seed: int) -> VlaModel:
    """The base with some of its configuration changed; what it had no weights for begins with random ones."""
    if not changes:
        return base
    try:
        torch.manual_seed(seed)
        model = VlaModel(VlaConfig.from_dict(base.config.to_dict() | changes))
        unlike = model.load_state_dict(base.state_dict(), strict=False).unexpected_keys
    except RuntimeError as error:
        raise ConfigError(f"model {changes}: the base's weights do not fit that: {error}") from error
    require(not unlike, f"model {changes}: the base has weights that have no place in that: {unlike[:3]}")
    return model


def only(model: VlaModel, names: list[str]) -> None:
    """Lets training change the weights of these modules alone, or all where none is named."""
    parts = [module_of(model, name) for name in names] or [model]
    model.requires_grad_(False)
    for part in parts:
        part.requires_grad_(True)


def module_of(model: VlaModel, name: str) -> torch.nn.Module:
    """ConfigError for one that the model has not."""
    try:
        return model.get_submodule(name)
    except AttributeError as error:
        raise ConfigError(f"the model has no module '{name}'; it has "
                          f"{', '.join(name for name, _ in model.named_children())}") from error


def begin_anew(model: VlaModel, names: list[str], seed: int) -> None:
    """Random weights for these modules."""
    torch.manual_seed(seed)
    for name in names:
        module_of(model, name).apply(model._init_weights)


@dataclass
class Run:
    """One training run: its settings and where it writes. base: a checkpoint whose weights and words it begins with."""

    settings: dict
    folder: Path
    demos: Path
    jobs: int
    base: Path | None = None
    accelerator: Accelerator = field(default_factory=make_accelerator)

    def __post_init__(self):
        self.profile: RobotProfile = load_profile(self.settings["robot"])
        self.seed: int = self.settings["seed"]
        shapes = self.settings["model"].get("shapes", 0)
        require(shapes in (0, len(SHAPES)), f"model: {shapes} shapes; there are {len(SHAPES)}, or 0 for none")
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.accelerator.main_process_first():
            self.tokenizer = self._tokenizer()
        self.tasks = [name for name, task in TASKS.items() if task.robot == self.profile.name]

    def train(self, last: str = STAGES[-1]) -> Path:
        """Runs every stage up to `last` that is not done, and returns the folder of the finished checkpoint."""
        if last not in STAGES:
            raise UnknownNameError("stage", last, STAGES)
        wanted = self.settings["demos"]
        episodes, stills, odd = wanted["episodes"], wanted["stills"], wanted.get("odd", 0)
        if last == "motor":  # the others can be made beside it
            episodes, stills, odd = min(episodes, EPISODES_A_SHARD), min(stills, len(self.tasks) * STILLS_A_SHARD), 0
        if self.accelerator.is_main_process:
            collect(self.demos, self.tasks, episodes, stills, self.jobs, odd)
            collect_held_out(self.demos, self.tasks, self.jobs)
        with self.accelerator.main_process_first():
            model = self._model()
        for stage in STAGES[:STAGES.index(last) + 1]:
            if stage == "corrections":
                self._correct(model, self._frames)
            elif stage == "polish":
                self._polish(model)
            elif self.settings[stage]["steps"]:
                self._stage(model, stage, self.settings[stage], [self._source(stage), *self._odd(stage)])
            self._export(model)
        return self.folder / "checkpoint"

    @cached_property
    def _stills(self) -> dict[str, np.ndarray]:
        return recording.load([self.demos], "*-still-*")

    @cached_property
    def _frames(self) -> dict[str, np.ndarray]:
        return together(self._stills, recording.load([self.demos], "*-episode-*"))

    def _source(self, stage: str) -> dict[str, np.ndarray]:
        """What a stage draws from. Motor looks at no picture: the first scenes are enough to name things."""
        if stage in BLIND:
            return recording.load([self.demos], "*-still-000000")
        return self._stills if stage == "look" else self._frames

    def _odd(self, stage: str) -> list[dict[str, np.ndarray]]:
        """A source of its own: what is shown seldom is forgotten."""
        wanted = self.settings["demos"].get("odd") and stage not in BLIND
        return [recording.load([self.demos], "*-odd-*")] if wanted else []

    def _correct(self, model: VlaModel, frames) -> None:
        """Rounds of DAgger: the model's own roll-outs are one of the sources."""
        corrections, gathered = self.settings["corrections"], []
        for number in range(1, corrections["rounds"] + 1):
            gathered.append(self.folder / f"rollouts-{number}")
            if self.accelerator.is_main_process:
                collect_corrections(self.folder / "checkpoint", gathered[-1], self.tasks, corrections["episodes"],
                                    number, self.jobs)
            self.accelerator.wait_for_everyone()
            self._stage(model, f"corrections-{number}", corrections,
                        [frames, *self._odd("corrections"), recording.load(gathered)])
            self._export(model)

    def _polish(self, model: VlaModel) -> None:
        """Practice in several ways, each from the same weights; the mean of what they give is better than any of them
        (model soups, Wortsman et al. 2022, arXiv:2203.05482)."""
        ways, before = self.settings.get("polish", []), copied(model)
        made = []
        for number, settings in enumerate(ways, 1):
            model.load_state_dict(before)
            self._stage(model, f"polish-{number}", settings, [self._source("motor")])
            made.append(copied(model))
        if ways:
            model.load_state_dict({key: sum(one[key] for one in made) / len(made) for key in before})
            if self.accelerator.is_main_process and not (self.folder / "polish/measures.json").exists():
                (self.folder / "polish").mkdir(exist_ok=True)
                self._measure(model, "polish")

    def _tokenizer(self) -> PreTrainedTokenizerFast:
        """Kept in the run's folder: a run that goes on after the wordings changed has the ids that it began with."""
        folder = self.folder / "tokenizer"
        if self.base and not folder.exists():
            open_checkpoint(self.base)[1].save_pretrained(folder)
        if not (folder / "tokenizer.json").exists():
            build_tokenizer([*words.corpus(), *questions.corpus()]).save_pretrained(folder)
        return PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)

    def _model(self) -> VlaModel:
        """A fresh model; its normalisation is kept in the run's folder, so that a resumed run has the same.

        It is that of whole episodes, the first file of each family: still scenes are all beginnings, without the
        motions of an end.
        """
        file = self.folder / "config.json"
        if self.base:
            model = open_checkpoint(self.base)[0]
            require(model.config.robot == self.profile.name, f"{self.base} was trained on a {model.config.robot}, "
                                                             f"these settings are for a {self.profile.name}")
            return grown(model, self.settings["model"], self.seed).to(self.accelerator.device)
        if not file.exists():
            frames = recording.load([self.demos], "*-episode-000000")
            proprio, actions = self._labeller(frames).statistics(np.random.default_rng(self.seed))
            VlaConfig(
                vocab_size=len(self.tokenizer), action_spec=self.profile.action.to_dict(), robot=self.profile.name,
                action_low=actions.low.tolist(), action_high=actions.high.tolist(), camera=recording.CAMERA,
                image_size=self.profile.cameras[recording.CAMERA].width,
                proprio_names=list(PROPRIOCEPTION[self.profile.kind]), proprio_low=proprio.low.tolist(),
                proprio_high=proprio.high.tolist(), **self.settings["model"]).save_pretrained(self.folder)
        torch.manual_seed(self.seed)
        return VlaModel(VlaConfig.from_pretrained(self.folder)).to(self.accelerator.device)

    def _labeller(self, frames, focus: float = 0.0) -> Labeller:
        config = VlaConfig(**self.settings["model"])
        return Labeller(frames, self.profile, Words(self.tokenizer, config.text_length),
                        Asker(self.profile.name, focus=focus), config.answer_length)

    def _stage(self, model: VlaModel, name: str, settings: dict, sources: list) -> None:
        """sources: sets of frames, drawn from equally often. settings.questions: share of the batches.

        settings.kept: share of the weights before the stage in those after it. What a stage adds with small batches it
        takes away elsewhere; between the two both are good (Wortsman et al. 2022, arXiv:2109.01903). settings.anew:
        modules whose weights are forgotten first, for what they know would stand in the way. settings.only: modules
        whose weights are trained; all others stay as they are.
        """
        kept = settings.get("kept", 0.0)
        before = copied(model) if kept else {}
        if (self.folder / name / "measures.json").exists():
            model.load_state_dict(VlaModel.from_pretrained(self.folder / name).state_dict())
        else:
            self._train(model, name, settings, sources)
        blend(model, before, kept)
        if self.accelerator.is_main_process and not (self.folder / name / "measures.json").exists():
            self._measure(model, name)

    def _train(self, model: VlaModel, name: str, settings: dict, sources: list) -> None:
        c, acting, blind = model.config, name not in ("motor", "look", "align"), name.split("-")[0] in BLIND
        begin_anew(model, settings.get("anew", []), self.seed)
        only(model, settings.get("only", []))
        proprio = QuantileNormaliser(c.proprio_low, c.proprio_high)
        actions = QuantileNormaliser(c.action_low, c.action_high)
        labellers = [self._labeller(frames, settings.get("focus", 0.0)) for frames in sources]

        practice = None
        if settings.get("practice"):
            practice = Practice(model, self._labeller(sources[0]), proprio, actions, **settings["practice"])

        def pictures(rng: np.random.Generator) -> Batch | Questions:
            labeller = labellers[int(rng.integers(len(labellers)))]
            count = settings["images"], settings["instructions"]
            if rng.random() < settings["questions"]:
                return (labeller if len(labeller.clear) else labellers[0]).questions(rng, *count)[0]
            return labeller.batch(rng, *count, proprio, actions if acting else None)

        train_stage(Objective(model, acting), name, settings, self.seed, self.folder,
                    None if blind else pictures, practice and practice.batch, self.accelerator, self.jobs)

    def _measure(self, model: VlaModel, name: str) -> None:
        """On scenes of their own, which nothing is trained on."""
        asks = any(self.settings[s].get("questions") for s in STAGES if s not in BLIND)  # asked is who learns to answer
        labeller, made = self._labeller(recording.load([self.demos], "*-held-out-*")), {}
        if name != "motor" and not name.startswith("polish-"):
            made |= measure(model, labeller, asks)
        if name not in ("look", "align"):
            made |= motor(model, labeller)
        (self.folder / name / "measures.json").write_text(json.dumps(made, indent=1))
        print(f"{name}: {json.dumps(made)}")
        plot_curves(self.folder)

    def _export(self, model: VlaModel) -> None:
        if self.accelerator.is_main_process:
            out = self.folder / "checkpoint"
            save_checkpoint(out, model, self.tokenizer)
            measures = {p.parent.name: json.loads(p.read_text()) for p in sorted(self.folder.glob("*/measures.json"))}
            base = {"base": digest(self.base)} if self.base else {}
            (out / SETTINGS_FILE).write_text(json.dumps(self.settings | base | {"measures": measures}, indent=1))
        self.accelerator.wait_for_everyone()
