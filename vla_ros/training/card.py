"""A checkpoint's card, written from its own files and from the scores that `vla eval` wrote, never by hand."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from safetensors import safe_open

from vla_ros.errors import ConfigError
from vla_ros.evaluation.conditions import CONDITIONS
from vla_ros.evaluation.conditions import PLAIN as PLAIN_CONDITION
from vla_ros.evaluation.identity import digest
from vla_ros.evaluation.scores import percent
from vla_ros.evaluation.wilson import wilson
from vla_ros.paths import data_folder
from vla_ros.sim.tasks import TASKS
from vla_ros.sim.tasks.held_out import HELD_OUT_PAIRS
from vla_ros.training.corrections import FIRST_SEED as CORRECTION_SEED
from vla_ros.training.corrections import ROUND_SEEDS
from vla_ros.training.demos import (
    BRIGHTNESSES,
    DISPLACED,
    FIRST_SEED,
    HELD_OUT_OFFSET,
    HELD_OUT_STILLS,
    LIT,
    ODD_OFFSET,
    STILL_OFFSET,
    UNLIKE,
    UNSEEN,
)
from vla_ros.training.pipeline import SETTINGS_FILE, STAGES, load_settings

CARD = """\
# The {robot} checkpoint of vla_ros

A vision-language-action model for robot profile `{robot}`.

- In: one {size} x {size} image of camera `{camera}`, proprioception ({proprio}), and {asked}.
- Out: where it looks, whether it will do it, and {horizon} steps of {names} at {rate:.0f} Hz, as action tokens
  (256 bins a dimension over the 1 % and 99 % quantiles){replies}.
- {parameters:.2f} million parameters, {megabytes:.1f} MB of safetensors, made by this project from its own simulator;
  Apache-2.0.

## Data
Scripted experts of the simulator, no people and no outside data. Families: {families}.

- {stills} still scenes in all (seeds from {still_seed});{odd}
- {episodes} disturbed episodes a family (seeds from {episode_seed});
- {rounds} round(s) of the model's own roll-outs, {own} episodes a family each, labelled by the expert (seeds from
  {own_seed});
- {held_out} still scenes, for the measures below alone (seeds from {held_out_seed}).

{displaced:.0%} of the scenes are seen by a displaced camera, {lit:.0%} are under another light. Every image is labelled
for several instructions, most of them not the one being carried out. Evaluation seeds count from 0: none was trained
on. Never shown: {pairs}.

## Training
{command}, random seed {seed}:

{stages}
{notes}
## Measures
After each stage, on still scenes that nothing is trained on: recall@1 and @5 between the regions of objects and the
names of all kinds of object, looks that end within half a patch and their median error, verdicts{answers}; and how
many of 256 bins the action tokens are from the expert's, on average, in practice: states without images that the model
itself got into.

{measures}

## Scores
Closed loop, {clock} clock, evaluation seeds {first} to {last}, success by the task's own predicate, 95 % Wilson
intervals; checkpoint `{digest}`.

{scores}
{conditions}
## Limits
Only the scenes, words, colours and shapes of the simulator's task families, in English; one robot, one camera. It was
trained with one random seed. No real camera, no real robot.{silent}
"""
NOTES_FILE = "notes.md"  # beside the weights, by hand: in what their training was not what the recipe says
NAMES = {"retrieval": "retrieval, {}", "look": "look, {}", "verdict": "verdict '{}'", "questions": "questions, {}",
         "actions": "actions, {} [bins]"}


ODD = """
- {odd} still scenes of things without whole names (seeds from {seed}): shapes in colours that have no name, each at
  least {unlike} (RGB, 0 to 1) from every one that has, {unseen} from what is never shown on the shape, at {dark:g} to
  {bright:g} times its brightness; and pyramids, prisms, slabs and rods in all colours;"""


def card(folder: Path, scores: Path) -> str:
    """The text of a card for the checkpoint in `folder`, with its rows of a `vla eval --json` file.

    ConfigError where a file is missing or the scores are another checkpoint's.
    """
    for file in (folder / "config.json", folder / SETTINGS_FILE, scores):
        if not file.is_file():
            raise ConfigError(f"no {file}; a card needs a trained checkpoint and the JSON file of `vla eval`")
    config, settings, result = (json.loads(f.read_text())
                                for f in (folder / "config.json", folder / SETTINGS_FILE, scores))
    own = digest(folder)
    if f"@{own}" not in result["checkpoint"]:
        raise ConfigError(f"{scores} holds the scores of {result['checkpoint']}, but {folder} is {own}: evaluate it")
    asks = any(way.get("questions") for stage in STAGES for way in ways(settings, stage))
    return CARD.format(
        asked="an instruction or a question" if asks else "an instruction", digest=own,
        replies="; or the words of an answer" if asks else "", **model_facts(folder, config),
        **data_facts(config["robot"], settings), command=command(settings), seed=settings["seed"],
        stages=stage_table(settings), notes=notes(folder),
        answers=", and whole answers to questions by their kind" if asks else "",
        measures=measure_table(settings["measures"]), clock=result["clock"], first=result["seeds"][0],
        last=result["seeds"][1], scores=score_table(families(result["families"], config["robot"])),
        conditions=condition_part(result["conditions"], config["robot"]),
        silent="" if asks else " It was not trained to answer questions.")


def notes(folder: Path) -> str:
    file = folder / NOTES_FILE
    return f"\n{file.read_text().strip()}\n" if file.is_file() else ""


def model_facts(folder: Path, config: dict) -> dict:
    weights, spec = folder / "model.safetensors", config["action_spec"]
    with safe_open(weights, "np") as file:
        count = sum(file.get_tensor(key).size for key in file.keys())
    return {"robot": config["robot"], "size": config["image_size"], "camera": config["camera"],
            "proprio": ", ".join(config["proprio_names"]), "horizon": spec["horizon"],
            "names": ", ".join(spec["names"]), "rate": 1 / spec["period"], "parameters": count / 1e6,
            "megabytes": weights.stat().st_size / 1e6}


def data_facts(robot: str, settings: dict) -> dict:
    tasks = [name for name, task in TASKS.items() if task.robot == robot]
    return {"families": ", ".join(tasks),
            "stills": settings["demos"]["stills"], "still_seed": FIRST_SEED + STILL_OFFSET,
            "odd": odd_facts(settings["demos"].get("odd", 0)),
            "episodes": settings["demos"]["episodes"], "episode_seed": FIRST_SEED,
            "rounds": settings["corrections"]["rounds"], "own": settings["corrections"]["episodes"],
            "own_seed": CORRECTION_SEED + ROUND_SEEDS, "held_out": -(-HELD_OUT_STILLS // len(tasks)) * len(tasks),
            "held_out_seed": FIRST_SEED + HELD_OUT_OFFSET, "displaced": DISPLACED, "lit": LIT,
            "pairs": ", ".join(f"{colour} {shape}" for shape, colour in HELD_OUT_PAIRS)}


def odd_facts(count: int) -> str:
    return ODD.format(odd=count, seed=FIRST_SEED + ODD_OFFSET, unlike=UNLIKE, unseen=UNSEEN, dark=BRIGHTNESSES[0],
                      bright=BRIGHTNESSES[-1]) if count else ""


def command(settings: dict) -> str:
    """How to train it: by the name of the recipe that ships with just these settings, if one does."""
    recipe = {name: value for name, value in settings.items() if name not in ("base", "measures")}
    base = f" --base CHECKPOINT` (`@{settings['base']}`, see below)" if "base" in settings else "`"
    shipped = sorted(file.stem for file in (data_folder("config") / "training").glob("*.yaml"))
    name = next((name for name in shipped if load_settings(name) == recipe), None)
    return f"`vla train --config {name or 'FILE'}{base}" + ("" if name else f", FILE with what {SETTINGS_FILE} holds")


def ways(settings: dict, stage: str) -> list[dict]:
    """The settings of a stage: one, or as many as it is gone through in, or none."""
    found = settings.get(stage, [])
    return found if isinstance(found, list) else [found]


def stage_table(settings: dict) -> str:
    head = ("stage", "steps", "robots that practise", "images a batch", "instructions an image", "share of questions",
            "learning rate")
    rows = []
    for name, s in ((stage, way) for stage in STAGES for way in ways(settings, stage) if way.get("steps")):
        count = f"{s['rounds']} x {s['steps']}" if "rounds" in s else s["steps"]
        rows.append((name, count, s.get("practice", {}).get("robots", "-"),
                     *(s.get(key, "-") for key in ("images", "instructions", "questions")), s["learning_rate"]))
    return markdown(head, rows)


def measure_table(measures: dict[str, dict]) -> str:
    """A column a stage, in the order of the stages; a row a measure."""
    stages = sorted(measures, key=lambda name: (STAGES.index(name.split("-")[0]), name))
    keys = dict.fromkeys((group, name) for group in NAMES for made in map(measures.get, stages)
                         for name in made.get(group, ()))
    rows = [(NAMES[group].format(name.replace("_", " ")),
             *(shown(group, name, measures[stage].get(group, {}).get(name)) for stage in stages))
            for group, name in keys]
    return markdown(("measure", *stages), rows)


def shown(group: str, name: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if name.endswith("_px") or group == "actions" else percent(value)


def families(cells: dict[str, dict], robot: str) -> dict[str, dict]:
    return {name: cell for name, cell in cells.items() if TASKS[name].robot == robot}


def score_table(cells: dict[str, dict]) -> str:
    rows = [(name, cell["n"], percent(cell["rate"]), interval(*cell["ci95"])) for name, cell in cells.items()]
    return markdown(("family", "n", "success", "95 % interval"), rows)


def condition_part(conditions: dict[str, dict], robot: str) -> str:
    """A table of the robot's own episodes under each condition, where there are others than the plain one."""
    rows = []
    for name, cell in conditions.items():
        own = families(cell["families"], robot).values()
        n, won = sum(c["n"] for c in own), sum(c["successes"] for c in own)
        if n:
            rows.append((name, CONDITIONS[name].about, n, percent(won / n), interval(*wilson(won, n))))
    if [name for name, *_ in rows] in ([], [PLAIN_CONDITION]):
        return ""
    return f"\n{markdown(('condition', 'what is different', 'n', 'success', '95 % interval'), rows)}\n"


def interval(low: float, high: float) -> str:
    return f"{percent(low)} to {percent(high)}"


def markdown(head: Sequence[str], rows: Iterable[Sequence]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
