"""The launch files start a node again as `vla up` does: later each time, and not for ever. Nothing is started here."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip("launch_ros", reason="launch comes with a distribution of ROS 2, not from PyPI")

from launch import LaunchContext  # noqa: E402
from launch.actions import EmitEvent, LogInfo, TimerAction  # noqa: E402
from launch.events import Shutdown  # noqa: E402
from launch.events.process import ProcessExited  # noqa: E402

from vla_ros.backoff import MOST  # noqa: E402
from vla_ros.bringup import Process  # noqa: E402
from vla_ros.errors import VlaError  # noqa: E402
from vla_ros.nodes.launching import after, node_action  # noqa: E402

COMMAND, ENVIRONMENT = ["nice", "policy_node", "-r", "__ns:=/arm1"], {"OMP_NUM_THREADS": "1"}


def process(restart: bool = True) -> Process:
    return Process("policy_node", {"robot": "husky"}, ("topic", "vla/policy_status"), restart=restart)


def ending(returncode: int) -> ProcessExited:
    return ProcessExited(action=node_action(process()), name="policy_node-1", cmd=COMMAND, cwd=None, env=ENVIRONMENT,
                         pid=1, returncode=returncode)


def only(kind: type, actions: list):
    """The one action that does something, beside a word about it."""
    found, = [action for action in actions if not isinstance(action, LogInfo)]
    assert isinstance(found, kind)
    return found


def ends_all(actions: list) -> bool:
    return isinstance(only(EmitEvent, actions).event, Shutdown)


def test_what_ends_is_started_later_each_time_and_then_ends_all():
    ended, context = after(process()), LaunchContext()
    delays = [only(TimerAction, ended(ending(-9), context)).period for _ in range(MOST - 1)]
    assert delays == [1.0, 2.0, 4.0, 8.0]
    assert ends_all(ended(ending(-9), context))


def test_each_process_has_delays_of_its_own():
    for _ in range(2):
        assert only(TimerAction, after(process())(ending(-9), LaunchContext())).period == 1.0


def test_the_same_command_is_started_in_the_same_environment_whatever_launch_knows_by_then():
    context = LaunchContext()
    context.launch_configurations.update({"launch-prefix": "nice", "ros_namespace": "other"})
    again, = only(TimerAction, after(process())(ending(-9), context)).actions
    again.prepare(context)
    details = again.process_details
    assert details["cmd"] == COMMAND and details["env"] == ENVIRONMENT and details["name"].startswith("policy_node-")


@pytest.mark.parametrize("restart, returncode", [(False, -9), (False, 0), (True, VlaError.exit_code)])
def test_what_must_not_be_started_again_ends_all_at_once(restart, returncode):
    assert ends_all(after(process(restart))(ending(returncode), LaunchContext()))


@pytest.mark.parametrize("restart", [True, False])
def test_nothing_follows_the_end_of_a_process_while_launch_ends(restart):
    assert not after(process(restart))(ending(-2), SimpleNamespace(is_shutdown=True))
