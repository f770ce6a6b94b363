"""From an observation to a chunk, for each kind of model that runs here: time, memory, and what we add to the model.

    .venv/bin/python bench/inference.py --rounds 10

Native as it ships; the others with random weights and the sizes below, for the time is the same whatever they have
learnt. Each in a process of its own, on one thread. Bare is the model's call alone, on inputs that are ready; both in
turn, so that they meet the same machine. For OpenVLA's architecture also: seven action words by our loop, by our loop
with a cache of fixed size, and by `generate` of transformers as the reference calls it, from the same embeddings; and
the one pass over patches and prompt that comes before the second word, which no way of decoding is spared.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from timing import figures

from vla_ros.bringup import THREADS
from vla_ros.cli import at_least

sys.path.append(str(Path(__file__).resolve().parent.parent / "test"))
WARM_UP = 2  # rounds that do not count
LLAMA = {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 12}
SIDE, PATCH = 224, 14
VISION = {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 12, "num_attention_heads": 6,
          "image_size": SIDE, "patch_size": PATCH}
CHUNK = 50  # steps, as pi0 has them
ONE_PASS = "the pass that gives the first word"


def native(folder: Path):
    import torch

    from vla_ros.policies import open_policy
    from vla_ros.profile import load_profile
    profile = load_profile("panda")
    policy, seen = open_policy("native", profile), look(profile)
    config = policy.model.config
    ids, pixels, body = policy._inputs(seen)
    points = torch.full((1, 3, 2), config.image_size / 2)

    @torch.inference_mode()
    def bare() -> None:
        sight, _ = policy.model.see(pixels[None], ids[None, None])
        tokens = policy.model.look.tokens(points, sight.look_logits[:, 0].argmax(-1)).flatten(1)
        policy.model.act(sight.intent[:, 0], tokens, body[None])
    return policy, seen, bare, policy.model, {}


def towers() -> dict:
    """Makes the samples' towers larger, and returns a language model's configuration that goes with them."""
    import openvla_samples as samples

    from vla_ros.openvla.configuration import Tower
    dino = Tower(PATCH, 384, 12, 6, 1536, SIDE, registers=4, placed=False, scaled=True)
    siglip = Tower(PATCH, 384, 12, 6, 1536, SIDE, class_token=False)
    samples.BACKBONES[samples.FUSED] = dino, siglip
    samples.MEANS |= {dino: samples.MEANS[samples.DINO], siglip: samples.MEANS[samples.SIGLIP]}
    return samples.config()["text_config"] | LLAMA


def openvla(folder: Path, dtype: str = "stored"):
    import openvla_samples as samples
    import torch

    from vla_ros.openvla.prompt import asked
    from vla_ros.policies import open_policy
    samples.write(folder, text_config=towers(), norm_stats={"all": samples.BRIDGE},
                  dtype=torch.float32 if dtype == "stored" else torch.bfloat16)
    profile = replace(seven(), action=replace(seven().action, horizon=1))
    options = f"unnorm_key=all&camera=front&period={profile.action.period}&dtype={dtype}"
    policy = open_policy(f"{folder}?{options}", profile)
    seen, model = look(profile), policy.checkpoint.model
    ids, _ = asked(seen.instruction, policy.checkpoint.config, policy.checkpoint.tokenizer, model.room)
    images = policy.checkpoint.images.read(seen.images["front"], policy.center_crop)
    ways = decoding(model, ids, images) if dtype in ("stored", "bfloat16") else {}
    return policy, seen, (lambda: model.say(ids, images, 7)), model, ways


def decoding(model, ids, images) -> dict[str, Callable[[], list[int]]]:
    """Seven words from the same embeddings, three ways."""
    import torch
    from transformers import DynamicCache, StaticCache
    llm = model.language_model
    with torch.inference_mode():
        embeds = model.embed(torch.tensor([ids]), [image[None].to(llm.dtype) for image in images])

    @torch.inference_mode()
    def ours(make) -> list[int]:
        cache, step, said = make(), embeds, []
        for _ in range(7):
            at = torch.arange(step.shape[1]) + (embeds.shape[1] + len(said) - 1 if said else 0)
            logits = llm(inputs_embeds=step, past_key_values=cache, use_cache=True, logits_to_keep=1,
                         cache_position=at).logits[0, -1]
            said.append(int(logits.argmax()))
            step = llm.get_input_embeddings()(torch.tensor([[said[-1]]]))
        return said

    @torch.inference_mode()
    def reference() -> list[int]:
        return llm.generate(inputs_embeds=embeds, max_new_tokens=7, min_new_tokens=7, do_sample=False,
                            attention_mask=torch.ones(embeds.shape[:2], dtype=torch.long))[0].tolist()
    @torch.inference_mode()
    def one_pass() -> list[int]:
        return [int(llm(inputs_embeds=embeds, use_cache=True, logits_to_keep=1).logits[0, -1].argmax())]
    room = embeds.shape[1] + 7
    return {ONE_PASS: one_pass, "ours": lambda: ours(lambda: DynamicCache(config=llm.config)),
            "ours, fixed cache": lambda: ours(lambda: StaticCache(config=llm.config, max_cache_len=room)),
            "generate": reference}


def llava(folder: Path):
    import vlm_samples as samples

    from vla_ros.policies import open_policy
    from vla_ros.profile import load_profile
    samples.TEXT |= LLAMA
    samples.VISION |= VISION
    samples.SIZE, samples.PATCH = SIDE, PATCH
    profile = load_profile("panda")
    policy, seen = open_policy(str(samples.write(folder)), profile), look(profile)
    inputs = policy.model.read(policy.description.prompt.format(instruction=seen.instruction),
                               [seen.images[name] for name in policy.description.images], policy.description.chat)
    words = policy.words
    return policy, seen, (lambda: policy.model.say(inputs, words.ids, words.most, words.end)), policy.model.model, {}


def pi0(folder: Path, going_on: bool = False):
    """going_on: from the chunk before, each time anew."""
    import torch
    import vlm_samples as samples

    from vla_ros.policies import open_policy
    from vla_ros.profile import load_profile
    from vla_ros.vlm import flow
    profile = load_profile("panda")
    samples.write_pi0(folder, vision=VISION, text=LLAMA | {"head_dim": 64}, horizon=CHUNK, steps=10,
                      expert={"hidden_size": 384, "intermediate_size": 1536}, actions_std=[0.002, 0.002, 0.002, 0.05])
    options = "?delay=0.3&execute_steps=20" if going_on else ""
    policy, seen = open_policy(f"{folder}{options}", profile), look(profile)
    images = [seen.images[name] for name in policy.meant.description.images.values()]
    state, model = policy.meant.request(seen, reset=False)["state"], policy.model
    asked, before = model.asked(seen.instruction, images, state, 0), None
    if going_on:
        policy.infer(seen)
        policy.reset = lambda: None
        later = seen.stamp + 2 * profile.action.period_ns
        seen = replace(seen, stamps=dict.fromkeys(seen.stamps, later))
        before = model.wanted(policy.before(seen))

    def bare():
        if before is None:
            return model.model.sample_actions(**asked)
        return flow.continued(model.model, before, **asked)
    return policy, seen, torch.no_grad()(bare), model.model, {}


def oft(folder: Path):
    import oft_samples
    import torch

    from vla_ros.openvla.oft import predict
    from vla_ros.openvla.prompt import asked
    from vla_ros.policies import open_policy
    from vla_ros.profile import load_profile
    text = towers()
    oft_samples.WIDTH = LLAMA["hidden_size"]
    profile, said = load_profile("panda"), oft_samples.SAID
    profile = replace(profile, action=replace(profile.action, **{name: tuple(said["action"][name])
                                                                 for name in ("names", "units")}))
    policy = open_policy(str(oft_samples.write(folder, text_config=text)), profile)
    seen, c = look(profile), policy.checkpoint
    ids, _ = asked(seen.instruction, c.config, c.tokenizer, policy.room)
    images = [c.images.read(seen.images[name], policy.center_crop) for name in policy.cameras_read]
    state = policy._state(seen)
    return policy, seen, torch.inference_mode()(lambda: predict(c.model, policy.parts, ids, images, state,
                                                                oft_samples.STEPS)), c.model, {}


KINDS = {"native": native, "pi0": pi0, "pi0 going on": partial(pi0, going_on=True), "oft": oft, "openvla": openvla,
         "openvla bfloat16": partial(openvla, dtype="bfloat16"), "openvla int8": partial(openvla, dtype="int8"),
         "openvla nf4": partial(openvla, dtype="nf4"), "llava": llava}


def seven():
    from rest_samples import SEVEN
    return SEVEN


def look(profile):
    from vla_ros.sim.bullet import BulletWorld
    world = BulletWorld(profile)
    world.reset(0)
    try:
        return world.observe()
    finally:
        world.close()


def measured(kind: str, rounds: int) -> dict:
    import torch
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        policy, seen, bare, model, ways = KINDS[kind](Path(folder))

        def whole():
            policy.reset()
            return policy.infer(seen)
        calls = {"whole": whole, "bare": bare, **ways}
        spent: dict[str, list[float]] = {name: [] for name in calls}
        answers = {}
        for _ in range(WARM_UP + rounds):
            for name, call in calls.items():
                begin = time.perf_counter()
                answers[name] = call()
                spent[name].append(time.perf_counter() - begin)
        assert not answers["whole"].refusal, answers["whole"].refusal
    found = {name: figures(times[WARM_UP:]) for name, times in spent.items()}
    added = np.subtract(spent["whole"][WARM_UP:], spent["bare"][WARM_UP:])
    stored = [*model.parameters(), *model.buffers()]
    return found | {"parameters": sum(one.numel() for one in model.parameters()),
                    "weights_mb": sum(one.nbytes for one in stored) / 2**20,
                    "memory_mb": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,
                    "added_ms": 1e3 * float(np.median(added)),
                    "added_share": float(np.median(added / np.array(spent["bare"][WARM_UP:]))),
                    "words": {name: answers[name] for name in ways}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=at_least(1), default=10)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    args = parser.parse_args()
    os.environ.update(THREADS)
    made = {}
    for kind in args.kinds:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            made[kind] = one = pool.apply(measured, (kind, args.rounds))
        print(f"{kind}: {one['parameters'] / 1e6:.0f} M numbers, {one['weights_mb']:.0f} MB of weights, "
              f"{one['memory_mb']:.0f} MB at the most; a chunk p50 "
              f"{1e3 * one['whole']['p50']:.1f} ms, p95 {1e3 * one['whole']['p95']:.1f} ms; added to the model "
              f"{one['added_ms']:.2f} ms ({100 * one['added_share']:.1f} %)", flush=True)
        for name in one["words"]:
            ratio = one["generate"]["p50"] / one[name]["p50"]
            same = one["words"][name] == one["words"]["generate"][:len(one["words"][name])]
            print(f"  {name}: p50 {1e3 * one[name]['p50']:.0f} ms, generate takes {ratio:.2f} times as long; the same "
                  f"words: {same}")
    print(json.dumps({"bench": "inference", "rounds": args.rounds, **made}))


if __name__ == "__main__":
    main()
