"""What a node's process takes from anybody who can reach it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters, SetParametersAtomically

from vla_ros.nodes import running
from vla_ros.nodes.client import Client
from vla_ros.nodes.domains import free_domain

READY = 90.0  # [s] on a busy machine
NONE, GOOD = ParameterValue(type=77), ParameterValue(type=ParameterType.PARAMETER_BOOL)


@pytest.fixture
def domain():
    """One in which a task node runs, as a process of its own; it must be there at the end, too."""
    domain = free_domain()
    child = subprocess.Popen([sys.executable, "-m", "vla_ros.nodes.task_node"], stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL, env=os.environ | {"ROS_DOMAIN_ID": str(domain)})
    yield domain
    assert child.poll() is None, "the node has ended"
    child.terminate()
    child.wait(20.0)


def ask(client, kind, name, **fields):
    service = client.node.create_client(kind, name)
    assert client.spin_until(service.service_is_ready, READY), name
    future = service.call_async(kind.Request(**fields))
    assert client.spin_until(future.done, READY), f"an answer of {name}"
    return future.result()


def test_a_parameter_of_a_type_that_there_is_not_fails_with_a_reason_and_ends_nothing(domain):
    wanted = [Parameter(name="use_sim_time", value=NONE), Parameter(name="use_sim_time", value=GOOD)]
    with Client("user", domain=domain) as client:
        bad, good = ask(client, SetParameters, "task_node/set_parameters", parameters=wanted).results
        assert not bad.successful and "77" in bad.reason and good.successful, "one by one"
        result = ask(client, SetParametersAtomically, "task_node/set_parameters_atomically", parameters=wanted).result
        assert not result.successful and "77" in result.reason
        assert ask(client, SetParameters, "task_node/set_parameters", parameters=wanted[1:]).results[0].successful


def test_a_process_hurries_where_it_is_allowed_to(monkeypatch):
    asked = []
    monkeypatch.setattr(os, "setpriority", lambda *given: asked.append(given))
    assert running.hurry() and asked == [(os.PRIO_PROCESS, 0, running.PRIORITY)]

    def refuse(*given):
        raise PermissionError
    monkeypatch.setattr(os, "setpriority", refuse)
    assert not running.hurry(), "it runs as any other"


ASKED_WHILE_MADE = """
import os, signal, sys
from vla_ros.nodes import running
from vla_ros.nodes.task_node import TaskNode

make = running.make_executor
def make_executor():
    os.kill(os.getpid(), signal.SIGTERM)
    print("waits for the executor")
    return make()
running.make_executor = make_executor
sys.exit(running.run(TaskNode))
"""


def test_a_request_to_end_does_not_cut_the_making_of_an_executor_short():
    """It would abort the process, and leave its shared memory."""
    done = subprocess.run([sys.executable, "-c", ASKED_WHILE_MADE], text=True, capture_output=True, timeout=READY,
                          env=os.environ | {"ROS_DOMAIN_ID": str(free_domain())})
    assert done.returncode == 0, done.stderr
    assert "waits for the executor" in done.stdout
