"""`vla serve` as a process of its own: the native model answers there as here, and openpi's own client is served."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from core_samples import PANDA, observation

pytest.importorskip("aiohttp", reason="serving needs it: pip install 'vla_ros[serve]'")
pytest.importorskip("msgpack", reason="serving needs it: pip install 'vla_ros[serve]'")

from vla_ros.cli import main  # noqa: E402
from vla_ros.errors import CheckpointError, RemoteError  # noqa: E402
from vla_ros.evaluation.identity import identity  # noqa: E402
from vla_ros.policies import open_policy  # noqa: E402
from vla_ros.policies.hold import HoldPolicy  # noqa: E402
from vla_ros.remote.messages import metadata  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
HOW = ("openpi-client pins numpy below 2, so it needs an environment of its own: python3 -m venv DIR && "
       "DIR/bin/pip install openpi-client, then OPENPI_PYTHON=DIR/bin/python")
SERVER = "OPENPI_SERVER=src/openpi/serving/websocket_policy_server.py of openpi's sources; "


@contextmanager
def serving(*options: str):
    """Its address, while it runs; it ends by SIGINT with exit code 0."""
    process = subprocess.Popen([sys.executable, "-m", "vla_ros.cli", "serve", "--port", "0", *options], cwd=ROOT,
                               stdout=subprocess.PIPE, text=True)
    try:
        address = re.search(r"ws://\S+", process.stdout.readline())
        assert address, "it says where it listens"
        yield address[0]
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 0
    finally:
        process.kill()
        process.stdout.close()


@pytest.mark.timeout(1200)  # two processes that load torch, maybe on a machine with much else to do
def test_the_native_model_answers_there_as_it_does_here():
    """An episode of the simulator: what it has seen before counts, so every chunk depends on those before."""
    import torch

    from vla_ros.sim.bullet import BulletWorld
    try:
        here = open_policy("native", PANDA)
    except CheckpointError as error:
        pytest.skip(str(error))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as there: rounding depends on it
    world = BulletWorld(PANDA, cameras=here.cameras)
    with serving("--policy", "native") as address:
        there = open_policy(f"{address}?deadline=300", PANDA)
        assert identity("native", ["reach"]) in identity(f"{address}?deadline=300", ["reach"])
        for seed in (1, 2):
            world.reset(seed)
            here.reset()
            there.reset()
            for _ in range(3):
                seen = world.observe()
                one, other = here.infer(seen), there.infer(seen)
                assert one.values.tobytes() == other.values.tobytes() and one.refusal == other.refusal
                assert one.tokens.tobytes() == np.asarray(other.tokens, one.tokens.dtype).tobytes()
                assert (one.stamp, one.text) == (other.stamp, other.text)
                # Bins are the same; what is no bin has rounding that differs between processes on some processors.
                assert one.confidence == pytest.approx(other.confidence, rel=1e-5)
                assert [look.name for look in one.looks] == [look.name for look in other.looks]
                assert [figure for look in one.looks for figure in (look.u, look.v, look.confidence)] == pytest.approx(
                    [figure for look in other.looks for figure in (look.u, look.v, look.confidence)], rel=1e-4)
                world.step(None)
    world.close()
    torch.set_num_threads(threads)


def test_what_is_served_is_scored_by_its_address(tmp_path, capsys):
    file = tmp_path / "score.json"
    asked = ["eval", "--task", "reach", "--episodes", "1", "--jobs", "1", "--json", str(file), "--policy"]
    with serving("--policy", "hold") as address:
        assert main([*asked, f"{address}?deadline=60"]) == 0
        made = json.loads(file.read_text())
        assert made["checkpoint"] == f"hold at {address}" and made["families"]["reach"]["endings"] == {"time": 1}
    capsys.readouterr()
    assert main([*asked, f"{address}?deadline=60"]) == 2
    assert "Connection refused" in capsys.readouterr().err


OPENPI = """
import sys
import numpy as np
from openpi_client.websocket_client_policy import WebsocketClientPolicy
policy = WebsocketClientPolicy(sys.argv[1], api_key="token")
said = policy.get_server_metadata()
assert said["robot"] == "panda" and said["action_spec"]["names"] == ["dx", "dy", "dz", "gripper"]
seen = {"observation/image/" + name: np.zeros(size, np.uint8) for name, size in said["cameras"].items()}
seen["observation/joints"] = {name: np.float32(0.02) for name in said["joints"]}
for words in ("touch the red cube", "touch the blue cube"):
    reply = policy.infer({**seen, "prompt": words})
    assert reply["actions"].shape == (8, 4) and reply["actions"].dtype == np.float64, reply
    assert np.allclose(reply["actions"], [0, 0, 0, 0.5]) and reply["server_timing"]["infer_ms"] >= 0
try:
    policy.infer({"prompt": "go"})
except RuntimeError as error:
    assert "the request lacks observation/image/front" in str(error)
else:
    raise AssertionError("an error was expected")
assert policy.infer({**seen, "prompt": words})["actions"].shape == (8, 4)
print("openpi-client is served")
"""


def test_the_unmodified_openpi_client_is_served():
    python = os.environ.get("OPENPI_PYTHON")
    if not python:
        pytest.skip(HOW)
    with serving("--policy", "hold") as address:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run([python, "-c", OPENPI, address], capture_output=True, text=True, env=environment)
    assert done.returncode == 0 and "is served" in done.stdout, done.stderr


OPENVLA = """
import sys
import json_numpy
import numpy as np
import requests
json_numpy.patch()
url = sys.argv[1].replace("ws:", "http:") + "/act"
seen = {"image": np.zeros((96, 96, 3), dtype=np.uint8), "instruction": "do something"}
action = requests.post(url, json=seen).json()
assert action.shape == (2,) and np.allclose(action, [0, 0]), action
action = requests.post(url, json={**seen, "image": seen["image"][:9]}).json()
assert action.startswith("error: camera 'front' gives"), action
print("OpenVLA's client is served")
"""


def test_what_openvla_tells_its_users_to_call_is_served():
    pytest.importorskip("json_numpy", reason="what OpenVLA's clients use: pip install json-numpy requests")
    pytest.importorskip("requests", reason="what OpenVLA's clients use: pip install json-numpy requests")
    with serving("--policy", "hold", "--robot", "husky") as address:
        done = subprocess.run([sys.executable, "-c", OPENVLA, address], capture_output=True, text=True)
    assert done.returncode == 0 and "is served" in done.stdout, done.stderr


DUMMY = """
import importlib.util, json, sys
import numpy as np
found = importlib.util.spec_from_file_location("server", sys.argv[1])
server = importlib.util.module_from_spec(found)
found.loader.exec_module(server)

class Dummy:
    def infer(self, seen):
        if seen["prompt"] == "fail":
            raise ValueError("not today")
        assert seen["observation/image/front"].shape == (128, 128, 3)
        return {"actions": np.full((8, 4), 0.25, np.float32), "policy_timing": {"infer_ms": 2.0}}

server.WebsocketPolicyServer(Dummy(), "127.0.0.1", int(sys.argv[2]), json.loads(sys.argv[3])).serve_forever()
"""


@pytest.mark.parametrize("declares", [True, False], ids=["where it says what its actions mean", "where a file does"])
def test_openpis_own_server_is_understood(declares, tmp_path):
    python, file = os.environ.get("OPENPI_PYTHON"), os.environ.get("OPENPI_SERVER")
    if not python or not file:
        pytest.skip(SERVER + HOW)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    said = json.dumps(metadata(HoldPolicy(PANDA), PANDA, "dummy") if declares else {})
    spec = tmp_path / "dummy.yaml"
    spec.write_text(json.dumps({"action": PANDA.action.to_dict(), "images": {"observation/image/front": "front"}}))
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    address = f"ws://127.0.0.1:{port}?deadline=60" + ("" if declares else f"&spec={spec}")
    process = subprocess.Popen([python, "-c", DUMMY, file, str(port), said], env=environment)
    try:
        policy = patiently(lambda: open_policy(address, PANDA))
        chunk = policy.infer(observation(PANDA))
        np.testing.assert_array_equal(chunk.values, np.full((8, 4), 0.25))
        assert chunk.timings["infer"] == 0.002 and "network" in chunk.timings
        with pytest.raises(RemoteError, match="it answers: ValueError: not today"):
            policy.infer(observation(PANDA, "fail"))
        assert len(patiently(lambda: policy.infer(observation(PANDA))).values) == 8, "over a new connection"
    finally:
        process.kill()
        process.wait()


def patiently(ask, deadline: float = 120.0):
    """What ask() returns, once it raises no RemoteError."""
    end = time.monotonic() + deadline
    while True:
        try:
            return ask()
        except RemoteError:
            assert time.monotonic() < end
            time.sleep(0.05)
