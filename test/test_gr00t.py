"""GR00T's server, over real sockets: what it says is understood, and what must not move a robot does not."""

import io
import pickle
from dataclasses import replace

import numpy as np
import pytest
from core_samples import observation

from vla_ros.errors import ConfigError, RemoteError, UnknownNameError
from vla_ros.policies import open_policy
from vla_ros.remote.address import TOKEN

for needed in ("zmq", "aiohttp", "msgpack"):
    pytest.importorskip(needed, reason="remote policies need it: pip install 'vla_ros[remote]'")

from gr00t_samples import GR00T, actions, configs, modality, npy, serving  # noqa: E402
from rest_samples import SEVEN  # noqa: E402
from test_policies import PolicyContract  # noqa: E402

from vla_ros.remote.npy import HEADER, pack, unpack  # noqa: E402

SEEN = observation(SEVEN, "touch the red cube", stamp=12_345_678_901)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "gr00t.yaml"
    path.write_text(GR00T)
    return path


class TestGr00t(PolicyContract):
    """A policy behind such a server promises what every policy does."""

    reads_images = True

    @pytest.fixture
    def profile(self):
        return SEVEN

    @pytest.fixture
    def policy(self, file, profile):
        with serving() as made:
            yield made.client(file, profile)


def test_the_request_has_the_batch_and_the_moment_of_all_that_is_seen_and_said(file):
    with serving() as made:
        chunk = made.client(file).infer(SEEN)
        config, reset, action = made.asked
    np.testing.assert_allclose(chunk.values, [[0.01] * 6 + [1.0]] * 2, atol=1e-7)
    assert chunk.stamp == SEEN.stamp and chunk.timings["infer"] > 0
    assert config == {"endpoint": "get_modality_config"} and reset == {"endpoint": "reset", "data": {"options": None}}
    seen = action["data"]["observation"]
    assert seen["language"] == {"task": [["touch the red cube"]]}
    sent = {key: np.load(io.BytesIO(value["as_npy"])) for key, value in (seen["video"] | seen["state"]).items()}
    np.testing.assert_array_equal(sent["front"], SEEN.images["front"][None, None])
    assert sent["front"].dtype == np.uint8 and sent["arm"].dtype == sent["gripper"].dtype == np.float32
    np.testing.assert_allclose(sent["arm"], [[list(SEVEN.home)]], atol=1e-6)
    np.testing.assert_allclose(sent["gripper"], [[[SEEN.gripper]]], atol=1e-6)


def test_an_episode_begins_with_a_reset_and_has_no_other(file):
    with serving() as made:
        policy = made.client(file)
        for _ in range(2):
            policy.reset()
            policy.infer(SEEN)
            policy.infer(SEEN)
    assert [r["endpoint"] for r in made.asked[1:]] == 2 * ["reset", "get_action", "get_action"]


def test_actions_are_put_together_in_the_order_that_the_server_says(file):
    turned = configs(action=modality(["gripper", "hand"], 2))
    with serving(configured=turned) as made, pytest.raises(RemoteError, match="dx of 1 m is more"):
        made.client(file).infer(SEEN)


WRONG = {
    "an error": ({"error": "CUDA out of memory\n at line 3"}, "it answers: CUDA out of memory at line 3"),
    "no msgpack": (b"\xc1", "not a message of msgpack"), "nothing": (b"", "not a message of msgpack"),
    "text": (["fine"], "it answers no actions hand, gripper"), "null": (b"\xc0", "no actions"),
    "one is missing": ([{"hand": npy(np.zeros((1, 2, 6)))}, {}], "no actions"),
    "three steps": ([actions()[0] | {"hand": npy(np.zeros((1, 3, 6)))}, {}], r"\(1, 3, 6\).*one batch and 2 steps"),
    "two robots": ([actions()[0] | {"hand": npy(np.zeros((2, 2, 6)))}, {}], "one batch"),
    "no batch": ([actions()[0] | {"hand": npy(np.zeros((2, 6)))}, {}], "one batch"),
    "five numbers": ([actions()[0] | {"hand": npy(np.zeros((1, 2, 5)))}, {}], r"shape \(2, 6\), its description says"),
    "texts": ([actions()[0] | {"hand": npy(np.full((1, 2, 6), "a"))}, {}], "none of plain numbers"),
    "truth values": ([actions()[0] | {"hand": npy(np.zeros((1, 2, 6), bool))}, {}], "must be numbers"),
    "a list": ([actions()[0] | {"hand": [[[0.0] * 6] * 2]}, {}], None),
    "NaN": (actions(hand=np.nan), "not finite"), "infinite": (actions(hand=np.inf), "not finite"),
    "millimetres": (actions(hand=10), "dx of 10 m is more"),
    "a pickle": ([{"hand": {"__ndarray_class__": True, "as_npy": pickle.dumps(np.zeros((1, 2, 6)))}}, {}], "magic"),
    "objects": ([{"hand": {"__ndarray_class__": True, "as_npy": b"\x93NUMPY\x01\x00\x46\x00" + (
        b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }").ljust(69) + b"\n"}}, {}], "none of plain numbers"),
    "a header of a terabyte": ([{"hand": {"__ndarray_class__": True, "as_npy": b"\x93NUMPY\x01\x00\x56\x00" + (
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 250000000000,), }").ljust(85) + b"\n"}}, {}],
        "cannot reshape"),
    "a long header": ([{"hand": {"__ndarray_class__": True, "as_npy": b"\x93NUMPY\x01\x00\x00\x10" + b" " * 4096}}, {}],
                      f"{HEADER}|large"),
}


@pytest.mark.parametrize("answer, words", WRONG.values(), ids=WRONG)
def test_what_must_not_move_a_robot_is_an_error_of_one_line(file, answer, words):
    with serving(answer) as made:
        policy = made.client(file)
        if words is None:
            assert not policy.infer(SEEN).values[:, :6].any(), "a list of numbers is as good"
            return
        with pytest.raises(RemoteError, match=words) as raised:
            policy.infer(SEEN)
        assert f"gr00t://127.0.0.1:{made.port}: " in str(raised.value) and "\n" not in str(raised.value)
        made.answer, policy.link._next = actions(), 0.0
        assert len(policy.infer(SEEN).values) == 2, "and it goes on"


def test_an_answer_that_comes_too_late_is_never_taken_for_the_next_ones(file):
    with serving() as made:
        policy = made.client(file)
        policy.infer(SEEN)
        made.answer, policy.link.deadline = b"", 0.3
        made._said = lambda request: None
        with pytest.raises(RemoteError, match="no answer within 0.3 s"):
            policy.infer(SEEN)
        with pytest.raises(RemoteError, match="is away .*asked again in"):
            policy.infer(SEEN)
        count, made.answer, policy.link.deadline, policy.link._next = len(made.asked), actions(hand=0.02), 60, 0.0
        del made._said
        assert policy.infer(SEEN).values[0, 0] == pytest.approx(0.02)
        assert [r["endpoint"] for r in made.asked[count:]] == ["get_modality_config", "get_action"]


def test_a_server_that_is_another_after_it_was_away_moves_nothing(file):
    with serving() as made:
        policy, port = made.client(file), made.port
        policy.infer(SEEN)
    policy.link.deadline = 0.3
    with pytest.raises(RemoteError, match="no answer within"):
        policy.infer(SEEN)
    policy.link.deadline, policy.link._next = 60, 0.0
    with serving(port=port, configured=configs(action=modality(["gripper", "hand"], 2))):
        with pytest.raises(RemoteError, match="came back as another policy"):
            policy.infer(SEEN)
        policy.link._next = 0.0
        with pytest.raises(RemoteError, match="came back as another policy"):
            policy.infer(SEEN)
    policy.link._next = 0.0
    with serving(port=port):
        assert len(policy.infer(SEEN).values) == 2


def test_the_token_is_said_and_a_wrong_one_is_refused_at_once(file, monkeypatch):
    with serving(token="secret") as made:
        with pytest.raises(RemoteError, match="Unauthorized"):
            made.client(file)
        monkeypatch.setenv(TOKEN, "secret")
        assert len(made.client(file).infer(SEEN).values) == 2


@pytest.mark.parametrize("changes, error, words", [
    ({"video": modality(["front", "wrist"])}, ConfigError, "wants video wrist, which .*gr00t.yaml lacks"),
    ({"video": modality(["head"])}, UnknownNameError, "video of gr00t://.* 'front'.*head"),
    ({"state": modality(["arm"])}, UnknownNameError, "state of gr00t://.* 'gripper'"),
    ({"video": modality(["front"], 2)}, ConfigError, "wants 2 moments of each video"),
    ({"language": modality(["a", "b"])}, ConfigError, "reads 2 instructions at once"),
    ({"action": modality(["hand", "gripper"], 16)}, ConfigError, "says 16 steps at once, .*gr00t.yaml 2"),
    ({"action": None}, RemoteError, "does not say what its action is"), ({"state": {}}, RemoteError, "its state is")])
def test_what_does_not_fit_the_server_is_said_before_the_first_motion(file, changes, error, words):
    with serving(configured=configs(**changes)) as made, pytest.raises(error, match=words):
        made.client(file)


def test_an_address_where_nothing_is_is_left_after_the_deadline(file):
    with serving() as made:
        pass
    with pytest.raises(RemoteError, match="no answer within 0.2 s"):
        made.client(file, deadline=0.2)


def test_a_file_is_needed_a_path_is_not_and_the_port_may_be_left_away(file):
    with pytest.raises(ConfigError, match=r"does not say what its actions mean: .*gr00t://a:5555\?spec=FILE.yaml"):
        open_policy("gr00t://a", SEVEN)
    with pytest.raises(ConfigError, match="has a path"):
        open_policy(f"gr00t://a:5/act?spec={file}", SEVEN)
    file.write_text(GR00T + "constants: {a: b}\n")
    with serving() as made, pytest.raises(ConfigError, match="no use for constants a"):
        made.client(file)


def test_arrays_are_packed_as_numpy_saves_them():
    for value in (np.arange(6, dtype=np.uint8).reshape(2, 3), np.zeros((0, 3)), np.arange(6.0).reshape(2, 3).T):
        back = unpack(pack({"a": value}))["a"]
        np.testing.assert_array_equal(back, value)
        assert back.dtype == value.dtype
    fortran = npy(np.asfortranarray(np.arange(6.0).reshape(2, 3)))
    np.testing.assert_array_equal(unpack(pack(fortran)), np.arange(6.0).reshape(2, 3))


def test_an_observation_that_lacks_a_camera_is_not_sent(file):
    with serving() as made:
        policy = made.client(file)
        count = len(made.asked)
        with pytest.raises(Exception, match="lacks camera front"):
            policy.infer(replace(SEEN, images={}))
        assert len(made.asked) == count
