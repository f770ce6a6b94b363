"""A policy is warm before a robot waits for it, and has forgotten how it became so."""

from __future__ import annotations

import numpy as np
import pytest
from core_samples import ROBOTS

from vla_ros.errors import CheckpointError, ObservationError
from vla_ros.nodes.warming import warm_up
from vla_ros.policies import open_policy
from vla_ros.policies.hold import HoldPolicy
from vla_ros.policies.replay import ReplayPolicy


@pytest.mark.parametrize("profile", ROBOTS.values(), ids=ROBOTS)
def test_every_policy_of_every_robot_can_be_warmed(profile):
    for name in ("hold", "native"):
        warm_up(open_policy(name, profile), profile)


@pytest.mark.parametrize("profile", ROBOTS.values(), ids=ROBOTS)
def test_a_recording_begins_at_its_beginning(profile):
    shape = (2, profile.action.horizon, profile.action.dim)
    policy = ReplayPolicy(np.zeros(shape), profile.action, tuple(profile.cameras))
    warm_up(policy, profile)
    assert policy._next == 0


@pytest.mark.parametrize("raised, expected, words", [
    (RuntimeError("out of memory"), CheckpointError, "policy 'hold' cannot infer: RuntimeError: out of memory"),
    (ObservationError("size", "another size"), ObservationError, "another size")])
def test_a_policy_that_cannot_infer_says_why(monkeypatch, raised, expected, words):
    def fail(self, observation):
        raise raised
    monkeypatch.setattr(HoldPolicy, "infer", fail)
    profile = ROBOTS["panda"]
    with pytest.raises(expected, match=words):
        warm_up(HoldPolicy(profile), profile)
