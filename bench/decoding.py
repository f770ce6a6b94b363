"""Decoding a chunk: all action tokens in one pass over what was read before, against slower ways to the same model.

    .venv/bin/python bench/decoding.py --robot panda --images 60

one pass:  the image and the words are read once and kept, then every action token is decoded at once: the policy's way.
anew:      the same, but all is read again for the actions; its tokens must be the same, one by one.
one by one: as autoregressive decoding calls the language model, once a token; for its time, as no weights were trained
           to decode so.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time

from timing import figures

from vla_ros.bringup import THREADS
from vla_ros.cli import at_least
from vla_ros.errors import VlaError
from vla_ros.evaluation.table import milliseconds, table

WARM_UP = 5  # images that do not count


def measure(robot: str, policy_name: str, count: int) -> dict:
    import torch

    from vla_ros.model import vocabulary as vocab
    from vla_ros.policies import open_policy
    from vla_ros.profile import load_profile
    from vla_ros.sim.bullet import BulletWorld
    torch.set_num_threads(1)
    profile = load_profile(robot)
    policy, spent, same, tokens = open_policy(policy_name, profile), {}, 0, 0
    model, world = policy.model, BulletWorld(profile, cameras=policy.cameras)

    def clock(name: str, begin: float) -> None:
        spent.setdefault(name, []).append(time.perf_counter() - begin)

    for seed in range(WARM_UP + count):
        if seed == WARM_UP:
            spent.clear()
        world.reset(seed)
        observation = world.observe()
        begin = time.perf_counter()
        policy.infer(observation)
        clock("policy, image in to actions out", begin)
        text = torch.tensor([[policy.words.encode(observation.instruction)]])
        pixels = torch.from_numpy(observation.images[policy.cameras[0]].copy()).permute(2, 0, 1)[None] / 127.5 - 1
        look, body = torch.full((1, 1, 6), vocab.NOWHERE), torch.zeros(1, len(policy.proprio.low))
        with torch.inference_mode():
            begin = time.perf_counter()
            sight, _ = model.see(pixels, text)
            fast = model.act(sight.intent[0], look[0], body)[0].argmax(-1)
            clock("one pass", begin)
            begin = time.perf_counter()
            model.see(pixels, text)
            plain = model(pixels, text, body, look)[1][0, 0].argmax(-1)
            clock("anew", begin)
            same, tokens = same + int((fast == plain).sum()), tokens + len(fast)
            begin = time.perf_counter()
            _, memory = model.see(pixels, text)
            for token in fast + vocab.ACTIONS:
                embedded = model.language.embed_tokens(token.view(1, 1))
                hidden = model.language(inputs_embeds=embedded, past_key_values=memory, use_cache=True)
                model.score(hidden.last_hidden_state, vocab.ACTIONS, vocab.WORDS).argmax(-1)
            clock("one by one", begin)
    world.close()
    return {"robot": robot, "policy": policy_name, "stages": {n: figures(s) for n, s in spent.items()},
            "tokens": tokens, "same_tokens": same}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--robot", default="panda")
    parser.add_argument("--policy", default="native")
    parser.add_argument("--images", type=at_least(1), default=60)
    args = parser.parse_args()
    os.environ.update(THREADS)  # before anything that counts its threads when it is loaded
    try:
        made = measure(args.robot, args.policy, args.images)
    except VlaError as error:
        print(f"bench/decoding: {error}", file=sys.stderr)
        return error.exit_code
    base = made["stages"]["one pass"]["p50"]
    print(table(("decoding", "p50", "p95", "times"), [
        (name, milliseconds(s["p50"]), milliseconds(s["p95"]), f"{s['p50'] / base:.2f}")
        for name, s in made["stages"].items()]))
    print(f"{made['same_tokens']} of {made['tokens']} tokens are the same, read once or anew")
    print(json.dumps({"bench": "decoding", **made}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
