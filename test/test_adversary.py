"""A short run of test/faults/adversary.py: nothing that a hostile policy sends breaks a limit."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from core_samples import HUSKY, PANDA, SMOOTH

sys.path.append(str(Path(__file__).parent / "faults"))
from adversary import Attack  # noqa: E402

ROBOTS = {"panda": PANDA, "panda with limits of motion": SMOOTH, "husky": HUSKY,
          "panda by velocity": replace(SMOOTH, command=replace(SMOOTH.command, interface="velocity"))}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("robot", ROBOTS)
def test_a_hostile_policy_breaks_no_limit(robot):
    attack = Attack(ROBOTS[robot], seed=1)
    attack.run(2000)
    assert attack.violations == {}
    assert attack.seen["commands"] > 1500 and attack.seen["refused: finite"] > 10 and attack.seen["resets"] > 0
    assert min(attack.limits.most[name] for name in ("velocity", "acceleration") if name in attack.limits.most) > 0.9
