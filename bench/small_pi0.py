"""A small pi0 that learns a few episodes by heart: something to measure real-time chunking with (docs/seams.md).

    .venv/bin/python bench/small_pi0.py --out out/small_pi0

Random weights of a million parameters, pi0's own loss (flow matching), the simulator's expert. After a third and two
thirds of the steps it acts in the episodes that it learns, and is shown what the expert would have done there (DAgger,
Ross et al. 2011). Then `vla eval` and bench/seams.py take out/small_pi0/checkpoint as their --policy. One line of JSON
at the end.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

from vla_ros.cli import at_least
from vla_ros.errors import VlaError
from vla_ros.policies import open_policy
from vla_ros.profile import load_profile
from vla_ros.sim.bullet import BulletWorld
from vla_ros.sim.tasks import get_task
from vla_ros.training import recording
from vla_ros.training.batches import expert_chunks
from vla_ros.training.corrections import roll_out
from vla_ros.training.demos import FIRST_SEED, begin, collect_plain
from vla_ros.training.instructing import Asked, View

sys.path.append(str(Path(__file__).resolve().parent.parent / "test"))

ROBOT, TASK, ROUNDS = "panda", "reach", 3  # rounds: of training; after each it acts
PASSES = 4  # each episode shown so often, disturbed in another way
RATE = 1e-3
WIDE = {"hidden_size": 96, "intermediate_size": 192, "num_attention_heads": 4}
VISION = WIDE | {"num_hidden_layers": 3, "image_size": 64, "patch_size": 8}
TEXT = WIDE | {"num_hidden_layers": 4, "head_dim": 24, "num_key_value_heads": 1}
LOGGED = 100  # steps


def chunks(profile, frames: dict[str, np.ndarray], horizon: int) -> tuple[list[str], np.ndarray]:
    """Words (F,) of the frames' own episodes, and what the expert does then (F, T, D)."""
    task, asked = get_task(TASK), []
    for row, seed in enumerate(frames["episode"]):
        view, scene = View.of(frames, row), task.layout(np.random.default_rng(seed))
        asked.append([Asked(scene.instruction, "act", TASK, view.target, view.reference, view.direction,
                            view.relation)])
    return [row[0].text for row in asked], expert_chunks(profile, frames, asked)[:, 0, :horizon]


def tensors(policy, frames: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """What the model reads and should say, of all frames. Shorter words are padded behind."""
    model = policy.model
    words, values = chunks(load_profile(ROBOT), frames, model.horizon)
    ids = [model.ids(text, 1) for text in words]
    longest = max(map(len, ids))
    state = np.zeros((len(ids), model.model.config.max_state_dim), np.float32)
    state[:, :4] = model.state.normalise(states(frames))
    actions = np.zeros((len(ids), model.horizon, model.model.config.max_action_dim), np.float32)
    actions[..., :values.shape[2]] = model.actions.normalise(values)
    return {"input_ids": torch.tensor([row + [0] * (longest - len(row)) for row in ids]),
            "attention_mask": torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in ids]),
            "pixel_values": torch.stack([model.pixels(image) for image in frames["image"]])[:, None],
            "state": torch.from_numpy(state), "actions": torch.from_numpy(actions)}


def states(frames: dict[str, np.ndarray]) -> np.ndarray:
    """(F, 4) of position and gap [m]."""
    return np.hstack([frames["ee"], frames["gap"][:, None]])


def statistics(frames: dict[str, np.ndarray], horizon: int) -> dict[str, list[float]]:
    """As processor_config.json has them."""
    _, values = chunks(load_profile(ROBOT), frames, horizon)
    found = {}
    for name, rows in (("state", states(frames)), ("actions", values.reshape(-1, values.shape[2]))):
        deviation = np.maximum(rows.std(0), 1e-3)
        found |= {f"{name}_mean": rows.mean(0).tolist(), f"{name}_std": deviation.tolist()}
    return found


def train(policy, batches: list[dict[str, torch.Tensor]], steps: range, whole: int, samples: int, optimiser) -> float:
    """Half of each batch is of the first set of frames, the other half of those that came later. The last loss."""
    model, losses = policy.model.model.train().requires_grad_(True), []
    for step in steps:
        rng = np.random.default_rng([0, step])
        torch.manual_seed(step)
        drawn = batches[0] if len(batches) == 1 or step % 2 else batches[1 + int(rng.integers(len(batches) - 1))]
        rows = torch.from_numpy(rng.integers(len(drawn["state"]), size=samples))
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1.0, 20 * (step + 1) / whole) * (0.5 + 0.5 * np.cos(np.pi * step / whole))
        mask = torch.ones(samples, 1, dtype=torch.bool)
        loss = model(**{name: part[rows] for name, part in drawn.items()}, pixel_attention_mask=mask).loss
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        losses = [*losses[1 - LOGGED:], loss.item()]
        if (step + 1) % LOGGED == 0:
            print(f"step {step + 1}: loss {np.mean(losses):.4f}", flush=True)
    model.eval().requires_grad_(False)
    return float(np.mean(losses))


def acted(policy, episodes: int) -> tuple[dict[str, np.ndarray], int]:
    """Frames of the episodes with the model acting in them, and how many it solved."""
    world = BulletWorld(load_profile(ROBOT), get_task(TASK), cameras=(recording.CAMERA,))
    frames, solved = [], 0
    for seed in range(FIRST_SEED, FIRST_SEED + episodes):
        begin(world, seed, plain=True)
        frames += roll_out(world, policy, seed, 2)
        solved += world.progress.success
    world.close()
    return {name: np.stack([f[name] for f in frames]) for name in recording.FIELDS}, solved


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for demonstrations and checkpoint")
    parser.add_argument("--episodes", type=at_least(1), default=20)
    parser.add_argument("--steps", type=at_least(ROUNDS), default=6000)
    parser.add_argument("--samples", type=at_least(1), default=32, help="a step")
    args = parser.parse_args()
    from vlm_samples import write_pi0
    torch.set_num_threads(1)
    since, profile, folder = time.time(), load_profile(ROBOT), args.out / "checkpoint"
    try:
        collect_plain(args.out / "demos", [TASK], args.episodes, PASSES, 1)
        frames = recording.load([args.out / "demos"])
        horizon = profile.action.horizon
        folder.mkdir(exist_ok=True)
        write_pi0(folder, vision=VISION, text=TEXT, expert={"hidden_size": 96}, horizon=horizon, steps=5,
                  **statistics(frames, horizon))
        policy = open_policy(str(folder), profile)
        optimiser = torch.optim.AdamW(policy.model.model.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.01)
        batches, solved = [tensors(policy, frames)], 0
        for number in range(ROUNDS):
            steps = range(args.steps * number // ROUNDS, args.steps * (number + 1) // ROUNDS)
            loss = train(policy, batches, steps, args.steps, args.samples, optimiser)
            policy.model.model.save_pretrained(folder)
            frames, solved = acted(policy, args.episodes)
            print(f"{solved} of {args.episodes} episodes done", flush=True)
            batches.append(tensors(policy, frames))
    except VlaError as error:
        print(f"bench/small_pi0: {error}", file=sys.stderr)
        return error.exit_code
    print(json.dumps({"bench": "small_pi0", "task": TASK, "episodes": args.episodes, "solved": solved, "loss": loss,
                      "parameters": sum(p.numel() for p in policy.model.model.parameters()),
                      "seconds": time.time() - since}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
