"""Who may ask a server, and clients that are slow, wrong, too large or half gone: they never disturb the others."""

import asyncio
import base64
import os
import socket
import struct
from contextlib import ExitStack, contextmanager

import pytest
from core_samples import PANDA, observation

aiohttp = pytest.importorskip("aiohttp", reason="serving needs it: pip install 'vla_ros[serve]'")
pytest.importorskip("msgpack", reason="serving needs it: pip install 'vla_ros[serve]'")

from serving_samples import certificate, serving  # noqa: E402

from vla_ros.errors import ConfigError, RemoteError  # noqa: E402
from vla_ros.policies.hold import HoldPolicy  # noqa: E402
from vla_ros.remote.address import TOKEN  # noqa: E402
from vla_ros.remote.packing import pack, unpack  # noqa: E402
from vla_ros.serving import engine, server  # noqa: E402
from vla_ros.serving.server import Door  # noqa: E402

SEEN = observation(PANDA)


@pytest.fixture
def made():
    with serving(HoldPolicy(PANDA), PANDA) as server_made:
        yield server_made


def get(made, path, **headers) -> tuple[int, str]:
    async def ask():
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{made.port}{path}", headers=headers) as answer:
                return answer.status, await answer.text()
    return asyncio.run(ask())


def upgrade(port: int) -> bytes:
    key = base64.b64encode(os.urandom(16)).decode()
    return (f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n").encode()


def frame(data: bytes, said: int | None = None, code: int = 2) -> bytes:
    """A masked websocket frame; said: the length that it claims; code: 2 binary, 1 text."""
    return struct.pack("!BBQI", 0x80 | code, 0xFF, len(data) if said is None else said, 0) + data


@contextmanager
def connection(made, *sent: bytes):
    """A raw socket that has sent this, after the first of it waited for an answer."""
    with socket.create_connection(("127.0.0.1", made.port), timeout=60) as raw:
        for data in sent:
            raw.sendall(data)
            if data.startswith(b"GET"):
                assert raw.recv(1 << 16)
        yield raw


def rest(raw: socket.socket) -> bytes:
    """What comes until the other side ends."""
    got = b""
    while piece := raw.recv(1 << 16):
        got += piece
    return got


def test_health(made):
    assert get(made, "/healthz") == (200, "OK\n")


def test_an_inference_that_does_not_end_is_not_healthy(made, monkeypatch):
    monkeypatch.setattr(engine, "HUNG", -1.0)
    made.server.engine._began = 0.0
    assert get(made, "/healthz")[0] == 503


def test_a_browser_is_told_what_this_is(made):
    status, text = get(made, "/")
    assert status == 426 and "openpi-client" in text
    assert get(made, "/nothing")[0] == 404


def test_a_page_in_a_browser_gets_nothing_out_of_a_server_on_its_machine(made):
    assert get(made, "/", Origin="https://anywhere.example")[0] == 403


@pytest.mark.parametrize("headers, status", [
    ({}, 401), ({"Authorization": "Api-Key wrong"}, 401), ({"Authorization": "secret"}, 401),
    ({"Authorization": "Basic secret"}, 401), ({"Authorization": "Api-Key secret"}, 426),
    ({"Authorization": "Bearer secret"}, 426), ({"Authorization": "Api-Key \xe9"}, 401)], ids=str)
def test_a_token(headers, status):
    with serving(HoldPolicy(PANDA), PANDA, token="secret") as made:
        assert get(made, "/", **headers)[0] == status
        assert get(made, "/healthz")[0] == 200, "whoever watches it needs none"


def test_a_client_takes_the_token_from_the_environment(monkeypatch):
    with serving(HoldPolicy(PANDA), PANDA, token="secret") as made:
        with pytest.raises(RemoteError, match="401.*VLA_TOKEN"):
            made.client()
        monkeypatch.setenv(TOKEN, "secret")
        assert len(made.client().infer(SEEN).values)


@pytest.mark.parametrize("door, words", [
    ({"host": "0.0.0.0"}, "set VLA_TOKEN"), ({"host": "0.0.0.0", "token": "x"}, "--certificate"),
    ({"certificate": "a"}, "need each other"), ({"key": "a"}, "need each other")], ids=str)
def test_nobody_serves_the_world_by_accident(door, words):
    with pytest.raises(ConfigError, match=words):
        Door(**door)


def test_beyond_this_machine_with_a_token_over_a_network_that_is_trusted():
    Door(host="0.0.0.0", token="x", plain=True)
    Door(host="0.0.0.0", token="x", certificate="a", key="b")


def test_tls(tmp_path, monkeypatch):
    pem, key = certificate(tmp_path)
    with serving(HoldPolicy(PANDA), PANDA, certificate=pem, key=key) as made:
        with pytest.raises(RemoteError, match="certificate"):
            made.client()
        monkeypatch.setenv("SSL_CERT_FILE", pem)
        assert made.address.startswith("wss://") and len(made.client().infer(SEEN).values)
    with pytest.raises(ConfigError, match="cannot use"):
        Door(certificate=key, key=pem).tls()


def test_a_port_that_is_taken_is_named(made):
    with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{made.port}"):
        with serving(HoldPolicy(PANDA), PANDA, port=made.port):
            pass


def test_more_clients_than_it_takes_are_turned_away():
    with serving(HoldPolicy(PANDA), PANDA, clients=1) as made:
        first = made.client()
        with pytest.raises(RemoteError, match="503"):
            made.client()
        assert len(first.infer(SEEN).values)


@pytest.mark.parametrize("sent, words", [
    (frame(b"\xc1"), b"not a message"), (frame(b"hello", code=1), b"must be binary"),
    (frame(pack({b"__ndarray__": True, b"data": b"x", b"dtype": "|O", b"shape": [1]})), b"not a message")],
    ids=["malformed", "text", "object"])
def test_what_is_no_message_ends_the_connection_with_the_reason(made, sent, words):
    with connection(made, upgrade(made.port), sent) as raw:
        got = rest(raw)
    assert words in got and b"Traceback" not in got and b".py" not in got


@pytest.mark.parametrize("said", [
    lambda: [], lambda: 3, lambda: {}, lambda: good() | {"observation/image/front": 1},
    lambda: good() | {"prompt": 1}, lambda: good() | {"prompt": "x" * 2000}],
    ids=["list", "number", "empty", "no image", "no words", "too many words"])
def test_what_is_no_request_is_named_and_the_next_one_answered(made, said):
    async def ask():
        async with aiohttp.ClientSession() as session, session.ws_connect(made.address) as client:
            metadata = unpack(await client.receive_bytes())
            await client.send_bytes(pack(said()))
            text = await client.receive_str()
            await client.send_bytes(pack(good()))
            return metadata, text, unpack(await client.receive_bytes())
    metadata, text, reply = asyncio.run(ask())
    assert text.startswith("ObservationError request: ") and reply["actions"].shape == (8, 4)
    assert set(metadata["keys"]) <= set(good())


def good() -> dict:
    from vla_ros.remote.messages import request
    return request(SEEN, tuple(PANDA.cameras), False)


def test_too_much_is_refused_before_it_is_read(made):
    with connection(made, upgrade(made.port), frame(b"x" * 100, said=made.server.engine.largest + 1)) as raw:
        assert struct.pack("!H", 1009) in rest(raw), "closed as too big, with a hundred bytes of it sent"


def test_a_connection_that_says_nothing_is_ended(monkeypatch):
    monkeypatch.setattr(server, "REQUEST", 0.2)
    with serving(HoldPolicy(PANDA), PANDA) as made, connection(made) as silent, connection(made) as slow:
        slow.sendall(b"POST / HTT")
        assert rest(silent) == b"" and rest(slow) is not None


def test_a_client_that_answers_no_ping_is_gone(monkeypatch):
    monkeypatch.setattr(server, "HEARTBEAT", 0.2)
    with serving(HoldPolicy(PANDA), PANDA) as made, connection(made, upgrade(made.port)) as mute:
        rest(mute)


BAD = {
    "silent": lambda made: [], "half a header": lambda made: [b"POST / HTTP/1.1\r\nHost: x\r\nContent-Le"],
    "no http": lambda made: [b"\x00" * 999], "only opened": lambda made: [upgrade(made.port)],
    "half a frame": lambda made: [upgrade(made.port), frame(pack(good()))[:5000]],
    "malformed": lambda made: [upgrade(made.port), frame(b"\xc1" * 1000)],
    "oversized": lambda made: [upgrade(made.port), frame(b"x" * 1000, said=1 << 40)],
    "no request": lambda made: [upgrade(made.port), frame(pack([1] * 1000))],
    "many requests, no answer read": lambda made: [upgrade(made.port), *[frame(pack(good()))] * 3],
    "half-closed": lambda made: [upgrade(made.port), frame(pack(good()))],
}


def test_a_hundred_bad_clients_disturb_nobody():
    with serving(HoldPolicy(PANDA), PANDA, clients=200) as made, ExitStack() as stack:
        client = made.client()
        for _ in range(10):
            for name, sent in BAD.items():
                raw = stack.enter_context(connection(made, *sent(made)))
                if name == "half-closed":
                    raw.shutdown(socket.SHUT_WR)
            assert len(client.infer(SEEN).values) == 8
        assert len(made.client().infer(SEEN).values) == 8
        assert get(made, "/healthz") == (200, "OK\n")
