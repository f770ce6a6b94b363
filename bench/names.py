"""Does the model find what is named? By colour and shape, by where it stands, and by how it stands to a landmark.

    .venv/bin/python bench/names.py --policy native --scenes 100
    .venv/bin/python bench/names.py --policy native --scenes 100 --pairs
    .venv/bin/python bench/names.py --scores checkpoints/scores_panda.json

The first look on layouts of family reach: found is what ends within --near pixels of the object that was named. With
--pairs the target is a colour on a shape that training never showed: is it found, and is 'there' likelier than 'not
there'; and of 'the blue one' for all colours, of 'the cone' for all shapes, does what it is fit its patch best? With
--scores no model is asked: the episodes that `vla eval` wrote are parted by how their instructions name the object.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from vla_ros.bringup import THREADS
from vla_ros.cli import at_least
from vla_ros.errors import VlaError
from vla_ros.evaluation.table import table


def names_of(rng: np.random.Generator, kinds, positions: np.ndarray, index: int) -> dict[str, str]:
    """A name of each kind that the object has."""
    from vla_ros.referring import by_kind, by_place
    from vla_ros.synonyms import one_of
    whole, extreme, relative = by_kind(kinds, index)[0], *by_place(kinds, positions, index)
    groups = {"colour and shape": whole, "where it stands": [phrase.text for phrase in extreme],
              "a landmark": [phrase.text for phrase in relative]}
    return {kind: one_of(rng, group) for kind, group in groups.items() if group}


def measure(policy_name: str, scenes: int, first: int, near: float) -> dict[str, list[bool]]:
    import torch

    from vla_ros.policies import open_policy
    from vla_ros.profile import load_profile
    from vla_ros.sim.bullet import BulletWorld
    from vla_ros.sim.tasks import get_task
    from vla_ros.sim.world import MOVABLE
    profile, found = load_profile("panda"), defaultdict(list)
    policy, rng = open_policy(policy_name, profile), np.random.default_rng(first)
    camera = policy.model.config.camera
    world = BulletWorld(profile, get_task("reach"), cameras=(camera,))
    for seed in range(first, first + scenes):
        world.reset(seed)
        things = world.scene.objects
        kinds, places = [(o.shape, o.colour) for o in things], np.array([o.position for o in things])
        pixels, image = world.pixels(camera, places), policy._pixels(world.observe().images[camera])
        for index, thing in enumerate(things):
            if thing.shape not in MOVABLE:
                continue
            for kind, name in names_of(rng, kinds, places[:, :2], index).items():
                with torch.inference_mode():
                    text = torch.tensor([[policy.words.encode(f"touch the {name}")]])
                    sight, _ = policy.model.see(image, text)
                    place = sight.look_logits[0, 0].argmax(-1)
                    there = place[None, None].clamp(max=policy.model.config.grid**2 - 1)
                    point = policy.model.look.point(sight.patches, sight.query, there)[0, 0, 0].numpy()
                seen = int(place[0]) < policy.model.config.grid**2
                found[kind].append(seen and float(np.linalg.norm(point - pixels[index])) <= near)
    world.close()
    return dict(found)


def pairs(policy_name: str, scenes: int, first: int) -> dict[str, dict[str, list[bool]]]:
    """By held-out pair: whether its patch is the best one, whether it is there, whether its colour, its shape fit."""
    import torch

    from vla_ros.evaluation.scenes import unseen_pair
    from vla_ros.policies import open_policy
    from vla_ros.profile import load_profile
    from vla_ros.sim.bullet import BulletWorld
    from vla_ros.sim.tasks import get_task
    from vla_ros.sim.world import MOVABLE, OBJECT_COLOURS
    profile, task = load_profile("panda"), get_task("reach")
    policy, found = open_policy(policy_name, profile), defaultdict(lambda: defaultdict(list))
    config = policy.model.config
    world = BulletWorld(profile, task, cameras=(config.camera,))
    for seed in range(first, first + scenes):
        rng = np.random.default_rng(seed)
        scene = unseen_pair(task.layout(rng), task.name, rng)
        world.lay_out(scene)
        thing = scene.objects[scene.target]
        names = [thing.words, *(f"{colour} one" for colour in OBJECT_COLOURS), *MOVABLE]
        with torch.inference_mode():
            text = torch.tensor([[policy.words.encode(f"touch the {name}") for name in names]])
            sight, _ = policy.model.see(policy._pixels(world.observe().images[config.camera]), text)
        logits, patches = sight.look_logits[0, :, 0], config.grid**2
        across, down = (world.pixels(config.camera, np.array([thing.position]))[0] // config.patch_size).astype(int)
        here, best = down * config.grid + across, int(logits[0, :patches].argmax())
        colours, shapes = logits[1:1 + len(OBJECT_COLOURS), here], logits[1 + len(OBJECT_COLOURS):, here]
        for kind in (thing.words, "all"):
            found[kind]["its patch is the best"].append(
                max(abs(best // config.grid - down), abs(best % config.grid - across)) <= 1)
            found[kind]["is there"].append(bool(logits[0, best] > logits[0, patches]))
            found[kind]["colour"].append(OBJECT_COLOURS[int(colours.argmax())] == thing.colour)
            found[kind]["shape"].append(MOVABLE[int(shapes.argmax())] == thing.shape)
    world.close()
    return found


def parted(file: Path) -> list[tuple[str, str, int, int]]:
    """Family, kind of name, n and successes of the plain episodes in a file of scores."""
    from vla_ros.referring import by_place
    from vla_ros.sim.tasks import TASKS
    from vla_ros.sim.tasks.wordings import SPATIAL
    tally = defaultdict(list)
    for episode in json.loads(file.read_text())["episodes"]:
        if episode["task"] not in SPATIAL or episode["condition"] != "plain":
            continue
        scene = TASKS[episode["task"]].layout(np.random.default_rng(episode["seed"]))
        kinds, positions = zip(*(((o.shape, o.colour), o.position[:2]) for o in scene.objects), strict=True)
        places = by_place(kinds, np.array(positions), scene.target)
        placed = any(phrase.text in episode["instruction"] for group in places for phrase in group)
        tally[episode["task"], "place" if placed else "colour or shape"].append(episode["success"])
    return [(task, kind, len(won), sum(won)) for (task, kind), won in sorted(tally.items())]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--policy", default="native", help="native or a checkpoint's folder")
    parser.add_argument("--scenes", type=at_least(1), default=100)
    parser.add_argument("--seeds-from", type=at_least(0), default=0)
    parser.add_argument("--pairs", action="store_true", help="of what training never showed together")
    parser.add_argument("--scores", type=Path, metavar="FILE", help="part the episodes of this file instead")
    parser.add_argument("--near", type=float, default=6.0, help="[px] (an object is about 12 px wide)")
    args = parser.parse_args()
    if args.scores:
        rows = parted(args.scores)
        print(table(("family", "named by", "n", "successes"), rows))
        print(json.dumps({"bench": "names", "scores": str(args.scores), "parted": rows}))
        return 0
    os.environ.update(THREADS)
    try:
        if args.pairs:
            rates = {name: {part: float(np.mean(hits)) for part, hits in parts.items()} | {"n": len(parts["is there"])}
                     for name, parts in sorted(pairs(args.policy, args.scenes, args.seeds_from).items())}
            parts = [part for part in rates["all"] if part != "n"]
            print(table(("pair", "n", *parts), [(name, of["n"], *(f"{100 * of[part]:.0f} %" for part in parts))
                                                for name, of in rates.items()]))
            print(json.dumps({"bench": "names", "policy": args.policy, "seeds_from": args.seeds_from, "pairs": rates}))
            return 0
        found = measure(args.policy, args.scenes, args.seeds_from, args.near)
    except VlaError as error:
        print(f"names.py: {error}", file=sys.stderr)
        return error.exit_code
    rows = [(kind, len(hits), f"{100 * np.mean(hits):.1f} %") for kind, hits in found.items()]
    print(table(("named by", "n", "found"), rows))
    seeds = [args.seeds_from, args.seeds_from + args.scenes - 1]
    print(json.dumps({"bench": "names", "policy": args.policy, "seeds": seeds,
                      "found": {kind: {"n": len(hits), "rate": float(np.mean(hits))} for kind, hits in found.items()}}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
