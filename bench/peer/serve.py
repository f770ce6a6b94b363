"""Serves a checkpoint of ACT to `vla eval --policy ws://127.0.0.1:PORT`, as `vla serve` does one of ours.

    python bench/peer/serve.py --checkpoint RUN/checkpoint-130

Runs in the peer's environment, with the core of vla_ros beside it; see README.md.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import sys
import time
from pathlib import Path

import numpy as np
import torch
from act import IMAGE, STATE, WANTED, picture
from lerobot.configs.policies import PreTrainedConfig
from lerobot.policies.act.modeling_act import ACTPolicy
from lerobot.policies.factory import make_pre_post_processors

from vla_ros.commands.serve import serve
from vla_ros.errors import ObservationError, VlaError
from vla_ros.observing import proprioception
from vla_ros.profile import RobotProfile, load_profile
from vla_ros.remote.messages import metadata
from vla_ros.serving.engine import Engine
from vla_ros.serving.server import Door, Server
from vla_ros.sim.tasks import get_task
from vla_ros.sim.world import MOVABLE, OBJECT_COLOURS
from vla_ros.types import ActionChunk, Observation

FAMILY = "reach"
SEEDS = 1000  # of the evaluation, whose instructions are known


class ActPolicy:
    """ACT as a policy of ours. It reads no words: what each of the evaluation's instructions is about, it is told."""

    def __init__(self, folder: Path, profile: RobotProfile, seeds: int = SEEDS):
        config = PreTrainedConfig.from_pretrained(folder)
        self.act = ACTPolicy.from_pretrained(folder, config=config, local_files_only=True).eval()
        self.pre, self.post = make_pre_post_processors(config, pretrained_path=str(folder))
        self.name, self.spec, self.profile, self.cameras = "lerobot-act", profile.action, profile, ("front",)
        self.wanted = instructions(seeds)

    def infer(self, observation: Observation) -> ActionChunk:
        begin = time.perf_counter()
        wanted = self.wanted.get(observation.instruction)
        if wanted is None:
            raise ObservationError("instruction", "ACT reads no words, and this is no instruction of "
                                                  f"{FAMILY} in the evaluation's seeds: '{observation.instruction}'")
        state = proprioception(observation, self.profile.kind).astype(np.float32)
        seen = {IMAGE: picture(observation.images["front"]), STATE: torch.from_numpy(state),
                WANTED: torch.from_numpy(wanted)}
        values = self.post(self.act.predict_action_chunk(self.pre(seen)))[0].double().numpy()
        if "gripper" in self.spec.names:  # a fraction; a regression can miss it by a little
            at = self.spec.names.index("gripper")
            values[:, at] = values[:, at].clip(0.0, 1.0)
        return ActionChunk(values, self.spec, observation.stamp, timings={"act": time.perf_counter() - begin})

    def reset(self) -> None:
        """It remembers nothing: every observation gets a chunk of its own."""


def instructions(seeds: int) -> dict[str, np.ndarray]:
    """The truth about the evaluation's instructions: their target's shape and colour, one-hot as in training.

    From the scenes themselves, since some are named by where they are: the peer never misunderstands.
    """
    task, known = get_task(FAMILY), {}
    for seed in range(seeds):
        scene = task.layout(np.random.default_rng(seed))
        target = scene.objects[scene.target]
        one_hot = [target.shape == shape for shape in MOVABLE] + [target.colour == colour for colour in OBJECT_COLOURS]
        known.setdefault(scene.instruction, np.array(one_hot, np.float32))
    return known


def named(folder: Path) -> str:
    """With a digest of the weights, for reports."""
    return f"{folder.name}@{hashlib.sha256((folder / 'model.safetensors').read_bytes()).hexdigest()[:12]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, required=True, help="folder that train.py wrote")
    parser.add_argument("--port", type=int, default=8000)
    args = parser.parse_args()
    torch.set_num_threads(1)
    profile = load_profile("panda")
    policy = ActPolicy(args.checkpoint, profile)
    said = metadata(policy, profile, f"lerobot-act {named(args.checkpoint)}")
    try:
        asyncio.run(serve(Server(Engine(policy, profile), said, Door(port=args.port)), policy.name))
    except VlaError as error:
        print(f"bench/peer: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
