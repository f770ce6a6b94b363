"""A vision-language model with random weights drives the simulated arm: no limit is broken, and it does move."""

import sys
from pathlib import Path

import pytest
import vlm_samples as samples
from core_samples import PANDA

from vla_ros.control import Controller
from vla_ros.evaluation.rollout import displacement, run_episode
from vla_ros.policies import open_policy
from vla_ros.sim.bullet import BulletWorld
from vla_ros.sim.tasks import get_task

sys.path.append(str(Path(__file__).parent / "faults"))
from adversary import ArmLimits  # noqa: E402


@pytest.mark.parametrize("write", [samples.write, lambda folder: samples.write_qwen(folder, "qwen2_5_vl")],
                         ids=["llava", "qwen2.5-vl"])
def test_it_drives_the_arm_within_its_limits(write, tmp_path):
    folder = write(tmp_path)
    samples.described(folder, action=dict(samples.DESCRIPTION["action"], horizon=8), least=0.0)
    policy = open_policy(str(folder), PANDA)
    world, controller, broken, ways = BulletWorld(PANDA, cameras=policy.cameras), Controller(PANDA), [], []
    limits = ArmLimits(controller, broken.append)

    def step(world, tick):
        ways.append(displacement(begin, world.state))
        if tick.command is not None:
            limits.check(tick.command)

    try:
        world.reset(0, get_task("reach"))
        begin = world.state
        outcome = run_episode(world, policy, 0, get_task("reach"), on_step=step, controller=controller)
    finally:
        world.close()
    assert outcome.ending in ("time", "success"), outcome.detail
    assert broken == [] and max(ways) > 0.02  # [m]
    assert 0.1 < limits.most["velocity"] <= 1 + 1e-9
