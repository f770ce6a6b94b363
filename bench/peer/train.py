"""Trains LeRobot's ACT on what demonstrations.py wrote, for so many minutes of processor time. Resumes where it was.

    python bench/peer/train.py --data FOLDER --out RUN --minutes 130

Letters: N samples, F frames, T horizon, D action dimensions. Runs in the peer's environment; see README.md.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
from pathlib import Path

import numpy as np
import torch
from act import ACTION, IMAGE, STATE, WANTED, configuration, picture, settle, statistics
from lerobot.policies.act.modeling_act import ACTPolicy
from lerobot.policies.act.processor_act import make_act_pre_post_processors
from safetensors.torch import load_file, save_file

SEED = 0
BATCH = 16
WARMUP = 300  # steps
DECAY = 0.7  # share of the processor time after which the learning rate falls, in a line, to a fiftieth
EVERY = 10.0  # minutes of processor time between checkpoints
LOG = 50  # steps
CHECKED = 512  # held-out samples


def spent() -> float:
    """[s] of processor time of this process and its children so far, user and system."""
    return sum(used.ru_utime + used.ru_stime for used in map(
        resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))


def read(file: Path) -> dict[str, np.ndarray]:
    with np.load(file, allow_pickle=False) as data:
        return {name: data[name] for name in data.files}


class Samples:
    """Batches: a third each of still scenes, of episodes with the object at work on, and of episodes with another."""

    def __init__(self, data: dict[str, np.ndarray]):
        self.data, still = data, data["origin"][data["frame"]] == 1
        self.parts = [np.flatnonzero(part) for part in (still, ~still & data["own"], ~still & ~data["own"])]

    def batch(self, step: int) -> dict[str, torch.Tensor]:
        rng = np.random.default_rng([SEED, step])
        parts = rng.integers(len(self.parts), size=BATCH)
        return self.take(np.array([rng.choice(self.parts[part]) for part in parts]))

    def take(self, rows: np.ndarray) -> dict[str, torch.Tensor]:
        data, frames = self.data, self.data["frame"][rows]
        return {IMAGE: picture(data["image"][frames]), STATE: torch.from_numpy(data["state"][frames]),
                WANTED: torch.from_numpy(data["environment_state"][rows]),
                ACTION: torch.from_numpy(data["action"][rows]),
                "action_is_pad": torch.zeros(data["action"][rows].shape[:2], dtype=torch.bool)}


class Run:
    """Model, optimiser and where they stand: step, and processor time [s] of the processes before this one."""

    def __init__(self, data: dict[str, np.ndarray], out: Path):
        self.out, self.step, self.before = out, 0, 0.0
        out.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(SEED)
        config = configuration(data["image"].shape[1], data["state"].shape[1], data["environment_state"].shape[1],
                               *data["action"].shape[1:])
        self.policy = ACTPolicy(config)
        self.samples = Samples(data)
        self.pre, self.post = make_act_pre_post_processors(config, statistics(data))
        preset = config.get_optimizer_preset()
        self.clip = preset.grad_clip_norm
        self.optimiser = torch.optim.AdamW(self.policy.get_optim_params(), lr=preset.lr, betas=preset.betas,
                                           eps=preset.eps, weight_decay=preset.weight_decay, fused=True)
        if (out / "state.json").exists():
            self.resume()
        else:
            settle(self.policy, torch.cat([self.pre(self.samples.batch(2**31 + i))[IMAGE] for i in range(8)]))

    @property
    def minutes(self) -> float:
        return (self.before + spent()) / 60

    def resume(self) -> None:
        state = json.loads((self.out / "state.json").read_text())
        folder = self.out / state["checkpoint"]
        self.step, self.before = state["step"], state["cpu_seconds"]
        self.policy.load_state_dict(load_file(folder / "model.safetensors"))
        moments = load_file(self.out / state["optimiser"])
        for name, parameter in self.policy.named_parameters():
            self.optimiser.state[parameter] = {key.rpartition(":")[2]: value for key, value in moments.items()
                                               if key.rpartition(":")[0] == name}

    def save(self, held_out: dict[str, float]) -> None:
        """A checkpoint of its own for each; state.json, which names the newest, is replaced when that is whole."""
        folder = self.out / f"checkpoint-{self.minutes:03.0f}"
        self.policy.save_pretrained(folder)
        self.pre.save_pretrained(folder)
        self.post.save_pretrained(folder)
        names = {id(parameter): name for name, parameter in self.policy.named_parameters()}
        moments = {f"{names[id(parameter)]}:{key}": value for parameter, state in self.optimiser.state.items()
                   for key, value in state.items()}
        optimiser = f"optimiser-{self.step}.safetensors"
        save_file(moments, self.out / optimiser)
        state = {"step": self.step, "cpu_seconds": self.before + spent(), "checkpoint": folder.name,
                 "optimiser": optimiser, "samples": self.step * BATCH} | held_out
        (folder / "training.json").write_text(json.dumps(state, indent=1) + "\n")
        shutil.copy(folder / "training.json", self.out / "state.json.part")
        (self.out / "state.json.part").rename(self.out / "state.json")
        for old in self.out.glob("optimiser-*.safetensors"):
            if old.name != optimiser:
                old.unlink()

    def train_step(self, share: float) -> dict[str, float]:
        """share: of the processor time that is gone. Returns LeRobot's own figures."""
        rate = min(1.0, (self.step + 1) / WARMUP) * (1.0 if share < DECAY else max(0.02, (1 - share) / (1 - DECAY)))
        for group in self.optimiser.param_groups:
            group["lr"] = rate * self.policy.config.optimizer_lr
        torch.manual_seed(SEED * 1_000_003 + self.step)
        batch = self.pre(self.samples.batch(self.step))
        with torch.autocast("cpu", torch.bfloat16):  # ours is trained in the same precision
            loss, figures = self.policy(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.clip)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.step += 1
        return figures | {"rate": rate}

    def check(self, held_out: dict[str, np.ndarray]) -> dict[str, float]:
        """How far a chunk's end is from the expert's [mm], mean and median, on scenes that it was not trained on."""
        rows = np.random.default_rng(SEED).permutation(len(held_out["frame"]))[:CHECKED]
        samples, missed = Samples(held_out), []
        for some in np.array_split(rows, len(rows) // 32):
            batch = samples.take(some)
            wanted = batch[ACTION]
            made = self.post(self.policy.predict_action_chunk(self.pre(batch)))
            missed += (made - wanted)[..., :3].sum(1).norm(dim=-1).tolist()
        self.policy.train()
        return {"missed_mm": 1e3 * float(np.mean(missed)), "missed_mm_median": 1e3 * float(np.median(missed))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder that demonstrations.py wrote")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=130.0, help="of processor time in all")
    args = parser.parse_args()
    torch.set_num_threads(1)
    run, held_out = Run(read(args.data / "train.npz"), args.out), read(args.data / "held_out.npz")
    run.policy.train()
    due, sums = EVERY * (run.minutes // EVERY + 1), []
    while True:
        sums.append(run.train_step(run.minutes / args.minutes))
        if run.step % LOG == 0:
            means = {name: float(np.mean([one[name] for one in sums])) for name in sums[0]}
            log(args.out, {"step": run.step, "cpu_minutes": run.minutes} | means)
            sums = []
        ended = run.minutes >= args.minutes
        if run.minutes >= due or ended:
            figures = run.check(held_out)
            run.save(figures)
            log(args.out, {"step": run.step, "cpu_minutes": run.minutes} | figures)
            due += EVERY
        if ended:
            return


def log(out: Path, row: dict[str, float]) -> None:
    line = json.dumps({name: round(value, 5) for name, value in row.items()})
    print(line, flush=True)
    with (out / "log.jsonl").open("a") as file:
        file.write(line + "\n")


if __name__ == "__main__":
    main()
