"""What every policy promises. A class below inherits these tests for each policy and robot that there is."""

import copy
import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from core_samples import HUSKY, PANDA, observation

from vla_ros.chunking import check_chunk
from vla_ros.cli import main
from vla_ros.errors import ActionError, CheckpointError, ConfigError, ObservationError, UnknownNameError, VlaError
from vla_ros.policies import kinds, open_policy
from vla_ros.policies.hold import HoldPolicy
from vla_ros.policies.replay import ReplayPolicy
from vla_ros.policy import Policy
from vla_ros.profile import load_profile
from vla_ros.spec import require_compatible
from vla_ros.types import Observation


def locked(made: Observation) -> Observation:
    """The same observation with images that cannot be written to."""
    for image in made.images.values():
        image.setflags(write=False)
    return made


class PolicyContract:
    """Subclasses give the fixtures `policy` and `profile`, and override `seen` where random images will not do.

    reads_images: False for those that name cameras only in order to be asked whenever a model would be.
    """

    reads_images = False

    @pytest.fixture
    def seen(self, profile) -> Observation:
        return locked(observation(profile, stamp=12_345_678_901))

    def test_is_a_policy(self, policy):
        assert isinstance(policy, Policy) and policy.name and isinstance(policy.cameras, tuple)

    def test_fits_its_robot(self, policy, profile):
        require_compatible(policy.spec, profile.action)
        assert set(policy.cameras) <= set(profile.cameras)

    def test_the_answer_is_about_its_observation(self, policy, seen):
        assert policy.infer(seen).stamp == seen.stamp

    def test_the_answer_is_a_chunk_that_a_robot_may_execute(self, policy, profile, seen):
        chunk = policy.infer(seen)
        check_chunk(chunk, profile.action)
        assert chunk.spec == policy.spec and 0 <= chunk.confidence <= 1
        assert chunk.values.shape == (0 if chunk.refusal else policy.spec.horizon, policy.spec.dim)
        assert chunk.tokens is None or np.shape(chunk.tokens) == chunk.values.shape
        assert all(np.isfinite(seconds) and seconds >= 0 for seconds in chunk.timings.values())

    def test_the_observation_is_left_as_it_was(self, policy, seen):
        before = copy.deepcopy(seen)
        policy.infer(seen)
        assert seen.joints == before.joints and seen.instruction == before.instruction and seen.stamps == before.stamps
        for name, image in before.images.items():
            np.testing.assert_array_equal(seen.images[name], image)

    def test_after_a_reset_the_same_is_answered_again(self, policy, seen):
        policy.reset()
        first = policy.infer(seen)
        policy.infer(seen)
        policy.reset()
        again = policy.infer(seen)
        np.testing.assert_array_equal(first.values, again.values)
        assert first.refusal == again.refusal

    def test_it_looks_at_no_other_camera_than_it_says(self, policy, seen):
        policy.reset()
        first = policy.infer(seen)
        policy.reset()
        only = Observation(**vars(seen) | {"images": {n: seen.images[n] for n in policy.cameras}})
        np.testing.assert_array_equal(first.values, policy.infer(only).values)

    def test_a_camera_that_it_needs_and_lacks_is_an_error(self, policy, seen):
        if self.reads_images:
            with pytest.raises(ObservationError, match=policy.cameras[0]):
                policy.infer(Observation(**vars(seen) | {"images": {}}))


ROBOTS = pytest.mark.parametrize("profile", [PANDA, HUSKY], ids=["panda", "husky"])


@ROBOTS
class TestHold(PolicyContract):
    @pytest.fixture
    def policy(self, profile):
        return HoldPolicy(profile)

    def test_nothing_moves(self, policy, profile, seen):
        values = policy.infer(seen).values
        moving = [i for i, name in enumerate(profile.action.names) if name != "gripper"]
        assert (values[:, moving] == 0).all()
        if profile.gripper:
            opening = values[0, profile.action.names.index("gripper")]
            assert opening == pytest.approx(seen.gripper / profile.gripper.open)


@ROBOTS
class TestReplay(PolicyContract):
    @pytest.fixture
    def policy(self, profile, tmp_path):
        values = np.random.default_rng(0).normal(size=(5, profile.action.horizon, profile.action.dim))
        file = str(tmp_path / "recording.npz")
        ReplayPolicy(values, profile.action, tuple(profile.cameras)).save(file)
        return open_policy(f"replay:{file}", profile)

    def test_it_plays_in_order_and_refuses_at_the_end(self, policy, seen):
        played = [policy.infer(seen) for _ in range(6)]
        np.testing.assert_array_equal([chunk.values for chunk in played[:5]], policy.chunks)
        assert "ended" in played[5].refusal

    def test_a_recording_of_another_robot_is_refused(self, profile, tmp_path):
        other = HUSKY if profile is PANDA else PANDA
        file = str(tmp_path / "other.npz")
        ReplayPolicy(np.zeros((1, 8, other.action.dim)), other.action, ()).save(file)
        with pytest.raises((ActionError, ConfigError)):
            open_policy(f"replay:{file}", profile)


@ROBOTS
class TestOracle(PolicyContract):
    @pytest.fixture
    def policy(self, profile):
        from vla_ros.sim.mock import MockWorld
        from vla_ros.sim.oracle import OraclePolicy
        world = MockWorld(profile)
        world.reset(0)
        return OraclePolicy(world)


@cache
def native(robot: str) -> Policy:
    return open_policy("native", load_profile(robot))


@ROBOTS
class TestNative(PolicyContract):
    """The shipped checkpoint, on scenes of its own world."""

    reads_images = True

    @pytest.fixture
    def policy(self, profile):
        try:
            return native(profile.name)
        except CheckpointError as error:
            if "no checkpoint ships" not in str(error):
                raise
            pytest.skip(str(error))

    @pytest.fixture
    def seen(self, profile):
        from vla_ros.sim.bullet import BulletWorld
        world = BulletWorld(profile)
        world.reset(0)
        seen = locked(world.observe())
        world.close()
        return seen

    def test_it_acts_and_times_its_stages(self, policy, seen):
        policy.reset()
        chunk = policy.infer(seen)
        assert not chunk.refusal and chunk.tokens is not None and chunk.timings

    def test_nonsense_and_nothing_are_refused(self, policy, seen):
        for words in ("colourless green ideas sleep furiously", "asdf qwer", ""):
            chunk = policy.infer(Observation(**vars(seen) | {"instruction": words}))
            assert chunk.refusal and len(chunk.values) == 0


@pytest.mark.parametrize("content", [b"", b"no recording", b"PK\x03\x04 torn", None], ids=str)
def test_a_file_that_is_no_recording(tmp_path, content):
    file = tmp_path / "bad.npz"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(CheckpointError, match="bad.npz"):
        open_policy(f"replay:{file}", PANDA)


@pytest.mark.parametrize("arrays", [{"chunks": np.zeros((1, 8, 4))}, {"names": ["dx"]},
                                    {"chunks": np.zeros(4), "names": list(PANDA.action.names)},
                                    {"chunks": np.zeros((1, 8, 3)), "names": list(PANDA.action.names)}], ids=str)
def test_a_recording_without_its_arrays(tmp_path, arrays):
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(CheckpointError, match="bad.npz"):
        open_policy(f"replay:{tmp_path / 'bad.npz'}", PANDA)


def test_policies_are_found_by_name():
    with pytest.raises(UnknownNameError, match="did you mean 'hold'"):
        open_policy("holld", PANDA)
    with pytest.raises(CheckpointError, match="no/such/folder"):
        open_policy("no/such/folder", PANDA)


# --- what there is --------------------------------------------------------------------------------------------------


def test_every_kind_says_what_it_needs_and_whether_it_can_run(capsys, monkeypatch):
    assert main(["policies", "--json"]) == 0
    rows = {row["policy"]: row for row in json.loads(capsys.readouterr().out)}
    assert set(rows) == {kind.form for kind in kinds.KINDS}
    assert rows["native"]["spec"]["names"] == list(PANDA.action.names) and not rows["native"]["hindrance"]
    assert rows["hold"]["spec"] == PANDA.action.to_dict() and rows["ws://HOST:PORT"]["spec"] is None
    monkeypatch.setattr(kinds, "find_spec", lambda name: None if name in ("msgpack", "torch") else object())
    assert main(["policies"]) == 0
    said = capsys.readouterr().out
    assert "no: lacks msgpack: pip install 'vla_ros[remote]'" in said and "no: lacks torch\n" in said
    assert "dx, dy, dz, gripper (delta, in panda_link0)" in said


def test_a_robot_without_a_checkpoint_has_no_native_policy():
    native = kinds.KINDS[0]
    assert "no checkpoint ships for robot 'other'" in native.hindrance(replace(PANDA, name="other"))
    assert kinds.spec_of(native, replace(PANDA, name="other")) is None


def test_each_kind_is_one_that_can_be_opened(tmp_path):
    """What a kind's form stands for reaches a loader: none is an unknown name."""
    for kind in kinds.KINDS:
        form = kind.form.replace("HOST:PORT", "nowhere:99999").replace("FILE", str(tmp_path / "none"))  # no such port
        form = form if kind.form in ("native", "hold") or ":" in form else f"{tmp_path}/{form}"
        try:
            open_policy(form, PANDA)
        except UnknownNameError as error:
            pytest.fail(f"{kind.form}: {error}")
        except VlaError:
            pass
