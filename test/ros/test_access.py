"""The SROS2 policy against the graph: what the real nodes open is what they may, no less and no more.

The middleware that PyPI's ROS 2 brings was built without security (docs/security.md), so that nothing is enforced here.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from vla_ros.nodes.client import TOPICS, Client
from vla_ros.nodes.control_node import ControlNode
from vla_ros.nodes.policy_node import PolicyNode
from vla_ros.nodes.sim_node import SimNode
from vla_ros.nodes.task_node import TaskNode
from vla_ros.nodes.watchdog_node import WatchdogNode
from vla_ros.profile import load_profile
from vla_ros.security import INSIDE, access

ACTION = "/_action/"
OPENED = {"publish": "publisher", "subscribe": "subscriber", "reply": "service", "request": "client"}


def opened(node, name=None):
    """Full names by kind of access; an action's topics and services are one name."""
    names = {kind: {n for n, _ in getattr(node, f"get_{what}_names_and_types_by_node")(name or node.get_name(), "/")}
             for kind, what in OPENED.items()}
    actions = {kind: {name.split(ACTION)[0] for name in found if ACTION in name} for kind, found in names.items()}
    plain = {kind: {name for name in found if ACTION not in name} for kind, found in names.items()}
    plain["subscribe"] |= {name for name in names["subscribe"]  # feedback of an action that it does not call
                           if ACTION in name and name.split(ACTION)[0] not in actions["request"]}
    return plain | {"execute": actions["publish"] | actions["reply"], "call": actions["request"]}


def allowed(may, node):
    """The same, of the policy."""
    def full(name):
        return name.replace("~", f"/{node}") if name[0] == "~" else name if name[0] == "/" else f"/{name}"
    return {kind: {full(name) for name in names} for kind, names in vars(may).items()}


@pytest.mark.parametrize("robot", ["panda", "husky"])
@pytest.mark.parametrize("make, parameters", [
    (PolicyNode, {"policy": "hold"}), (PolicyNode, {"policy": "hold", "compressed": True}), (ControlNode, {}),
    (TaskNode, {}), (SimNode, {"world": "mock"})], ids=["policy", "compressed", "control", "task", "sim"])
def test_what_a_node_opens_is_what_it_may(bench, robot, make, parameters):
    if make is not TaskNode:
        parameters = parameters | {"robot": robot}
    if make is not SimNode:
        parameters = parameters | {"use_sim_time": True}
    node = bench.start(make, **parameters)
    may = access(load_profile(robot), parameters.get("compressed", False))
    for name in (node.get_name(), *(n for n, process in INSIDE.items() if process == node.get_name())):
        bench.until(lambda name=name: name in node.get_node_names(), name)
        bench.until(lambda name=name: opened(node, name) == allowed(may[name], name), f"the graph of {name}")


def test_what_the_watchdog_opens_is_what_it_may(bench):
    node = bench.start(WatchdogNode, robot="husky", use_sim_time=True)
    may = access(load_profile("husky"))["watchdog_node"]
    bench.until(lambda: opened(node) == allowed(may, "watchdog_node"), "the graph of the watchdog")
    assert "watchdog_node" not in access(load_profile("panda")), "a trajectory ends by itself"


def test_what_the_operators_client_opens_is_what_it_may(bench):
    with Client("vla_send", domain=bench.domain) as client:
        for topic, (kind, quality) in TOPICS.items():  # those by which it sees that a system is ready
            client.subscribe(kind, topic, lambda message: None, quality)
        assert opened(client.node) == allowed(access(load_profile("panda"))["vla_send"], "vla_send")


@pytest.mark.parametrize("strategy", ["Enforce", "Permissive"])
@pytest.mark.parametrize("node", ["control_node", "policy_node"])
def test_a_node_that_is_told_to_use_security_does_not_run_open(tmp_path, node, strategy):
    """Here without plugins of security: it ends, so that nobody unauthorised has an effect on it."""
    (tmp_path / "enclaves" / "vla_ros" / node).mkdir(parents=True)
    told = {"ROS_SECURITY_ENABLE": "true", "ROS_SECURITY_STRATEGY": strategy, "ROS_SECURITY_KEYSTORE": str(tmp_path)}
    command = [sys.executable, "-m", f"vla_ros.nodes.{node}", "--ros-args", "--enclave", f"/vla_ros/{node}"]
    done = subprocess.run(command, env=os.environ | told, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0 and "security" in done.stderr.lower(), done.stderr
