"""openpi's own servers do not say what their actions mean: a file does, and the same websocket is understood."""

import numpy as np
import pytest
from core_samples import PANDA, observation
from scipy.spatial.transform import Rotation

from vla_ros.errors import ConfigError, RemoteError
from vla_ros.policies import open_policy
from vla_ros.policies.hold import HoldPolicy
from vla_ros.policy import adapters_of

pytest.importorskip("aiohttp", reason="remote policies need it: pip install 'vla_ros[remote]'")
pytest.importorskip("msgpack", reason="remote policies need it: pip install 'vla_ros[remote]'")

from rest_samples import SEVEN, answering  # noqa: E402
from serving_samples import serving  # noqa: E402
from test_policies import PolicyContract  # noqa: E402
from test_rest import action, wrote  # noqa: E402

from vla_ros.remote.packing import pack, unpack  # noqa: E402

SEEN = observation(SEVEN, "do something", stamp=5)
STEPS = np.linspace(-0.01, 0.01, 14).reshape(2, 7)
REPLY = {"actions": STEPS, "server_timing": {"infer_ms": 3.0}, "policy_timing": {"infer_ms": 2.0}}


@pytest.fixture
def file(tmp_path):
    return wrote(tmp_path, action=action(horizon=2), images={"observation/image": "front"},
                 state={"observation/state": ["position", "axis_angle", "half_gap", "-half_gap"]})


class TestDescribed(PolicyContract):
    """A policy behind such a server promises what every policy does."""

    reads_images = True

    @pytest.fixture
    def profile(self):
        return SEVEN

    @pytest.fixture
    def policy(self, file, profile):
        with answering(pack(REPLY)) as made:
            yield made.talker(file, profile)


def test_it_is_asked_with_the_keys_of_the_file_and_its_answer_is_the_chunk(file):
    with answering(pack(REPLY)) as made:
        chunk = made.talker(file).infer(SEEN)
        said = unpack(made.asked[0][1])
    assert set(said) == {"observation/image", "observation/state", "prompt"} and said["prompt"] == "do something"
    np.testing.assert_array_equal(said["observation/image"], SEEN.images["front"])
    assert said["observation/state"].shape == (8,) and said["observation/state"][7] == np.float32(-0.015)
    np.testing.assert_array_equal(chunk.values, STEPS)
    assert chunk.stamp == 5 and chunk.timings["infer"] == 0.002 and "network" in chunk.timings


@pytest.mark.parametrize("reply, words", [
    ({"actions": STEPS[:1]}, r"shape \(1, 7\), its description says \(2, 7\)"),
    ({"actions": np.zeros((2, 32))}, r"shape \(2, 32\)"), ({"actions": STEPS * np.nan}, "not finite"),
    ({"actions": STEPS * 1e4}, "is more than"), ({"action": STEPS}, "array of numbers"), ([], "shape"),
    (b"error", "array of numbers")], ids=str)
def test_what_must_not_move_a_robot_is_refused(file, reply, words):
    with answering(pack(reply)) as made:
        with pytest.raises(RemoteError, match=words):
            made.talker(file).infer(SEEN)


def test_poses_in_another_frame_and_with_quaternions_become_steps(tmp_path):
    """A reply that says where the hand is now, in a frame turned by a quarter: no step at all."""
    said = {"absolute": True, "rotation": "quaternion", "frame": [0.0, 0.0, np.pi / 2],
            "order": [1, 2, 3, 4, 5, 6, 7, 0]}
    file = wrote(tmp_path, action=action(horizon=2), images={"image": "front"}, adapt=said)
    base, at = Rotation.from_rotvec(said["frame"]), SEEN.ee_pose
    there = [*base.inv().apply(at.position), *(base.inv() * Rotation.from_matrix(at.rotation)).as_quat()]
    with answering(pack({"actions": np.array([[1.0, *there]] * 2)})) as made:
        policy = made.talker(file)
        chunk = policy.infer(SEEN)
    np.testing.assert_allclose(chunk.values, [[0, 0, 0, 0, 0, 0, 1]] * 2, atol=1e-12)
    assert [told.split()[0] for told in adapters_of(policy)] == ["order", "quaternion", "frame", "poses"]
    with answering(pack({"actions": np.zeros((2, 8))})) as made:
        with pytest.raises(RemoteError, match="cannot be meant"):
            made.talker(file).infer(SEEN)


def test_without_a_file_the_error_says_that_one_helps():
    with answering(pack(REPLY)) as made:
        with pytest.raises(ConfigError, match=r"does not say what its actions mean: .*with \?spec=FILE"):
            open_policy(f"ws://127.0.0.1:{made.port}?deadline=60", SEVEN)


def test_a_file_does_not_overrule_what_a_server_says_of_itself(file):
    with serving(HoldPolicy(PANDA), PANDA) as made:
        with pytest.raises(ConfigError, match="says itself what its actions mean: leave spec=.* away"):
            made.client(f"?spec={file}&deadline=60")
