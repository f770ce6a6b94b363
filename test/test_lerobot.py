"""A LeRobot checkpoint in a process of its own: the real server and the real client, with a stand-in for the model."""

import asyncio
import copy
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from core_samples import PANDA, observation
from lerobot_folder import wrote

pytest.importorskip("aiohttp", reason="LeRobot's policies need it: pip install 'vla_ros[remote]'")
pytest.importorskip("msgpack", reason="LeRobot's policies need it: pip install 'vla_ros[remote]'")

from test_policies import PolicyContract  # noqa: E402

from vla_ros.errors import CheckpointError, ObservationError, RemoteError  # noqa: E402
from vla_ros.lerobot import child  # noqa: E402
from vla_ros.lerobot.options import read_options  # noqa: E402
from vla_ros.policies.lerobot import LerobotPolicy  # noqa: E402

HERE = Path(__file__).resolve().parent
PATIENT = 60.0  # [s] until something must have happened, on a machine that may have much else to do
PERIOD = PANDA.action.period_ns


def opened(folder, options="deadline=60", **changes) -> LerobotPolicy:
    wrote(folder, **changes)
    return LerobotPolicy(read_options(f"lerobot:{folder}?python={sys.executable}&{options}"), PANDA,
                         HERE / "lerobot_standin.py")


def seen(words="go", stamp=0):
    return observation(PANDA, words, stamp)


def until(holds) -> None:
    end = time.monotonic() + PATIENT
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def runs(pid: int) -> bool:
    """A process that has ended, and whose end nobody has read yet, does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return opened(tmp_path_factory.mktemp("shared"))


class TestLerobot(PolicyContract):
    reads_images = True

    @pytest.fixture
    def profile(self):
        return PANDA

    @pytest.fixture
    def policy(self, shared):
        shared.reset()
        return shared


def test_it_is_told_what_the_file_says(shared):
    shared.reset()
    chunk = shared.infer(seen())
    height = seen().ee_pose.position[2]
    np.testing.assert_allclose(chunk.values, np.tile([0, 0, np.float32(height) * 0.1, 0.25], (8, 1)), rtol=1e-6)
    assert shared.infer(seen()).values[0, 0] == 0.001, "another seed, as LeRobot's noise is another each time"


def test_without_words_it_refuses_and_without_a_picture_it_does_not_answer(shared):
    assert shared.infer(seen("  ")).refusal == "the instruction is empty"
    blank = observation(PANDA, "go")
    blank.images["front"][:] = 7
    with pytest.raises(ObservationError, match="shows nothing"):
        shared.infer(blank)


def test_the_past_counts_where_it_is_a_period_ago(tmp_path):
    policy = opened(tmp_path, n_obs_steps=3)

    def counted(stamp: int) -> float:
        return 4 * policy.infer(seen(stamp=stamp)).values[0, 3]
    assert [counted(i * PERIOD) for i in range(4)] == [1, 2, 3, 3]
    assert counted(10 * PERIOD) == 1, "too long ago"
    assert counted(11 * PERIOD + PERIOD // 3) == 2
    other = copy.copy(policy)
    other.reset()
    assert 4 * other.infer(seen(stamp=12 * PERIOD)).values[0, 3] == 1, "an episode of its own"
    assert counted(12 * PERIOD) == 3, "which disturbs nobody else's"


@pytest.mark.parametrize("words, reason", [("raise", "ValueError: nothing at all"), ("nan", "not finite")])
def test_a_model_that_fails_is_an_error_of_one_line_and_no_motion(shared, words, reason):
    shared.reset()
    with pytest.raises(RemoteError, match=reason) as caught:
        shared.infer(seen(words))
    assert "\n" not in str(caught.value)
    until(lambda: answers(shared))


def answers(policy) -> bool:
    try:
        return bool(policy.infer(seen()).values.size)
    except RemoteError:
        return False


def test_a_server_that_dies_is_started_again_and_nothing_of_the_episode_is_lost(tmp_path):
    policy = opened(tmp_path, n_obs_steps=2)
    policy.infer(seen(stamp=0))
    before = policy.child.pid, policy.child.url
    with pytest.raises(RemoteError):
        policy.infer(seen("die", stamp=PERIOD))
    with pytest.raises(RemoteError, match="ended with code 7, and is started again"):
        until(policy.child.require)
    until(lambda: answers_at(policy, PERIOD))
    assert policy.child.pid != before[0] and policy.child.url == before[1], "another process at the same address"


def answers_at(policy, stamp) -> bool:
    try:
        return 4 * policy.infer(seen(stamp=stamp)).values[0, 3] == 2
    except RemoteError:
        return False


def test_one_that_dies_too_often_is_left_alone(tmp_path, monkeypatch):
    for name, value in {"FIRST": 0.01, "MOST": 2, "WINDOW": 1e6}.items():
        monkeypatch.setattr(f"vla_ros.backoff.{name}", value)
    policy = opened(tmp_path)
    for _ in range(2):
        until(lambda: policy.child._life.ready and runs(policy.child.pid))
        pid = policy.child.pid
        os.kill(pid, signal.SIGKILL)
        until(lambda: policy.child.pid != pid or "too often" in policy.child._life.why)  # noqa: B023
    with pytest.raises(RemoteError, match="ended with code -9, too often: it is not started again"):
        policy.infer(seen())


def test_a_call_has_a_deadline_and_an_inference_that_hangs_ends_its_process(tmp_path, monkeypatch):
    monkeypatch.setattr("vla_ros.policies.lerobot.HUNG", 0.2)
    policy = opened(tmp_path, "deadline=0.5")
    pid = policy.child.pid
    with pytest.raises(RemoteError, match="no answer within 0.5 s"):
        policy.infer(seen("sleep"))
    until(lambda: policy.child.pid != pid)


def test_what_cannot_be_loaded_says_why(tmp_path):
    with pytest.raises(CheckpointError, match=f"lerobot:{tmp_path}: RuntimeError: no such device"):
        opened(tmp_path, "device=broken")


def test_one_that_does_not_come_up_in_time_is_ended(tmp_path):
    with pytest.raises(CheckpointError, match="not loaded within 0.001 s"):
        opened(tmp_path, "start=0.001")


def test_nobody_else_is_answered(shared):
    import aiohttp

    async def knock(headers) -> int:
        async with aiohttp.ClientSession() as session:
            try:
                async with session.ws_connect(shared.child.url, headers=headers):
                    return 101
            except aiohttp.WSServerHandshakeError as error:
                return error.status
    assert asyncio.run(knock({})) == asyncio.run(knock({"Authorization": "Api-Key other"})) == 401
    assert asyncio.run(knock({"Authorization": f"Api-Key {shared.child.token}"})) == 101
    assert shared.child.url.startswith("ws://127.0.0.1:")


def test_another_environments_packages_are_not_led_to_ours(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    policy = opened(tmp_path)
    told = Path(f"/proc/{policy.child.pid}/environ").read_bytes().split(b"\0")
    assert not any(one.startswith((b"PYTHONPATH=", b"LD_PRELOAD=")) for one in told) and b"HF_HUB_OFFLINE=1" in told


def test_it_ends_with_its_policy(tmp_path):
    policy = opened(tmp_path)
    pid = policy.child.pid
    assert runs(pid)
    del policy
    until(lambda: not runs(pid))


def test_it_ends_with_its_parent_however_that_ends(tmp_path):
    code = ("import sys; sys.path.insert(0, 'test')\nfrom test_lerobot import Path, opened\n"
            f"policy = opened(Path({str(tmp_path)!r}))\nprint(policy.child.pid, flush=True)\nsys.stdin.read()\n")
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=HERE.parent, stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(HERE.parent)})
    with parent:
        pid = int(parent.stdout.readline())
        assert runs(pid)
        parent.kill()
    until(lambda: not runs(pid))


@pytest.mark.parametrize("line, words", [(b"{}\n", None), (b'{"error": "why"}\n', "why"), (b"", ""),
                                         (b"Killed\n", "Killed")])
def test_first_words(line, words):
    assert child.first_words(line) == words
