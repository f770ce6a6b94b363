"""Small random checkpoints that LeRobot itself writes: our chunks are those of its own loop.

LEROBOT_PYTHON is the interpreter of an environment with lerobot, aiohttp and msgpack, as docs/lerobot.md makes it.
"""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from core_samples import PANDA

from vla_ros.lerobot.options import PYTHON
from vla_ros.policies import open_policy
from vla_ros.types import JointState, Observation, Pose

KINDS = ("act", "diffusion")
SIDE = 128  # [px]

pytestmark = pytest.mark.skipif(PYTHON not in os.environ, reason=f"{PYTHON} names no environment with LeRobot")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("lerobot")
    script = Path(__file__).parent / "lerobot_samples.py"
    subprocess.run([os.environ[PYTHON], script, "--out", made, "--kinds", *KINDS], check=True, capture_output=True)
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_a_chunk_is_that_of_lerobots_own_loop(folder, kind):
    policy = open_policy(f"lerobot:{folder / kind}?deadline=60", PANDA)
    image = (np.arange(SIDE * SIDE * 3, dtype=np.int64).reshape(SIDE, SIDE, 3) % 251).astype(np.uint8)
    hand = Pose(np.array([0.5, 0.1, 0.3]), np.eye(3))
    seen = Observation({"front": image}, JointState({}, {}, 0), "touch the red cube", {"front": 0}, hand, 0.04)
    chunk = policy.infer(seen)
    assert policy.name == f"lerobot:{kind}"
    assert np.allclose(chunk.values, np.load(folder / kind / "expected.npy"), atol=1e-6)
