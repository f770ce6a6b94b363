"""The launch files with the real `ros2 launch`, where a distribution (or a build of its sources) has it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess

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


def test_a_misspelt_argument_ends_the_launch():
    done = subprocess.run([ROS2, "launch", launch_file("robot"), "robot:=pandas"], capture_output=True, text=True,
                          env=os.environ | {"ROS_DOMAIN_ID": str(free_domain())}, timeout=120)
    assert done.returncode != 0 and "did you mean 'panda'" in done.stdout + done.stderr
