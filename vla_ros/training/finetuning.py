"""Fine-tuning of a vision-language model whose words are actions: adapters, on demonstrations of ours.

As in trainer.py, a step depends on nothing but its number, and a kill loses nothing that was saved.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from vla_ros.errors import CheckpointError, ConfigError, UnknownNameError
from vla_ros.evaluation.identity import digest
from vla_ros.evaluation.rollout import EXECUTE_STEPS
from vla_ros.paths import data_folder
from vla_ros.policies.vlm import VlmPolicy
from vla_ros.profile import RobotProfile, load_profile, read_yaml, require
from vla_ros.sim.bullet import BulletWorld
from vla_ros.sim.tasks import get_task
from vla_ros.training import recording
from vla_ros.training.batches import expert_chunks
from vla_ros.training.corrections import roll_out
from vla_ros.training.demos import FIRST_SEED, begin, collect_plain
from vla_ros.training.instructing import Asked, Asker, View
from vla_ros.training.trainer import CLIP, LOG_EVERY, WEIGHT_DECAY, log, make_accelerator, resume, save, schedule
from vla_ros.types import ActionChunk, Observation
from vla_ros.untrusted import vet
from vla_ros.vlm.description import file_of
from vla_ros.vlm.tuning import Lora, Sample, adapt, answer_loss, batch_of, load_adapter

RECIPES = Path("training") / "lora"  # below config/
WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "config.json")  # of a checkpoint: written anew
SETTINGS_FILE = "training.json"
ACTED = 0.5  # share of the samples from the model's own episodes, once there are some


@dataclass(frozen=True)
class Demos:
    """episodes of each family, each shown `passes` times, disturbed in another way."""

    tasks: tuple[str, ...]
    episodes: int
    passes: int = 1


@dataclass(frozen=True)
class Settings:
    """own: share of the samples with the words of their episode; the others have any that their scene allows.
    rounds: times, evenly over the steps, that the model is let act in the episodes that it learns, as in an evaluation,
    and before all of them the expert in the model's words: half of the samples are from there then, with what the
    expert would have done (DAgger, Ross et al. 2011). 0: none of it. bf16: on a processor, which is
    faster; false: where a small model is to learn by heart."""

    robot: str
    seed: int
    demos: Demos
    steps: int
    samples: int
    learning_rate: float
    lora: Lora
    own: float = 0.5
    rounds: int = 0
    bf16: bool = True
    save_every: int = 250

    def __post_init__(self):
        require(min(self.steps, self.samples, self.save_every, self.demos.episodes, self.demos.passes) > 0,
                "steps, samples, save_every, episodes and passes must be above 0")
        require(bool(self.demos.tasks), "demos.tasks must name at least one family")
        require(0 <= self.own <= 1, f"own {self.own} must lie in 0 to 1")
        require(0 <= self.rounds < self.steps, f"rounds {self.rounds} must lie in 0 to below the steps")

    @property
    def ends(self) -> list[int]:
        """Steps after which the expert, then the model is let act."""
        return [self.steps * number // (self.rounds + 1) for number in range(self.rounds + 1)] if self.rounds else []


def load_settings(name_or_file: str) -> Settings:
    """A shipped recipe by name, or a YAML file; unknown and missing keys are errors."""
    path = Path(name_or_file)
    if path.suffix not in (".yaml", ".yml"):
        shipped = {p.stem: p for p in (data_folder("config") / RECIPES).glob("*.yaml")}
        if name_or_file not in shipped:
            raise UnknownNameError("recipe for adapters", name_or_file, shipped)
        path = shipped[name_or_file]
    made = read_yaml(path, Settings, "settings")
    for task in made.demos.tasks:
        require(get_task(task).robot == made.robot, f"{path}: '{task}' is no task of {made.robot}")
    return made


class Demonstrated:
    """Draws samples: a frame, words for it, and what the expert would do."""

    def __init__(self, frames: dict[str, np.ndarray], profile: RobotProfile, policy: VlmPolicy, own: float):
        if policy.cameras != (recording.CAMERA,):
            raise ConfigError(f"demonstrations hold the camera '{recording.CAMERA}' alone, the checkpoint reads "
                              f"{', '.join(policy.cameras)}")
        if policy.spec.horizon > profile.action.horizon:
            raise ConfigError(f"the expert's chunks are {profile.action.horizon} steps long, the checkpoint's "
                              f"{policy.spec.horizon}")
        self.frames, self.profile, self.policy, self.own = frames, profile, policy, own
        self.asker = Asker(profile.name)
        self.acted: list[dict[str, np.ndarray]] = []  # frames of episodes that the expert, then the model acted in
        self._words: dict[tuple[str, int], str] = {}

    def sample(self, rng: np.random.Generator) -> Sample:
        """What the robot is to refuse is not drawn: there are no words for it here."""
        own = self.acted and rng.random() < ACTED
        frames = self.acted[int(rng.integers(len(self.acted)))] if own else self.frames
        row = int(rng.integers(len(frames["image"])))
        f = {name: values[row:row + 1] for name, values in frames.items()}
        asked = self._own(f) if rng.random() < self.own else self._any(rng, f)
        d = self.policy.description
        return Sample([f["image"][0]] * len(d.images), d.prompt.format(instruction=asked.text), self._said(f, asked))

    def _said(self, f: dict[str, np.ndarray], asked: Asked) -> list[int]:
        """What the model should say in one frame."""
        values = expert_chunks(self.profile, f, [[asked]])[0, 0, :self.policy.spec.horizon]
        return self.policy.words.said(self.policy.normaliser.normalise(values))

    def led(self, world: BulletWorld, observation: Observation) -> ActionChunk:
        """What the model would answer if it said nothing wrong, to the words of the episode."""
        f = {name: np.asarray(value)[None] for name, value in recording.frame(world, observation).items()}
        values, _ = self.policy.words.values(self._said(f, self._own(f)))
        return ActionChunk(self.policy.normaliser.unnormalise(values), self.policy.spec, observation.stamp)

    def _own(self, f: dict[str, np.ndarray]) -> Asked:
        view, seed = View.of(f, 0), int(f["episode"][0])
        key = view.family, seed
        if key not in self._words:
            self._words[key] = get_task(view.family).layout(np.random.default_rng(seed)).instruction
        return Asked(self._words[key], "act", view.family, view.target, view.reference, view.direction, view.relation)

    def _any(self, rng: np.random.Generator, f: dict[str, np.ndarray]) -> Asked:
        view = View.of(f, 0)
        while True:
            asked = self.asker.ask(rng, view, False)
            if asked.verdict == "act":
                return asked


def tune(settings: Settings, base: Path, out: Path, demos: Path, jobs: int) -> Path:
    """Trains adapters on the checkpoint in `base`, and returns the folder of the two merged.

    demos: folder of demonstrations, completed if need be. Raises CheckpointError or ConfigError.
    """
    vet(base)
    profile, file = load_profile(settings.robot), file_of(base, "")
    if file is None:
        raise CheckpointError(f"{base} has no vla.yaml, which says what its words mean as actions (docs/vlm.md)")
    accelerator = make_accelerator(settings.bf16)
    policy = VlmPolicy.load(base, file, profile, "device=cpu")
    with accelerator.main_process_first():
        collect_plain(demos, settings.demos.tasks, settings.demos.episodes, settings.demos.passes, jobs)
    source = Demonstrated(recording.load([demos], "*-episode-*"), profile, policy, settings.own)
    described = asdict(settings) | {"base": digest(base)}
    with accelerator.main_process_first():
        require_same_run(out, described)
    adapted = adapt(policy.model, settings.lora, settings.seed)
    figures = train(adapted, source, settings, out, accelerator)
    if accelerator.is_main_process:
        export(adapted, base, out / "checkpoint", described | {"measures": figures})
    accelerator.wait_for_everyone()
    return out / "checkpoint"


def require_same_run(out: Path, described: dict) -> None:
    """A folder is for one run: raises ConfigError where it holds one of other settings, or from another checkpoint."""
    file, described = out / SETTINGS_FILE, json.loads(json.dumps(described))
    out.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        file.write_text(json.dumps(described, indent=1))
    before = json.loads(file.read_text())
    changed = [name for name in described if before.get(name) != described[name]]
    if changed:
        raise ConfigError(f"{out} holds a run with another '{changed[0]}': name another folder with --out")


def train(adapted, source: Demonstrated, settings: Settings, out: Path, accelerator) -> dict:
    """Runs all steps from where the last save in out/adapter stands; the figures of the last one."""
    steps, rank, model = settings.steps, accelerator.process_index, source.policy.model
    trained = [p for p in adapted.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=settings.learning_rate, weight_decay=WEIGHT_DECAY, betas=(0.9, 0.98))
    with accelerator.main_process_first():
        done = resume(adapted, optimiser, out / "adapter", load_adapter)
    wrapped, optimiser = accelerator.prepare(adapted.train(), optimiser)
    since, figures = time.time(), {}
    for step in tqdm(range(done, steps), initial=done, total=steps, desc="adapter", mininterval=5.0,
                     disable=not accelerator.is_main_process):
        while len(source.acted) < sum(end <= step for end in settings.ends):
            with accelerator.main_process_first():
                file = out / f"acted-{len(source.acted)}.npz"
                source.acted.append(acted(adapted, source, settings.demos, file, by_expert=not source.acted))
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * schedule(step / steps)
        rng = np.random.default_rng([settings.seed, rank, step])
        torch.manual_seed(settings.seed * 1_000_003 + step * 101 + rank)  # of dropout
        inputs, labels = batch_of(model, [source.sample(rng) for _ in range(settings.samples)],
                                  source.policy.description.chat)
        loss, right = answer_loss(wrapped(**inputs, use_cache=False).logits, labels)
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(trained, CLIP)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        last = step + 1 == steps
        if accelerator.is_main_process and ((step + 1) % LOG_EVERY == 0 or last):
            figures = {"loss": loss.item(), "words right": right.item()}
            log(out, {"stage": "adapter", "step": step + 1, "seconds": round(time.time() - since, 1)} | figures)
        if accelerator.is_main_process and ((step + 1) % settings.save_every == 0 or step + 1 in settings.ends or last):
            save(adapted, optimiser, out / "adapter", step + 1)
    return figures or last_figures(out)


def acted(adapted, source: Demonstrated, demos: Demos, file: Path, by_expert: bool) -> dict[str, np.ndarray]:
    """Frames of the episodes of `demos` in which the model acts as it would be evaluated, or the expert in its words;
    kept in `file`."""
    if not file.exists():
        adapted.eval()
        frames, solved = [], 0
        for task in map(get_task, demos.tasks):
            world = BulletWorld(source.profile, task, cameras=(recording.CAMERA,))
            policy = Led(world, source) if by_expert else source.policy
            for seed in range(FIRST_SEED, FIRST_SEED + demos.episodes):
                begin(world, seed, plain=True)
                frames += roll_out(world, policy, seed, min(EXECUTE_STEPS, source.policy.spec.horizon))
                solved += world.progress.success
            world.close()
        tqdm.write(f"{file.stem}: {solved} of {len(demos.tasks) * demos.episodes} episodes done")
        recording.save(file, frames)
        adapted.train()
    return recording.read(file)


class Led:
    """The expert, in the model's words, as a policy."""

    def __init__(self, world: BulletWorld, source: Demonstrated):
        self.name, self.spec, self.cameras = "led", source.policy.spec, source.policy.cameras
        self._world, self._source = world, source

    def reset(self) -> None:
        """There is nothing to forget."""

    def infer(self, observation: Observation) -> ActionChunk:
        return self._source.led(self._world, observation)


def last_figures(out: Path) -> dict:
    """Of a run that had ended before."""
    row = json.loads((out / "log.jsonl").read_text().splitlines()[-1])
    return {name: row[name] for name in ("loss", "words right")}


def export(adapted, base: Path, out: Path, settings: dict) -> None:
    """The merged checkpoint, with all that lies beside the weights of `base`."""
    fresh = out.with_name(out.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(base, fresh, ignore=shutil.ignore_patterns(*WEIGHTS, SETTINGS_FILE))
    adapted.merge_and_unload().eval().save_pretrained(fresh)
    (fresh / SETTINGS_FILE).write_text(json.dumps(settings, indent=1))
    shutil.rmtree(out, ignore_errors=True)
    fresh.rename(out)
