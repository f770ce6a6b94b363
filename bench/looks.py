"""The eyes or the hands? Closed loop with the model's own looks, and with the simulator's truth in their place.

    .venv/bin/python bench/looks.py --task all --episodes 20

own:    the native policy as it ships.
true:   the same instruction, proprioception and action expert, but target, reference and hand are where the world says
        they are in the image, to within --noise px; no image is read. What fails now, the look is not to blame for.
"""

from __future__ import annotations

import argparse
import json
import os
import sys

import numpy as np

from vla_ros.bringup import THREADS
from vla_ros.cli import at_least
from vla_ros.errors import VlaError
from vla_ros.evaluation.table import table


def knowing(policy, world, noise: float):
    """`policy` with the world's truth in place of its looks."""
    import torch

    from vla_ros.observing import proprioception
    from vla_ros.sim.world import SHAPES
    from vla_ros.types import ActionChunk, Observation
    rng = np.random.default_rng(0)

    class Knowing(type(policy)):
        cameras = ()

        def __init__(self):
            self.__dict__.update(vars(policy))

        def infer(self, observation: Observation) -> ActionChunk:
            state, scene, model = world.state, world.scene, self.model
            named = (scene.target, scene.reference)
            hand = np.zeros(3) if state.ee is None else state.ee
            points = np.array([*(state.objects[max(i, 0)] for i in named), hand])
            pixels = torch.tensor(world.pixels(model.config.camera, points) + rng.normal(0, noise, (3, 2)))
            there = torch.tensor([*(i >= 0 for i in named), state.ee is not None])
            place = torch.where(there, 0, model.config.grid**2 + 1)
            if there[2] and not ((pixels[2] >= 0) & (pixels[2] < model.config.image_size)).all():
                place[2] = model.config.grid**2  # the hand is out of view
            look = model.look.tokens(pixels, place).reshape(1, -1)
            shapes = torch.tensor([[SHAPES.index(scene.objects[i].shape) if i >= 0 else len(SHAPES) for i in named]])
            body = self.proprio.normalise(proprioception(observation, self.profile.kind))
            with torch.inference_mode():
                intent = model.intend(torch.tensor([self.words.encode(observation.instruction)]))
                logits = model.act(intent, look, torch.tensor(body, dtype=torch.float32)[None], shapes)[0]
            bins = logits.argmax(-1).numpy().reshape(self.spec.horizon, self.spec.dim)
            return ActionChunk(self.actions.unnormalise(self.bins.decode(bins)), self.spec, observation.stamp)

    return Knowing()


def measure(names: list[str], policy_name: str, episodes: int, first: int, noise: float) -> dict:
    import torch

    from vla_ros.evaluation.rollout import run_episode
    from vla_ros.policies import open_policy
    from vla_ros.profile import load_profile
    from vla_ros.sim.bullet import BulletWorld
    from vla_ros.sim.tasks import get_task
    torch.set_num_threads(1)
    solved = {}
    for name in names:
        task = get_task(name)
        profile = load_profile(task.robot)
        policy = open_policy(policy_name, profile)
        world = BulletWorld(profile, task, cameras=policy.cameras)
        seeds, ways = range(first, first + episodes), {"own": policy, "true": knowing(policy, world, noise)}
        solved[name] = {way: sum(run_episode(world, actor, seed, task).success for seed in seeds)
                        for way, actor in ways.items()}
        world.close()
    return {"policy": policy_name, "episodes": episodes, "seeds_from": first, "noise_px": noise, "solved": solved}


def main() -> int:
    from vla_ros.sim.tasks import TASKS
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", default="all", help="all, or families parted by commas")
    parser.add_argument("--policy", default="native")
    parser.add_argument("--episodes", type=at_least(1), default=20, help="a family and way")
    parser.add_argument("--seeds-from", type=int, default=0)
    parser.add_argument("--noise", type=float, default=0.5, help="[px] standard deviation of the true looks")
    args = parser.parse_args()
    os.environ.update(THREADS)  # before anything that counts its threads when it is loaded
    try:
        names = list(TASKS) if args.task == "all" else args.task.split(",")
        made = measure(names, args.policy, args.episodes, args.seeds_from, args.noise)
    except VlaError as error:
        print(f"bench/looks: {error}", file=sys.stderr)
        return error.exit_code
    print(table(("family", "own looks", "true looks", "of"), [
        (name, str(s["own"]), str(s["true"]), str(args.episodes)) for name, s in made["solved"].items()]))
    print(json.dumps({"bench": "looks", **made}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
