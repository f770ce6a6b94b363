"""One fault of test/faults/ without its measurement of time: a killed control node leaves no velocity in force."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from vla_ros.nodes.domains import free_domain
from vla_ros.nodes.system import System
from vla_ros.profile import load_profile

sys.path.append(str(Path(__file__).resolve().parents[1] / "faults"))
from inject import READY, STILL, Bench, Motion, description  # noqa: E402


def test_a_killed_control_node_leaves_no_velocity_in_force(tmp_path):
    """The world holds the last velocity for a minute, and nobody starts the control node again."""
    what = description("husky", tmp_path)
    assert what.processes[-1].name == "watchdog_node" and what.processes[0].parameters["command_timeout"] == 60.0
    with System(what, domain=free_domain()) as system:
        system.wait_ready(READY)
        with system.client("observer") as client:
            motion = Motion(client, load_profile("husky"))
            goal = Bench(system, load_profile("husky"), 0).moving(client, motion)
            [control] = [running for running in system.processes if running.name == "control_node"]
            control.signal(signal.SIGKILL)
            assert client.spin_until(lambda: motion.speed < STILL, READY), "rest"
            begun = len(motion.measured)
            assert client.spin_until(lambda: len(motion.measured) > begun + 60, READY)
            assert max(speed for _, speed in motion.measured[begun:]) < STILL
            assert client.spin_until(lambda: goal.outcome, READY)
            assert goal.outcome == "halted" and "control node" in goal.message
