"""Does the model find what is named? By colour and shape, by where it stands, and by how it stands to a landmark.

    .venv/bin/python bench/names.py --policy native --scenes 100

The first look on layouts of family reach: found is what ends within --near pixels of the object that was named.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import defaultdict

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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--policy", default="native", help="native or a checkpoint's folder")
    parser.add_argument("--scenes", type=at_least(1), default=100)
    parser.add_argument("--seeds-from", type=at_least(0), default=0)
    parser.add_argument("--near", type=float, default=6.0, help="[px] (an object is about 12 px wide)")
    args = parser.parse_args()
    os.environ.update(THREADS)
    try:
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
