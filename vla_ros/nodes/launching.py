"""From bringup's descriptions to launch actions. Only launch files import this: `launch` comes with a distribution."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from launch.actions import DeclareLaunchArgument, EmitEvent, OpaqueFunction, SetEnvironmentVariable
from launch.events import Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from vla_ros.backoff import FIRST, Backoff
from vla_ros.bringup import Argument, Process, SystemDescription, literal
from vla_ros.errors import VlaError


def launch_actions(arguments: tuple[Argument, ...], describe: Callable[..., SystemDescription]) -> list:
    """The arguments, declared, and the nodes, made when their values are known."""
    def nodes(context) -> list:
        values = {a.name: LaunchConfiguration(a.name).perform(context) for a in arguments}
        description = describe(**values)
        environment = [SetEnvironmentVariable(name, value) for name, value in description.environment.items()
                       if name not in os.environ]
        return environment + [node_action(process) for process in description.processes]

    return [declared(argument) for argument in arguments] + [OpaqueFunction(function=nodes)]


def declared(argument: Argument) -> DeclareLaunchArgument:
    default = argument.default if isinstance(argument.default, str) else literal(argument.default)
    choices = {"choices": list(argument.choices)} if argument.choices else {}
    return DeclareLaunchArgument(argument.name, default_value=default, description=argument.description, **choices)


def node_action(process: Process) -> Node:
    """One node. Its end is that of all others, unless it may be started again, took its input, and ends seldom."""
    backoff, shutdown = Backoff(), EmitEvent(event=Shutdown(reason=f"{process.name} has ended"))

    def ended(event, context):
        again = process.restart and event.returncode != VlaError.exit_code
        return None if again and backoff.ended(time.monotonic()) is not None else [shutdown]

    return Node(package="vla_ros", executable=process.name, name=process.name, namespace=process.namespace,
                parameters=[dict(process.parameters)], remappings=list(process.remappings), output="screen",
                ros_arguments=["--enclave", process.enclave],
                on_exit=ended, respawn=process.restart, respawn_delay=FIRST)
