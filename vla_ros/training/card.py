"""A checkpoint's card, written from its own files and from the scores that `vla eval` wrote, never by hand."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import safe_open

from vla_ros.errors import ConfigError
from vla_ros.sim.tasks import TASKS
from vla_ros.training.corrections import FIRST_SEED as CORRECTION_SEED
from vla_ros.training.corrections import ROUND_SEEDS
from vla_ros.training.demos import FIRST_SEED, STILL_OFFSET
from vla_ros.training.pipeline import SETTINGS_FILE

CARD = """\
# The {robot} checkpoint of vla_ros

A vision-language-action model for robot profile `{robot}`: one {size} x {size} image of camera `{camera}`,
proprioception ({proprio}) and an instruction in; {horizon} steps of {names} at {rate:.0f} Hz out, as action tokens
(256 bins a dimension over the 1 % and 99 % quantiles). {parameters:.2f} million parameters, {megabytes:.1f} MB.
Safetensors, made by this project from its own simulator; Apache-2.0.

## Data
Scripted experts of the simulator, no people and no outside data: per task family {stills} still scenes (seeds from
{still_seed}) and {episodes} disturbed episodes (seeds from {episode_seed}); {rounds} round(s) of the model's own
roll-outs, {own} episodes a family each, labelled by the expert (seeds from {own_seed}). Evaluation seeds count from 0:
none was trained on. Every image is labelled for several instructions, most of them not the one being carried out.

## Command
`vla train --config {config}` (stages: look {look} steps, act {act} steps, corrections {corrections} steps a round;
random seed {seed}). It simulates the data, trains, and leaves this checkpoint in `runs/{config}/checkpoint`.

## Scores
Closed loop, {clock} clock, evaluation seeds {first} to {last}, success by the task's own predicate, 95 % Wilson
intervals: `{command}`

| family | n | success | 95 % interval |
| --- | --- | --- | --- |
{rows}

## Limits
Only the scenes, words, colours and shapes of the simulator's task families. Words outside its vocabulary and objects
that it does not see are refused. One training seed. No real camera, no real robot.
"""


def card(folder: Path, scores: Path) -> str:
    """The text of a card for the checkpoint in `folder`, with its rows of a `vla eval --json` file."""
    for file in (folder / "config.json", folder / SETTINGS_FILE, scores):
        if not file.is_file():
            raise ConfigError(f"no {file}; a card needs a trained checkpoint and the JSON file of `vla eval`")
    config, settings, result = (json.loads(f.read_text())
                                for f in (folder / "config.json", folder / SETTINGS_FILE, scores))
    ours = {n: f for n, f in result["families"].items() if TASKS[n].robot == config["robot"]}
    rows = [f"| {n} | {f['n']} | {f['rate']:.1%} | {f['ci95'][0]:.1%} to {f['ci95'][1]:.1%} |" for n, f in ours.items()]
    weights = folder / "model.safetensors"
    with safe_open(weights, "np") as file:
        count = sum(file.get_tensor(key).size for key in file.keys())
    first, last = result["seeds"]
    spec, demos, corrections = config["action_spec"], settings["demos"], settings["corrections"]
    return CARD.format(
        robot=config["robot"], size=config["image_size"], camera=config["camera"],
        proprio=", ".join(config["proprio_names"]), horizon=spec["horizon"], names=", ".join(spec["names"]),
        rate=1 / spec["period"], parameters=count / 1e6, megabytes=weights.stat().st_size / 1e6,
        stills=demos["stills"], episodes=demos["episodes"], still_seed=FIRST_SEED + STILL_OFFSET,
        episode_seed=FIRST_SEED, rounds=corrections["rounds"], own=corrections["episodes"],
        own_seed=CORRECTION_SEED + ROUND_SEEDS, config=settings["robot"], look=settings["look"]["steps"],
        act=settings["act"]["steps"], corrections=corrections["steps"], seed=settings["seed"], clock=result["clock"],
        first=first, last=last, rows="\n".join(rows),
        command=f"vla eval --task all --episodes {last - first + 1} --seeds-from {first} --clock paused --json FILE")
