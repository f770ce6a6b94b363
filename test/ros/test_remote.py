"""A policy node whose policy runs elsewhere: while the server is away it says so and nothing moves; then it goes on."""

from __future__ import annotations

import pytest

pytest.importorskip("aiohttp", reason="remote policies need it: pip install 'vla_ros[remote]'")
pytest.importorskip("msgpack", reason="remote policies need it: pip install 'vla_ros[remote]'")

from rest_samples import FILE, answering  # noqa: E402
from serving_samples import serving  # noqa: E402
from test_policy_node import PANDA, Robot  # noqa: E402
from vla_ros.msg import PolicyStatus  # noqa: E402

from vla_ros.nodes import policy_node  # noqa: E402
from vla_ros.policies import open_policy  # noqa: E402
from vla_ros.policies.hold import HoldPolicy  # noqa: E402


def test_while_the_server_is_away_nothing_is_answered_and_afterwards_it_is(bench, monkeypatch):
    with serving(HoldPolicy(PANDA), PANDA) as made:
        monkeypatch.setattr(policy_node, "open_policy",
                            lambda source, profile: open_policy(f"{made.address}?deadline=20", profile))
        robot = Robot(bench)
        robot.say("touch the red cube")
        bench.until(lambda: robot.chunks, "a chunk", robot.observe)
        assert "network" in robot.chunks[0].stages and "network" in robot.node.inferring.stages.windows
    status = robot.until_status(PolicyStatus.FAILED, robot.observe)
    assert made.address in status.detail
    before = len(robot.chunks)
    bench.until(lambda: "is away" in robot.statuses[-1].detail or None, "back-off", robot.observe)
    assert len(robot.chunks) == before
    with serving(HoldPolicy(PANDA), PANDA, port=made.port):
        bench.until(lambda: len(robot.chunks) > before, "a chunk", robot.observe)
        robot.until_status(PolicyStatus.RUNNING, robot.observe)


@pytest.mark.parametrize("bad", [b'"error"', b"[0, 0, 9, 1]"], ids=str)
def test_what_a_rest_server_must_not_say_is_never_a_chunk(bench, monkeypatch, tmp_path, bad):
    file = tmp_path / "server.yaml"
    file.write_text(FILE.replace("droll, dpitch, dyaw, ", "").replace("rad, rad, rad, ", "").replace("0.2", "0.1")
                    .replace("image: front", "image: front, wrist_image: wrist"))
    with answering(bad) as made:
        monkeypatch.setattr(policy_node, "open_policy", lambda source, profile: made.client(file, profile))
        monkeypatch.setattr(policy_node, "warm_up", lambda policy, profile: None)  # it would end the node
        robot = Robot(bench)
        robot.say("touch the red cube")
        status = robot.until_status(PolicyStatus.FAILED, robot.observe)
        assert f"http://127.0.0.1:{made.port}/act: " in status.detail and robot.chunks == []
        made.answer = b"[0, 0, 0, 1]"
        bench.until(lambda: robot.chunks, "a chunk", robot.observe)
    assert list(robot.chunks[0].values) == [0, 0, 0, 1]
