"""The nouns are frozen, and an observation is as old as its oldest part."""

import dataclasses

import numpy as np
import pytest
from core_samples import PANDA, chunk, joint_state, observation

from vla_ros import types
from vla_ros.types import JointState, Observation, frozen


def test_frozen_copies_and_locks():
    source = np.zeros(3)
    locked = frozen(source, np.float32)
    source[0] = 1.0
    assert locked[0] == 0.0 and locked.dtype == np.float32
    with pytest.raises(ValueError):
        locked[0] = 2.0


@pytest.mark.parametrize("name", ["Pose", "JointState", "Observation", "ActionChunk", "JointCommand", "TwistCommand"])
def test_nouns_are_frozen_dataclasses(name):
    noun = getattr(types, name)
    assert dataclasses.is_dataclass(noun) and noun.__dataclass_params__.frozen


def test_an_attribute_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        chunk(PANDA, [[0, 0, 0, 1]]).stamp = 5


def test_observation_is_as_old_as_its_oldest_part():
    stamps = {"joints": 70, "front": 40, "wrist": 90}
    made = Observation(images={}, joints=JointState({}, {}, 70), instruction="", stamps=stamps)
    assert made.stamp == 40


def test_sample_observation_carries_every_part():
    made = observation(PANDA, stamp=5)
    assert set(made.images) == set(PANDA.cameras) and set(made.stamps) == {"joints", *PANDA.cameras}
    assert made.joints == joint_state(PANDA, 5) and made.ee_pose.rotation.shape == (3, 3) and made.gripper > 0
