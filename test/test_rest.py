"""OpenVLA's REST servers, over real sockets: what they say is understood, and what must not move a robot does not.

Recorded: what requests and json_numpy sent to the unmodified vla-scripts/deploy.py of openvla/openvla (c8f03f4) and of
moojink/openvla-oft, with a stand-in for the model, and what those answered.
"""

import asyncio
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from core_samples import HUSKY, observation

from vla_ros.errors import ActionError, ConfigError, ObservationError, RemoteError, UnknownNameError
from vla_ros.policies import open_policy
from vla_ros.remote.address import TOKEN

pytest.importorskip("aiohttp", reason="remote policies need it: pip install 'vla_ros[remote]'")
pytest.importorskip("msgpack", reason="remote policies need it: pip install 'vla_ros[remote]'")

from aiohttp import web  # noqa: E402
from rest_samples import FILE, SEVEN, answering  # noqa: E402
from test_policies import PolicyContract  # noqa: E402

from vla_ros.remote.described import Described  # noqa: E402
from vla_ros.remote.json_arrays import pack, unpack  # noqa: E402
from vla_ros.remote.rest import LARGEST  # noqa: E402

SEEN = observation(SEVEN, "do something", stamp=12_345_678_901)
REQUEST = (b'{"image": {"__numpy__": "AAECAwQFBgcICQoL", "dtype": "|u1", "shape": [2, 2, 3]}, '
           b'"instruction": "do something", "unnorm_key": "bridge_orig"}')
ONE = (b'{"__numpy__":"exSuR+F6hD97FK5H4XqUv7gehetRuJ4/mpmZmZmZuT+amZmZmZnJvzMzMzMzM9M/AAAAAAAA8D8=","dtype":"<f8",'
       b'"shape":[7]}')
TWICE = (b'"{\\"__numpy__\\": \\"exSuR+F6hD97FK5H4XqUv7gehetRuJ4/mpmZmZmZuT+amZmZmZnJvzMzMzMzM9M/AAAAAAAA8D8=\\", '
         b'\\"dtype\\": \\"<f8\\", \\"shape\\": [7]}"')
VALUES = [0.01, -0.02, 0.03, 0.1, -0.2, 0.3, 1.0]
OFT_REQUEST = (b'{"full_image": {"__numpy__": "AAECAwQFBgcICQoL", "dtype": "|u1", "shape": [2, 2, 3]}, "state": '
               b'{"__numpy__": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "dtype": "<f4", "shape": [8]}, '
               b'"instruction": "do something"}')
OFT = (b'[{"__numpy__":"CtcjPArXo7yPwvU8zczMPc3MTL6amZk+AACAPw==","dtype":"<f4","shape":[7]},'
       b'{"__numpy__":"CtejPArXI72PwnU9zcxMPs3MzL6amRk/AAAAQA==","dtype":"<f4","shape":[7]}]')
DOCS = Path(__file__).resolve().parent.parent / "docs/remote.md"
EXAMPLES = dict(re.findall(r"```yaml\n# (\S+)\n(.*?)```", DOCS.read_text(), re.DOTALL))


def wrote(folder: Path, text: str = FILE, **changes) -> Path:
    """The file of a server; changes: other values of its keys, None to leave one away."""
    said = {key: value for key, value in (yaml.safe_load(text) | changes).items() if value is not None}
    path = folder / "server.yaml"
    path.write_text(yaml.safe_dump(said))
    return path


def action(**changes) -> dict:
    return yaml.safe_load(FILE)["action"] | changes


@pytest.fixture
def file(tmp_path):
    return wrote(tmp_path)


class TestRest(PolicyContract):
    """A policy behind such a server promises what every policy does."""

    reads_images = True

    @pytest.fixture
    def profile(self):
        return SEVEN

    @pytest.fixture
    def policy(self, file, profile):
        with answering(ONE) as made:
            yield made.client(file, profile)


def test_the_request_is_what_openvlas_own_clients_send(tmp_path):
    tiny = replace(SEEN, images={"front": np.arange(12, dtype=np.uint8).reshape(2, 2, 3)})
    path = wrote(tmp_path, EXAMPLES["openvla.yaml"])
    assert json.loads(pack(Described(path, SEVEN, "instruction").request(tiny, False))) == json.loads(REQUEST)


@pytest.mark.parametrize("answer", [ONE, TWICE, json.dumps(VALUES).encode(), json.dumps([VALUES]).encode()],
                         ids=["array", "encoded twice", "list", "list of lists"])
def test_an_answer_is_understood(file, answer):
    with answering(answer) as made:
        chunk = made.client(file).infer(SEEN)
    np.testing.assert_array_equal(chunk.values, [VALUES])
    assert chunk.stamp == SEEN.stamp and chunk.spec.names == SEVEN.action.names and chunk.timings["infer"] > 0


def test_openvla_oft_is_asked_and_understood(tmp_path):
    path = wrote(tmp_path, EXAMPLES["libero.yaml"], action=action(horizon=2))
    with answering(OFT) as made:
        chunk = made.client(path).infer(SEEN)
        headers, body = made.asked[-1]
    one = np.array(VALUES) * [0.05, 0.05, 0.05, 0.5, 0.5, 0.5, -0.5] + [0, 0, 0, 0, 0, 0, 0.5]
    two = 2 * np.array(VALUES) * [0.05, 0.05, 0.05, 0.5, 0.5, 0.5, -0.5] + [0, 0, 0, 0, 0, 0, 0.5]
    np.testing.assert_allclose(chunk.values, [one, two], atol=1e-6)
    sent, recorded = unpack(body), unpack(OFT_REQUEST)
    assert headers["Content-Type"] == "application/json" and set(sent) - {"left_wrist_image"} == set(recorded)
    assert sent["state"].shape == (8,) and sent["state"].dtype == recorded["state"].dtype
    for key, camera in (("full_image", "front"), ("left_wrist_image", "wrist")):
        np.testing.assert_array_equal(sent[key], SEEN.images[camera])


def test_a_state_is_what_its_parts_say(tmp_path):
    path = wrote(tmp_path, state={"a": ["joints", "-gap"], "b": ["position", "opening", "closing", "half_gap"],
                                  "c": ["axis_angle"]})
    said = Described(path, SEVEN, "instruction").request(SEEN, False)
    np.testing.assert_allclose(said["a"], [*SEVEN.home, -0.03], atol=1e-6)
    np.testing.assert_allclose(said["b"], [*SEEN.ee_pose.position, 0.375, 0.625, 0.015], atol=1e-6)
    axis, angle = said["c"] / np.linalg.norm(said["c"]), np.linalg.norm(said["c"])
    np.testing.assert_allclose(SEEN.ee_pose.rotation @ axis, axis, atol=1e-5)
    assert np.trace(SEEN.ee_pose.rotation) == pytest.approx(1 + 2 * np.cos(angle), abs=1e-5)


async def silent(request):
    await asyncio.Event().wait()


async def cut_off(request):
    request.transport.abort()


async def half(request):
    answer = web.StreamResponse(headers={"Content-Length": "118"})
    await answer.prepare(request)
    await answer.write(ONE[:50])
    request.transport.close()
    return answer


async def endless(request):
    answer = web.StreamResponse()
    await answer.prepare(request)
    while True:
        await answer.write(b" " * (1 << 16))


def status(number, text="", **headers):
    async def answer(request):
        return web.Response(status=number, text=text, headers=headers)
    return answer


def array(values, dtype="<f8") -> bytes:
    return pack(np.asarray(values, dtype))


WRONG = {
    "error": (b'"error"', "it answers 'error'"), "another text": (b'"fine"', "not JSON"), "nothing": (b"", "not JSON"),
    "html": (b"<html>hello", "not JSON"), "null": (b"null", "array of numbers"), "a number": (b"3", "array of numbers"),
    "a map": (b'{"action": [1]}', "array of numbers"), "a truth value": (b"[true]", "array of numbers"),
    "texts": (b'["1","2","3","4","5","6","7"]', "array of numbers"),
    "NaN": (b"[0,0,0,0,0,0,NaN]", "not JSON.*NaN is no number"),
    "infinite": (b"[0,0,0,0,0,0,1e999]", "array of numbers"),
    "NaN in an array": (json.dumps({"__numpy__": "AAAAAAAA+H8=", "dtype": "<f8", "shape": [1]}).encode(), "not finite"),
    "objects": (b'{"__numpy__": "AAAAAAAAAAA=", "dtype": "|O", "shape": [1]}', "none of plain numbers"),
    "six": (array(VALUES[:6]), r"shape \(1, 6\), its description says \(1, 7\)"),
    "two steps": (array([VALUES, VALUES]), r"shape \(2, 7\)"), "no steps": (b"[]", "shape"),
    "deep": (array([[VALUES]]), "shape"), "deep lists": (json.dumps([[VALUES]]).encode(), "array of numbers"),
    "ragged": (b"[[1, 2, 3], [1, 2]]", "different lengths"), "truth values": (array([0] * 7, "?"), "array of numbers"),
    "millimetres": (array([10, 0, 0, 0, 0, 0, 1]), "dx of 10 m is more"),
    "degrees": (array([0, 0, 0, 45, 0, 0, 1]), "droll of 45 rad is more"),
    "gripper of 100": (array([0, 0, 0, 0, 0, 0, 100]), "gripper of 100"),
    "500": (status(500, "oh no"), "it answers 500 oh no"), "no words": (status(503), "it answers 503$"),
    "422": (status(422, '{"detail": "missing"}'), 'it answers 422 .*missing'),
    "elsewhere": (status(302, Location="http://127.0.0.1:1/act"), "it answers 302"),
    "401": (status(401), "VLA_TOKEN"), "cut off": (cut_off, "disconnected|reset"),
    "half": (half, "not completed|closed|reset"),
    "endless": (endless, f"more than {LARGEST} bytes"),
}


@pytest.mark.parametrize("answer, words", WRONG.values(), ids=WRONG)
def test_what_must_not_move_a_robot_is_an_error_of_one_line(file, answer, words):
    with answering(answer) as made:
        policy = made.client(file)
        with pytest.raises(RemoteError, match=words) as raised:
            policy.infer(SEEN)
        assert f"http://127.0.0.1:{made.port}/act: " in str(raised.value) and "\n" not in str(raised.value)
        made.answer, policy.link._next = ONE, 0.0
        assert len(policy.infer(SEEN).values) == 1, "and it goes on"


def test_a_silent_server_is_left_after_the_deadline_and_then_in_peace(file):
    with answering(silent) as made:
        policy = made.client(file)
        policy.link.deadline = 0.3
        with pytest.raises(RemoteError, match="no answer within 0.3 s"):
            policy.infer(SEEN)
        with pytest.raises(RemoteError, match="is away .*asked again in"):
            policy.infer(SEEN)
        assert len(made.asked) == 1


def test_a_server_that_was_started_again_is_found_again(file):
    with answering(ONE) as made:
        policy, port = made.client(file), made.port
        policy.infer(SEEN)
    with answering(ONE, port):
        assert len(policy.infer(SEEN).values), "at once, when it went unnoticed"
    with pytest.raises(RemoteError, match="refused|reset|disconnected"):
        policy.infer(SEEN)
    with pytest.raises(RemoteError, match="is away"):
        policy.infer(SEEN)
    policy.link._next = 0.0
    with answering(ONE, port):
        assert len(policy.infer(SEEN).values)


def test_a_connection_that_breaks_is_tried_once_more(file):
    async def once(request):
        made.answer = ONE
        request.transport.abort()
    with answering(once) as made:
        assert len(made.client(file).infer(SEEN).values) and len(made.asked) == 2


def test_the_token_goes_with_every_request_and_not_elsewhere(file, monkeypatch):
    monkeypatch.setenv(TOKEN, "secret")
    with answering(ONE) as other, answering(status(307, Location=f"http://127.0.0.1:{other.port}/act")) as made:
        with pytest.raises(RemoteError, match="307"):
            made.client(file).infer(SEEN)
        assert made.asked[0][0]["Authorization"] == "Bearer secret" and not other.asked


def test_an_address_where_nothing_is_is_an_error_before_the_first_motion(file):
    with answering(ONE) as made:
        with pytest.raises(RemoteError, match="nothing at this path: OpenVLA's servers have /act"):
            open_policy(f"http://127.0.0.1:{made.port}/acts?spec={file}", SEVEN)
    with pytest.raises(RemoteError, match="refused"):
        open_policy(f"http://127.0.0.1:{made.port}/act?spec={file}", SEVEN)


def test_without_a_file_nobody_knows_what_the_actions_mean():
    with pytest.raises(ConfigError, match=r"does not say what its actions mean: .*/act\?spec=FILE.yaml"):
        open_policy("http://127.0.0.1:1/act", SEVEN)


@pytest.mark.parametrize("changes, error, words", [
    ({"action": None}, ConfigError, "description lacks action"), ({"images": None}, ConfigError, "lacks images"),
    ({"images": {}}, ConfigError, "at least one"), ({"horizon": 3}, ConfigError, "unknown key in description 'horiz"),
    ({"action": action(period=0.1)}, ActionError, "period: policy 0.1, robot 0.2"),
    ({"action": action(gripper="closed")}, ConfigError, "gripper convention"),
    ({"action": action(names=["dx"], units=["m"])}, ActionError, "disagree on what an action means"),
    ({"images": {"image": "top"}}, UnknownNameError, "camera of robot 'panda' 'top'.*front, wrist"),
    ({"scale": [1, 2]}, ConfigError, "scale needs 7 numbers, has 2"),
    ({"offset": [float("nan")] * 7}, ConfigError, "must be finite"),
    ({"state": {"image": ["joints"]}}, ConfigError, "key image has more than one meaning"),
    ({"state": {"instruction": ["joints"]}}, ConfigError, "'instruction' is that of the instruction"),
    ({"state": {"s": []}}, ConfigError, "a state has parts, of joints, position"),
    ({"state": {"s": ["joint"]}}, ConfigError, "part of a state 'joint' .did you mean 'joints'"),
    ({"constants": {"unnorm_key": 3}}, ConfigError, "unnorm_key must be str")], ids=str)
def test_a_file_that_cannot_be_used_is_named_before_anything_is_asked(tmp_path, changes, error, words):
    with pytest.raises(error, match=words):
        open_policy(f"http://127.0.0.1:1/act?spec={wrote(tmp_path, **changes)}", SEVEN)


def test_a_file_that_is_not_there_is_named():
    with pytest.raises(ConfigError, match="cannot read /nowhere.yaml"):
        open_policy("http://127.0.0.1:1/act?spec=/nowhere.yaml", SEVEN)


def test_a_base_has_no_hand(tmp_path):
    path = wrote(tmp_path, action=HUSKY.action.to_dict(), images={"image": next(iter(HUSKY.cameras))},
                 state={"state": ["position"]})
    with pytest.raises(UnknownNameError, match="part of a state of robot 'husky' 'position'; available: none"):
        open_policy(f"http://127.0.0.1:1/act?spec={path}", HUSKY)


def test_an_observation_that_lacks_something_is_not_sent(tmp_path):
    with answering(ONE) as made:
        policy = made.client(wrote(tmp_path, state={"state": ["gap"]}))
        with pytest.raises(ObservationError, match="lacks camera front"):
            policy.infer(replace(SEEN, images={}))
        with pytest.raises(ObservationError, match="joint states lack panda_finger_joint1"):
            policy.infer(replace(SEEN, gripper=None))
        assert not made.asked


@pytest.mark.parametrize("name", ["openvla.yaml", "libero.yaml", "gr00t.yaml"])
def test_the_examples_of_the_documentation_can_be_read(tmp_path, name):
    said = yaml.safe_load(EXAMPLES[name])["action"]
    robot = replace(SEVEN, action=replace(SEVEN.action, period=said["period"]))
    Described(wrote(tmp_path, EXAMPLES[name]), robot, "instruction")
