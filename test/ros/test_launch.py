"""The launch files with the real `ros2 launch`, where a distribution (or a build of its sources) has it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from test_system import READY, Lines, processes_of

from vla_ros.bringup import SYSTEMS
from vla_ros.nodes.domains import free_domain
from vla_ros.paths import data_folder

ROS2 = shutil.which("ros2")
pytestmark = pytest.mark.skipif(ROS2 is None, reason="no `ros2` command: it comes with a distribution, not from PyPI")


def launch_file(name: str) -> str:
    return str(data_folder("launch") / f"{name}.launch.py")


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_argument_is_described(name):
    done = subprocess.run([ROS2, "launch", launch_file(name), "--show-args"], capture_output=True, text=True,
                          timeout=120)
    assert done.returncode == 0, done.stderr
    for argument in SYSTEMS[name][1]:
        assert f"'{argument.name}':\n        {argument.description}" in done.stdout


def test_a_launched_system_runs_and_ends_on_ctrl_c():
    domain = free_domain()
    launch = subprocess.Popen([ROS2, "launch", launch_file("sim"), "policy:=hold", "world:=mock", "mode:=lockstep"],
                              env=os.environ | {"ROS_DOMAIN_ID": str(domain)}, text=True, start_new_session=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    lines = Lines(launch)
    for said in ("policy 'hold' for panda", "in lockstep", "mock, lockstep", "vla/execute is ready"):
        lines.wait(said, READY)
    os.killpg(launch.pid, signal.SIGINT)
    assert launch.wait(30.0) == 0, lines.text
    assert processes_of(domain) == [] and "Traceback" not in lines.text


def test_a_node_that_crashes_is_started_again_and_another_ends_the_launch():
    domain = free_domain()
    launch = subprocess.Popen([ROS2, "launch", launch_file("sim"), "policy:=hold", "world:=mock"],
                              env=os.environ | {"ROS_DOMAIN_ID": str(domain)}, text=True, start_new_session=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        lines = Lines(launch)
        for said in ("arm_controller/joint_trajectory', 60 Hz", "vla/execute is ready"):
            lines.wait(said, READY)
        os.kill(pid_of(domain, "control_node"), signal.SIGKILL)
        lines.wait("control_node is started again in 1 s", READY)
        lines.wait("(?s)arm_controller/joint_trajectory', 60 Hz.*arm_controller/joint_trajectory', 60 Hz", READY)
        os.kill(pid_of(domain, "task_node"), signal.SIGKILL)
        launch.wait(30.0)
        assert processes_of(domain) == [] and "Traceback" not in lines.text
    finally:
        if launch.poll() is None:
            os.killpg(launch.pid, signal.SIGKILL)


def pid_of(domain: int, node: str) -> int:
    """Of the process that runs a node in a domain."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (f"ROS_DOMAIN_ID={domain}".encode() in (folder / "environ").read_bytes().split(b"\0")
                    and f"/{node}".encode() in (folder / "cmdline").read_bytes()):
                return int(folder.name)
        except OSError:
            continue
    raise AssertionError(f"no {node} in domain {domain}")


def test_a_misspelt_argument_ends_the_launch():
    done = subprocess.run([ROS2, "launch", launch_file("robot"), "robot:=pandas"], capture_output=True, text=True,
                          env=os.environ | {"ROS_DOMAIN_ID": str(free_domain())}, timeout=120)
    assert done.returncode != 0 and "did you mean 'panda'" in done.stdout + done.stderr
