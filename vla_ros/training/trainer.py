"""The training loop: steps that depend on nothing but their number, checkpoints that a kill cannot break.

Batches and augmentation are drawn from (seed, stage, step, process), and a checkpoint holds weights, optimiser and
step, so a resumed run does what an uninterrupted one would have done. `accelerate` places it on what the machine has;
under `torchrun` every process draws batches of its own.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from vla_ros.errors import ConfigError
from vla_ros.model import files  # noqa: F401  quietens the progress bars of saving
from vla_ros.model.modeling import VlaModel
from vla_ros.training.batches import Batch, Drill, Questions
from vla_ros.training.losses import Objective

Pictures = Callable[[np.random.Generator], Batch | Questions]
Practised = Callable[[np.random.Generator, int], Drill]  # also from the number of the step
SAVE_EVERY = 250  # steps
LOG_EVERY = 25
WARMUP = 0.04  # share of a stage
WEIGHT_DECAY = 0.01
CLIP = 1.0  # norm of the gradient


def make_accelerator(bf16: bool = True) -> Accelerator:
    """On all processes that torchrun started; ConfigError when it cannot use them together.

    bf16: on processors. A GPU waits for its kernels to be launched, a quarter of which would be conversions, so that
    TF32 is faster there.
    """
    # No stage trains every parameter, and what a batch of questions trains a batch of instructions does not.
    partly = DistributedDataParallelKwargs(find_unused_parameters=True)
    precision = "bf16" if bf16 and not torch.cuda.is_available() else "no"
    made = Accelerator(mixed_precision=precision, kwargs_handlers=[partly])
    torch.backends.cuda.matmul.allow_tf32 = True
    started = int(os.environ.get("WORLD_SIZE", 1))
    if started != made.num_processes:
        raise ConfigError(f"torchrun started {started} processes, but there are no GPUs for them: set "
                          f"ACCELERATE_USE_CPU=true to train on processors")
    return made


class Batches(Dataset):
    """What is trained on pictures, by the number of the step: other processes can make them ahead."""

    def __init__(self, draw: Pictures, key: tuple[int, ...]):
        self.draw, self.key = draw, key

    def __getitem__(self, step: int) -> Batch | Questions:
        return self.draw(np.random.default_rng([*self.key, step]))


def train_stage(objective: Objective, name: str, settings: dict, seed: int, folder: Path, pictures: Pictures | None,
                practised: Practised | None, accelerator: Accelerator, jobs: int) -> None:
    """Runs a stage to its end from where its last checkpoint in folder/name stands, and logs to folder/log.jsonl.

    jobs: processes beside this one that make batches of pictures where a GPU trains.
    """
    model, out, steps = objective.model, folder / name, settings["steps"]
    on_gpu = accelerator.device.type == "cuda"
    optimiser = torch.optim.AdamW(model.parameters(), lr=settings["learning_rate"], weight_decay=WEIGHT_DECAY,
                                  betas=(0.9, 0.98), fused=on_gpu)
    with accelerator.main_process_first():
        done = resume(model, optimiser, out)
    wrapped, optimiser = accelerator.prepare(objective.train(), optimiser)
    stage, since, rank = sum(map(ord, name)), time.time(), accelerator.process_index
    drawn = iter(DataLoader(Batches(pictures, (seed, stage, rank)), batch_size=None, sampler=range(done, steps),
                            num_workers=jobs if on_gpu else 0, collate_fn=unchanged)) if pictures else None
    bar = tqdm(range(done, steps), initial=done, total=steps, desc=name, mininterval=5.0,
               disable=not accelerator.is_main_process)
    for step in bar:
        for group in optimiser.param_groups:
            group["lr"] = settings["learning_rate"] * schedule(step / steps)
        batch = next(drawn) if drawn else None
        drill = practised(np.random.default_rng([seed, stage, rank, step, 1]), step) if practised else None
        generator = torch.Generator().manual_seed(seed * 1_000_003 + stage * 10_007 + step * 101 + rank)
        loss, figures = wrapped(*(part and part.to(accelerator.device) for part in (batch, drill)), generator)
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(model.parameters(), CLIP)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        if accelerator.is_main_process:
            note(model, optimiser, out, step, steps, {"seconds": round(time.time() - since, 1)} | figures)
        if (step + 1) % SAVE_EVERY == 0:
            accelerator.wait_for_everyone()
    objective.eval()


def unchanged(batch: Batch | Questions) -> Batch | Questions:
    return batch


def note(model: VlaModel, optimiser, out: Path, step: int, steps: int, figures: dict) -> None:
    """Logs and saves what is due after `step`. Figures may be tensors: reading one of a GPU waits for it."""
    if (step + 1) % LOG_EVERY == 0 or step + 1 == steps:
        log(out.parent, {"stage": out.name, "step": step + 1} | {name: float(value) for name, value in figures.items()})
    if (step + 1) % SAVE_EVERY == 0 or step + 1 == steps:
        save(model, optimiser, out, step + 1)


def schedule(progress: float) -> float:
    """Share of the learning rate: a short rise, then a cosine to a fiftieth."""
    if progress < WARMUP:
        return (progress + 1e-4) / WARMUP
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (progress - WARMUP) / (1 - WARMUP)))


def log(folder: Path, row: dict) -> None:
    known = {k: v for k, v in row.items() if v == v}  # a share of nothing is no number
    with (folder / "log.jsonl").open("a") as out:
        out.write(json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in known.items()}) + "\n")


def save(model: torch.nn.Module, optimiser: torch.optim.Optimizer, out: Path, step: int) -> None:
    """model: has save_pretrained(). Writes beside the last checkpoint, then swaps: one of the two is always whole."""
    fresh = out.with_name(out.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    model.save_pretrained(fresh)
    names = {id(p): n for n, p in model.named_parameters()}
    moments = {f"{names[id(p)]}:{key}": value.contiguous() for p, state in optimiser.state.items()
               for key, value in state.items()}
    save_file(moments, fresh / "optimiser.safetensors")
    (fresh / "step.json").write_text(json.dumps({"step": step}))
    shutil.rmtree(out, ignore_errors=True)
    fresh.rename(out)


def load_weights(model: VlaModel, out: Path) -> None:
    model.load_state_dict(VlaModel.from_pretrained(out).state_dict())


def resume(model: torch.nn.Module, optimiser: torch.optim.Optimizer, out: Path,
           load: Callable[[torch.nn.Module, Path], None] = load_weights) -> int:
    """Loads a stage's newest whole checkpoint into model and optimiser; the number of steps done, 0 without one."""
    fresh = out.with_name(out.name + ".new")
    if not (out / "step.json").exists() and (fresh / "step.json").exists():
        shutil.rmtree(out, ignore_errors=True)
        fresh.rename(out)
    if not (out / "step.json").exists():
        return 0
    load(model, out)
    moments = load_file(out / "optimiser.safetensors")
    for name, parameter in model.named_parameters():
        state = {key.rpartition(":")[2]: value.to(parameter.device) for key, value in moments.items()
                 if key.rpartition(":")[0] == name}
        if state:
            optimiser.state[parameter] = state
    return json.loads((out / "step.json").read_text())["step"]
