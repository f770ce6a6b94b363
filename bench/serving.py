"""Robots that share one `vla serve`: how many requests it answers in a second, and how long each robot waits.

    .venv/bin/python bench/serving.py --robot panda --clients 8 --requests 20

The server is a process of its own; the robots are threads here, each with a scene of its own, and ask again as soon as
they are answered. One robot alone, then all, which are inferred for in turn (--batch 1) or at once (--batch 8). Then,
without a server: what an image costs the model alone, and as one of as many at once.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from timing import figures

from vla_ros.bringup import THREADS
from vla_ros.cli import at_least
from vla_ros.errors import SimulationError, VlaError

WARM_UP = 3  # requests of each robot that do not count, images that do not
DEADLINE = 120  # [s] of a request
BATCH = 8


@contextmanager
def server(robot: str, clients: int, batch: int) -> Iterator[tuple[str, int]]:
    """Its address and process id, while it runs."""
    command = [sys.executable, "-m", "vla_ros.cli", "serve", "--policy", "native", "--robot", robot, "--port", "0",
               "--clients", str(clients), "--batch", str(batch)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        address = re.search(r"ws://\S+", process.stdout.readline())
        if address is None:
            raise SimulationError("the server did not start")
        yield f"{address[0]}?deadline={DEADLINE}", process.pid
        process.send_signal(signal.SIGINT)
        process.wait(DEADLINE)
    finally:
        process.kill()
        process.stdout.close()


def scenes(profile, count: int) -> list:
    """What `count` robots see, each at the beginning of an episode of its own."""
    from vla_ros.sim.bullet import BulletWorld
    world, made = BulletWorld(profile), []
    for seed in range(count):
        world.reset(seed)
        made.append(world.observe())
    world.close()
    return made


def asked(address: str, profile, seen: list, requests: int) -> dict:
    """Requests in a second of all robots together, and how long each waited [s]."""
    from vla_ros.policies import open_policy
    robots = [open_policy(address, profile) for _ in seen]

    def ask(robot, observation, count: int) -> list[float]:
        waits = []
        for _ in range(count):
            begin = time.perf_counter()
            robot.infer(observation)
            waits.append(time.perf_counter() - begin)
        return waits
    with ThreadPoolExecutor(len(seen)) as pool:
        list(pool.map(ask, robots, seen, [WARM_UP] * len(seen)))
        begin = time.perf_counter()
        waits = [wait for one in pool.map(ask, robots, seen, [requests] * len(seen)) for wait in one]
        seconds = time.perf_counter() - begin
    return {"requests_per_second": len(waits) / seconds, **figures(waits)}


def at_once(profile, seen: list, rounds: int) -> dict[str, float]:
    """[s] of the model's passes for one image: alone, and as one of all at once. Medians."""
    import numpy as np
    import torch

    from vla_ros.policies import open_policy
    torch.set_num_threads(1)  # as the server does
    policy = open_policy("native", profile)
    config = policy.model.config
    size, camera = config.image_size, policy.cameras[0]
    pixels = torch.from_numpy(np.stack([one.images[camera] for one in seen])).permute(0, 3, 1, 2).float() / 127.5 - 1
    text = torch.tensor([[policy.words.encode(seen[0].instruction)]]).expand(len(seen), -1, -1)

    def passes(first: int, last: int) -> None:
        sight, _ = policy.model.see(pixels[first:last], text[first:last])
        places = sight.look_logits[:, 0].argmax(-1)
        points = torch.full((*places.shape, 2), size / 2)
        tokens = policy.model.look.tokens(points, places).flatten(1)
        policy.model.act(sight.intent[:, 0], tokens, torch.zeros(last - first, len(config.proprio_low)))
    spent = {"alone": [], "together": []}
    with torch.inference_mode():
        for _ in range(WARM_UP + rounds):  # in turns: what else the machine does falls on both
            for name, batches in (("alone", [(i, i + 1) for i in range(len(seen))]), ("together", [(0, len(seen))])):
                begin = time.perf_counter()
                for first, last in batches:
                    passes(first, last)
                spent[name].append((time.perf_counter() - begin) / len(seen))
    return {name: figures(values[WARM_UP:])["p50"] for name, values in spent.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--robot", default="panda")
    parser.add_argument("--clients", type=at_least(1), default=8)
    parser.add_argument("--requests", type=at_least(1), default=20, help="of each robot")
    args = parser.parse_args()
    for name, value in THREADS.items():
        os.environ.setdefault(name, value)
    from vla_ros.profile import load_profile
    try:
        profile = load_profile(args.robot)
        seen = scenes(profile, args.clients)
        served = {}
        with server(args.robot, args.clients + 1, 1) as turns, server(args.robot, args.clients + 1, BATCH) as at_a_time:
            for name, (address, _), count in (("alone", turns, 1), ("in turn", turns, args.clients),
                                         ("at once", at_a_time, args.clients)):
                served[name] = {"robots": count, **asked(address, profile, seen[:count], args.requests)}
        image = at_once(profile, seen, args.requests)
    except VlaError as error:
        print(f"bench/serving: {error}", file=sys.stderr)
        return error.exit_code
    for name, found in served.items():
        print(f"{found['robots']} robots {name}: {found['requests_per_second']:.1f} requests/s, "
              f"p50 {1e3 * found['p50']:.0f} ms, "
              f"p95 {1e3 * found['p95']:.0f} ms")
    gain = image["alone"] / image["together"]
    batching = served["at once"]["requests_per_second"] / served["in turn"]["requests_per_second"]
    print(f"at once: {batching:.2f} times as many answers as in turn")
    print(f"the model, an image: {1e3 * image['alone']:.1f} ms alone, {1e3 * image['together']:.1f} ms as one of "
          f"{args.clients} at once: {gain:.2f} times as many")
    print(json.dumps({"bench": "serving", "robot": args.robot, "served": served, "batching": batching, "image": image,
                      "gain": gain}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
