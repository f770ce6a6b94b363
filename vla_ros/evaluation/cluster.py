"""The same episodes over a Ray cluster: the one that RAY_ADDRESS names, or one of this machine's processes.

On a cluster of several machines the package has to be installed on each, as Ray itself has to be.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from vla_ros.bringup import THREADS
from vla_ros.errors import ConfigError, SimulationError
from vla_ros.evaluation.evaluate import USUAL, Episode, Options


def require_ray():
    """The module, or ConfigError."""
    try:
        import ray
    except ImportError as error:
        raise ConfigError("--engine ray needs Ray: pip install 'vla_ros[ray]'") from error
    return ray


def spread(call: Callable, todo: Sequence[Episode], policy: str, jobs: int, options: Options = USUAL) -> Iterator:
    """As evaluate.spread, from at most `jobs` Ray workers with one CPU and one thread each."""
    ray = require_ray()
    with cluster(ray, jobs):
        remote = ray.remote(num_cpus=1, max_retries=0)(call)
        waiting, running = list(reversed(todo)), []
        try:
            while waiting or running:
                while waiting and len(running) < jobs:  # the queue stays here, so that an interruption ends at once
                    running.append(remote.remote(policy, waiting.pop(), options))
                done, running = ray.wait(running)
                yield from ray.get(done)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except ray.exceptions.RayError as error:
            raise SimulationError(f"Ray lost a worker: {error}") from error


@contextmanager
def cluster(ray, jobs: int) -> Iterator[None]:
    """Connected to Ray; a local one is started for it, and ends with it."""
    address = os.environ.get("RAY_ADDRESS", "local")
    own = {"num_cpus": jobs, "include_dashboard": False} if address == "local" else {}
    ray.init(address=address, runtime_env={"env_vars": THREADS}, log_to_driver=False, **own)
    try:
        yield
    finally:
        ray.shutdown()
