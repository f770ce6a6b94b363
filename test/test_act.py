"""/act of `vla serve`, as OpenVLA's clients call it: a POST of JSON with arrays as json_numpy encodes them."""

import asyncio
import json
import re
import socket
import threading
from dataclasses import replace

import numpy as np
import pytest
from core_samples import PANDA, observation

aiohttp = pytest.importorskip("aiohttp", reason="serving needs it: pip install 'vla_ros[serve]'")
pytest.importorskip("msgpack", reason="serving needs it: pip install 'vla_ros[serve]'")

from rest_samples import FILE  # noqa: E402
from serving_samples import certificate, serving  # noqa: E402
from test_serving import Scripted  # noqa: E402

from vla_ros.errors import RemoteError  # noqa: E402
from vla_ros.policies import open_policy  # noqa: E402
from vla_ros.policies.replay import ReplayPolicy  # noqa: E402
from vla_ros.remote.json_arrays import pack, unpack  # noqa: E402
from vla_ros.serving import server  # noqa: E402

SEEN = observation(PANDA, "touch the red cube")
STEPS = np.linspace(-0.02, 0.02, 32).reshape(8, 4)
WHOLE = {"image": SEEN.images["front"], "wrist": SEEN.images["wrist"], "instruction": SEEN.instruction,
         "joints": dict(SEEN.joints.positions)}


def replaying(cameras=("front",)) -> ReplayPolicy:
    return ReplayPolicy(np.stack([STEPS, STEPS / 2]), PANDA.action, cameras)


def post(made, body: bytes, path="/act", **headers) -> tuple[int, bytes]:
    async def ask():
        async with aiohttp.ClientSession() as session:
            async with session.post(f"http://127.0.0.1:{made.port}{path}", data=body, headers=headers) as answer:
                return answer.status, await answer.read()
    return asyncio.run(ask())


def ask(made, **said):
    """Status, and what was said."""
    status, body = post(made, pack(said), **{"Content-Type": "application/json"})
    return status, unpack(body)


def test_an_image_and_words_get_the_first_action_of_the_chunk():
    with serving(replaying(), PANDA) as made:
        for _ in range(2):  # each request is an episode of its own
            status, action = ask(made, image=SEEN.images["front"], instruction="do something")
            assert status == 200 and action.dtype == np.float64
            np.testing.assert_array_equal(action, STEPS[0])
        assert ask(made, image=SEEN.images["front"], instruction="do something", unnorm_key="panda")[0] == 200
        status, text = ask(made, image=SEEN.images["front"][:9], instruction="do something")
        assert status == 422 and "camera 'front' gives uint8 (9, 128, 3)" in text


def test_encoded_twice_it_is_answered_twice_encoded():
    inner = pack({"image": SEEN.images["front"], "instruction": "do something"}).decode()
    with serving(replaying(), PANDA) as made:
        status, text = ask(made, encoded=inner)
    assert status == 200 and isinstance(text, str)
    np.testing.assert_array_equal(unpack(text), STEPS[0])


def test_the_policy_sees_what_was_sent_and_joints_where_they_are():
    asked = []

    class Curious(Scripted):
        def infer(self, seen):
            asked.append(seen)
            return super().infer(seen)
    with serving(Curious(), PANDA) as made:
        assert ask(made, **WHOLE)[0] == 200
    assert asked[0].instruction == SEEN.instruction and asked[0].gripper == SEEN.gripper
    np.testing.assert_array_equal(asked[0].ee_pose.position, SEEN.ee_pose.position)
    for name, image in SEEN.images.items():
        np.testing.assert_array_equal(asked[0].images[name], image)


def test_our_own_client_is_served_over_tls(tmp_path, monkeypatch):
    pem, key = certificate(tmp_path)
    file = tmp_path / "server.yaml"
    file.write_text(FILE.replace("droll, dpitch, dyaw, ", "").replace("rad, rad, rad, ", "").replace("0.2", "0.1"))
    with serving(replaying(), PANDA, certificate=pem, key=key) as made:
        address = f"https://127.0.0.1:{made.port}/act?spec={file}&deadline=60"
        with pytest.raises(RemoteError, match="certificate is not trusted"):
            open_policy(address, PANDA)
        monkeypatch.setenv("SSL_CERT_FILE", pem)
        policy = open_policy(address, PANDA)
        np.testing.assert_array_equal(policy.infer(SEEN).values, STEPS[:1])


def refuse(chunk):
    return replace(chunk, values=chunk.values[:0], refusal="no such thing")


def fail(chunk):
    raise RuntimeError("/secret/path")


@pytest.mark.parametrize("behave, status, words", [
    (refuse, 422, "error: refused: no such thing"), (fail, 500, "error: the policy failed"),
    (lambda chunk: replace(chunk, values=chunk.values * np.nan), 500, "error: the policy failed")],
    ids=["refusal", "failure", "not finite"])
def test_what_is_no_action_is_a_text_that_begins_with_error(behave, status, words):
    with serving(Scripted(behave=behave), PANDA) as made:
        found, text = ask(made, **WHOLE)
    assert found == status and text.startswith(words) and "secret" not in text


WRONG = {
    "no image": ({"image": None}, "image must be uint8"), "a list": ({"image": [[[1, 2, 3]]]}, "image must be uint8"),
    "another size": ({"image": np.zeros((9, 9, 3), np.uint8)}, "camera 'front' gives uint8 .9, 9, 3."),
    "floats": ({"image": np.zeros((9, 9, 3), np.float32)}, "gives float32"),
    "no words": ({"instruction": 3}, "instruction must be text"), "too many": ({"instruction": "x" * 1001}, "1000 let"),
    "a wrong key": ({"joint": {}}, "unknown key 'joint'; available: image, wrist, instruction"),
    "other norms": ({"unnorm_key": "bridge_orig"}, "unnorm_key must be 'panda' or left away"),
    "norms of an array": ({"unnorm_key": np.zeros(2)}, "unnorm_key must be 'panda' or left away"),
    "no numbers": ({"joints": {"panda_joint1": "x"}}, "must be finite numbers"),
    "joints that lack one": ({"joints": {"panda_joint1": 0.0}}, "joint states lack panda_joint2"),
    "encoded and more": ({"encoded": "{}"}, "unknown key 'encoded'"),
}


@pytest.mark.parametrize("changes, words", WRONG.values(), ids=WRONG)
def test_a_request_that_cannot_be_read_is_named(changes, words):
    with serving(Scripted(), PANDA) as made:
        status, text = ask(made, **WHOLE | changes)
        assert status == 422 and re.search(f"^error: .*{words}", text)
        assert ask(made, **WHOLE)[0] == 200


def test_a_camera_that_is_not_there_and_joints_that_are_needed_are_named():
    lacking = {key: value for key, value in WHOLE.items() if key != "wrist"}
    with serving(Scripted(), PANDA) as made:
        assert ask(made, **lacking) == (422, "error: the request lacks wrist")
        status, text = ask(made, **{key: value for key, value in WHOLE.items() if key != "joints"})
        assert status == 422 and "'joints' of a request maps the robot's joints to positions" in text


@pytest.mark.parametrize("body, words", [
    (b"", "not JSON"), (b"\x80\x04K\x01.", "not JSON"), (b"[" * 100_000, "not JSON"),
    (b'{"image": {"__numpy__": "AAAA", "dtype": "|O", "shape": [1]}}', "none of plain numbers"),
    (json.dumps({"encoded": "{"}).encode(), "not JSON")], ids=["nothing", "a pickle", "deep", "objects", "half"])
def test_what_is_no_json_is_named(body, words):
    with serving(replaying(), PANDA) as made:
        status, answer = post(made, body)
        assert status == 400 and words in unpack(answer) and b"Traceback" not in answer


@pytest.mark.parametrize("body", [b"[]", b"3", b'"error"', b"null", b'{"encoded": 3}'], ids=str)
def test_what_is_no_map_is_named(body):
    with serving(replaying(), PANDA) as made:
        assert post(made, body)[0] == 422


def test_too_much_is_refused():
    with serving(replaying(), PANDA) as made:
        status, text = post(made, b" " * (2 * made.server.engine.largest + 1))
        assert status == 413 and b"a request has at most" in text


def test_a_token_is_asked_for():
    with serving(replaying(), PANDA, token="secret") as made:
        assert post(made, b"{}")[0] == 401
        assert post(made, b"{}", Authorization="Bearer secret")[0] == 422
        assert post(made, b"{}", Authorization="Bearer secret", Origin="https://anywhere.example")[0] == 403


def test_more_clients_than_it_takes_are_turned_away():
    go, began = threading.Event(), threading.Event()

    def wait(chunk):
        began.set()
        go.wait(60)
        return chunk
    with serving(Scripted(behave=wait), PANDA, clients=1) as made:
        first = []
        asking = threading.Thread(target=lambda: first.append(ask(made, **WHOLE)))
        asking.start()
        assert began.wait(60)
        assert post(made, b"{}") == (503, b"this server has 1 clients, and takes no more\n")
        go.set()
        asking.join(60)
        assert first[0][0] == 200 and made.server.clients == 0


def test_a_slow_client_is_told_so_and_disturbs_nobody(monkeypatch):
    monkeypatch.setattr(server, "REQUEST", 0.3)
    with serving(replaying(), PANDA) as made:
        with socket.create_connection(("127.0.0.1", made.port), timeout=60) as raw:
            raw.sendall(b"POST /act HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
            got = raw.recv(1 << 16)
            assert b"408" in got.splitlines()[0]
        assert ask(made, image=SEEN.images["front"], instruction="go")[0] == 200
