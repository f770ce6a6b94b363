"""`vla serve` and its client, over real sockets: the same answers as in process, and what neither lets through."""

import threading
from dataclasses import replace

import numpy as np
import pytest
from core_samples import HUSKY, PANDA, observation

pytest.importorskip("aiohttp", reason="serving needs it: pip install 'vla_ros[serve]'")
pytest.importorskip("msgpack", reason="serving needs it: pip install 'vla_ros[serve]'")

from serving_samples import serving  # noqa: E402
from test_policies import ROBOTS, PolicyContract  # noqa: E402

from vla_ros.doctor.examine import examine  # noqa: E402
from vla_ros.errors import ActionError, ConfigError, ObservationError, RemoteError, UnknownNameError  # noqa: E402
from vla_ros.policies import open_policy  # noqa: E402
from vla_ros.policies.hold import HoldPolicy  # noqa: E402
from vla_ros.policies.replay import ReplayPolicy  # noqa: E402
from vla_ros.remote.link import FIRST, LONGEST, Link  # noqa: E402
from vla_ros.remote.messages import metadata, read_reply, reply  # noqa: E402
from vla_ros.remote.packing import pack, unpack  # noqa: E402
from vla_ros.types import ActionChunk, Look, Observation  # noqa: E402

SEEN = observation(PANDA, stamp=12_345_678_901)


class Scripted(HoldPolicy):
    """Does what the test says."""

    def __init__(self, profile=PANDA, behave=lambda chunk: chunk):
        super().__init__(profile)
        self.behave = behave

    def infer(self, seen):
        return self.behave(super().infer(seen))


@ROBOTS
class TestRemote(PolicyContract):
    """A policy behind a server promises what every policy does."""

    reads_images = True

    @pytest.fixture
    def policy(self, profile):
        with serving(HoldPolicy(profile), profile) as made:
            yield made.client()


def test_the_answer_is_that_of_the_policy_to_the_last_bit():
    def elaborate(chunk):
        values = np.random.default_rng(1).uniform(-0.01, 0.01, chunk.values.shape)
        return replace(chunk, values=values, tokens=np.arange(32).reshape(8, 4), confidence=0.25, text="I look",
                       timings={"look": 0.5, "act": 0.25}, looks=(Look("target", 3.5, 4.25, 0.5),), done=True)
    policy = Scripted(behave=elaborate)
    here = policy.infer(SEEN)
    with serving(policy, PANDA) as made:
        there = made.client().infer(SEEN)
    assert there.values.tobytes() == here.values.tobytes() and there.tokens.tobytes() == here.tokens.tobytes()
    assert (there.stamp, there.spec, there.confidence, there.text, there.refusal, there.looks, there.done) == (
        here.stamp, here.spec, here.confidence, here.text, here.refusal, here.looks, True)
    assert {name: there.timings[name] for name in here.timings} == here.timings
    assert list(there.timings) == ["look", "act", "network"] and there.timings["network"] >= 0


def test_the_policy_is_asked_about_what_the_robot_sees():
    asked = []

    class Curious(HoldPolicy):
        def infer(self, seen):
            asked.append(seen)
            return super().infer(seen)

    with serving(Curious(PANDA), PANDA) as made:
        made.client().infer(SEEN)
    seen = asked[0]
    assert seen.instruction == SEEN.instruction and seen.gripper == SEEN.gripper
    assert seen.joints.positions == SEEN.joints.positions and seen.joints.velocities == SEEN.joints.velocities
    np.testing.assert_array_equal(seen.ee_pose.position, SEEN.ee_pose.position)
    for name, image in SEEN.images.items():
        np.testing.assert_array_equal(seen.images[name], image)


def test_a_refusal_is_an_answer():
    policy = Scripted(behave=lambda chunk: replace(chunk, values=chunk.values[:0], refusal="no such thing"))
    with serving(policy, PANDA) as made:
        chunk = made.client().infer(SEEN)
    assert chunk.refusal == "no such thing" and chunk.values.shape == (0, 4)


def test_each_client_has_an_episode_of_its_own_and_resets_it_alone():
    recording = ReplayPolicy(np.arange(3)[:, None, None] * np.full((3, 8, 4), 0.1), PANDA.action, ("front",))
    with serving(recording, PANDA) as made:
        one, other = made.client(), made.client()
        assert [one.infer(SEEN).values[0, 0] for _ in range(2)] == [0.0, 0.1]
        assert other.infer(SEEN).values[0, 0] == 0.0
        assert one.infer(SEEN).values[0, 0] == 0.2
        one.reset()
        assert one.infer(SEEN).values[0, 0] == 0.0 and other.infer(SEEN).values[0, 0] == 0.1


def test_an_observation_that_cannot_be_read_is_named_and_the_next_one_answered():
    with serving(HoldPolicy(PANDA), PANDA) as made:
        client = made.client()
        small = Observation(**vars(SEEN) | {"images": {name: image[:9] for name, image in SEEN.images.items()}})
        with pytest.raises(ObservationError, match="camera 'front' gives uint8") as raised:
            client.infer(small)
        assert raised.value.reason == "size"
        assert len(client.infer(SEEN).values) and made.server.clients == 1, "over the same connection"


def test_a_policy_that_raises_tells_strangers_nothing_of_itself(caplog):
    def fail(chunk):
        raise RuntimeError("/secret/path")
    policy = Scripted(behave=fail)
    with serving(policy, PANDA) as made:
        with pytest.raises(RemoteError, match="the policy failed") as raised:
            made.client().infer(SEEN)
        assert "secret" not in str(raised.value) and "Traceback" not in str(raised.value)
        assert "/secret/path" in caplog.text, "but its own log says it"
        policy.behave = lambda chunk: chunk
        assert len(made.client().infer(SEEN).values), "and it goes on"


@pytest.mark.parametrize("values", [np.full((8, 4), np.nan), np.zeros((8, 3)), np.zeros((0, 4))], ids=str)
def test_what_must_not_be_executed_is_not_sent(values):
    with serving(Scripted(behave=lambda chunk: replace(chunk, values=values)), PANDA) as made:
        with pytest.raises(RemoteError, match="the policy failed"):
            made.client().infer(SEEN)


def test_a_late_answer_is_an_error_and_not_the_next_ones():
    go, first = threading.Event(), []

    def slow(chunk):
        first.append(chunk)
        if len(first) == 1:
            go.wait(60)
        return replace(chunk, text=f"answer {len(first)}")
    with serving(Scripted(behave=slow), PANDA) as made:
        client = made.client("?deadline=1")
        with pytest.raises(RemoteError, match="no answer within 1 s"):
            client.infer(SEEN)
        client.link.deadline, client.link._next = 60, 0.0
        go.set()
        assert client.infer(SEEN).text == "answer 2"


def test_a_server_that_failed_is_asked_again_after_delays_that_double():
    now, calls = [0.0], []

    async def fail():
        calls.append(now[0])
        raise ConnectionError("gone")
    link = Link("ws://there", 60, now=lambda: now[0])
    for tick in range(0, 30_000):
        now[0] = tick / 1000
        with pytest.raises(RemoteError, match="gone"):
            link.call(fail)
    gaps = np.diff(calls)
    np.testing.assert_allclose(gaps[:6], FIRST * 2.0 ** np.arange(6), atol=0.002)
    assert gaps.max() <= LONGEST + 0.002

    async def succeed():
        return 1
    now[0] += LONGEST
    assert link.call(succeed) == 1 and link.call(succeed) == 1
    link.close()


def test_a_server_that_was_started_again_is_found_again():
    with serving(HoldPolicy(PANDA), PANDA) as made:
        client, port = made.client(), made.port
        client.infer(SEEN)
    with pytest.raises(RemoteError):
        client.infer(SEEN)
    with pytest.raises(RemoteError, match="is away .*asked again in"):
        client.infer(SEEN)
    client.link._next = 0.0
    with serving(HoldPolicy(PANDA), PANDA, port=port):
        assert len(client.infer(SEEN).values)
    with serving(HoldPolicy(PANDA), PANDA, port=port):
        assert len(client.infer(SEEN).values), "at once, when it went unnoticed"


def test_a_server_that_came_back_as_another_is_refused():
    with serving(HoldPolicy(PANDA), PANDA) as made:
        client, port = made.client(), made.port
    said = metadata(HoldPolicy(PANDA), PANDA, "another checkpoint")
    with serving(HoldPolicy(PANDA), PANDA, said, port=port):
        for _ in range(2):
            client.link._next = 0.0
            with pytest.raises(RemoteError, match="came back as another policy"):
                client.infer(SEEN)


def declared(**changes) -> dict:
    return metadata(HoldPolicy(PANDA), PANDA, "test") | changes


@pytest.mark.parametrize("said, error, words", [
    (declared(action_spec=PANDA.action.to_dict() | {"period": 0.05}), ActionError, "period: policy 0.05, robot 0.1"),
    (declared(action_spec=HUSKY.action.to_dict()), ActionError, "disagree on what an action means"),
    (declared(action_spec=None), ConfigError, "does not say what its actions mean"),
    (declared(action_spec={"names": 3}), ConfigError, "no usable action spec"),
    (declared(action_spec=PANDA.action.to_dict() | {"period": "x"}), ConfigError, "no usable action spec"),
    ({}, ConfigError, "does not say what its actions mean"), ([], ConfigError, "does not say"),
    (declared(cameras={"front": [224, 224, 3]}), ConfigError, "reads camera 'front' of .224, 224, 3."),
    (declared(cameras={"top": [128, 128, 3]}), ConfigError, "reads camera 'top'"),
    (declared(cameras=None), ConfigError, "which cameras")], ids=str)
def test_a_server_that_does_not_fit_is_refused_before_the_first_motion(said, error, words):
    with serving(HoldPolicy(PANDA), PANDA, said or {"x": 1}) as made:
        with pytest.raises(error, match=words):
            made.client()


GOOD = reply(ActionChunk(np.zeros((8, 4)), PANDA.action, 7), 0.01)


@pytest.mark.parametrize("wrong, words", [
    ({"actions": np.zeros((8, 4)).tolist()}, "must be an array of numbers"),
    ({"actions": np.zeros((8, 5))}, r"shape \(8, 5\), expected \(8, 4\)"), ({"actions": np.zeros((7, 4))}, "shape"),
    ({"actions": np.zeros(32)}, "shape"), ({"actions": np.zeros((0, 4))}, "shape"),
    ({"actions": np.zeros((8, 4)) > 1}, "array of numbers"), ({"actions": np.full((8, 4), np.inf)}, "not finite"),
    ({"actions": np.full((8, 4), np.nan)}, "not finite"), ({"actions": np.full((8, 4), 10.0)}, "dx of 10 m is more"),
    ({"actions": np.eye(8, 4, 3) * 100}, "gripper of 100 1 is more"), ({"refusal": "no"}, "shape"),
    ({"refusal": 3}, "refusal must be text"), ({"text": "x" * 1001}, "text must be text"),
    ({"confidence": 1.5}, "confidence"), ({"confidence": float("nan")}, "confidence"), ({"confidence": "1"}, "confid"),
    ({"tokens": np.zeros((8, 3), int)}, "tokens"), ({"tokens": np.zeros((8, 4))}, "tokens"),
    ({"done": "yes"}, "done must be true or false"),
    ({"looks": 3}, "looks"), ({"looks": [3]}, "looks"), ({"looks": [{"name": "target"}]}, "looks"),
    ({"looks": [{"name": "t", "u": float("inf"), "v": 1, "confidence": 1}]}, "looks")], ids=str)
def test_replies_that_must_not_be_executed_are_refused(wrong, words):
    with pytest.raises(RemoteError, match=words):
        read_reply(unpack(pack(GOOD | wrong)), PANDA.action, 7, 0.1)


@pytest.mark.parametrize("said", [None, [], "error", b"", {}, {"error": "x"}], ids=str)
def test_a_reply_without_actions_is_refused(said):
    with pytest.raises(RemoteError, match="lacks 'actions'"):
        read_reply(said, PANDA.action, 7, 0.1)


def test_times_that_are_none_are_left_out():
    said = GOOD | {"policy_timing": {"act_ms": -1.0, "look_ms": "x", 3: 4, "infer_ms": float("nan")},
                   "server_timing": {"infer_ms": 10.0}}
    chunk = read_reply(said, PANDA.action, 7, 0.1)
    assert chunk.timings == {"infer": 0.01, "network": pytest.approx(0.09)}


@pytest.mark.parametrize("source, error, words", [
    ("ftp://gpu-box:8000", UnknownNameError, "available: gr00t, http, https, ws, wss"),
    ("ws://", ConfigError, "must name a host"), ("ws://gpu:99999", ConfigError, "no address"),
    ("ws://me:secret@gpu:8000", ConfigError, "no user"), ("ws://gpu:8000?dedline=3", UnknownNameError, "deadline"),
    ("ws://gpu:8000?deadline=0", ConfigError, "seconds"), ("ws://gpu:8000?deadline=nan", ConfigError, "seconds")])
def test_addresses_that_are_none(source, error, words):
    with pytest.raises(error, match=words):
        open_policy(source, PANDA)


def test_nobody_there_is_an_error_of_one_line():
    with serving(HoldPolicy(PANDA), PANDA) as made:
        address = made.address
    with pytest.raises(RemoteError, match=f"{address}: .*refused"):
        open_policy(address, PANDA)


def test_the_doctor_examines_what_a_server_declares():
    with serving(HoldPolicy(PANDA), PANDA) as made:
        found = examine(PANDA, made.address + "?deadline=60")
        assert any(finding.check == "policy" and "remote:hold" in finding.what for finding in found)
    away = [finding for finding in examine(PANDA, made.address) if finding.check == "policy"]
    assert away[0].level == "error" and made.address in away[0].what
