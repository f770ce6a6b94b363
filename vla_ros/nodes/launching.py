"""From bringup's descriptions to launch actions. Only launch files import this: `launch` comes with a distribution."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from launch import LaunchContext
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    LogInfo,
    OpaqueFunction,
    SetEnvironmentVariable,
    TimerAction,
)
from launch.events import Shutdown
from launch.events.process import ProcessExited
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from vla_ros.backoff import MOST, WINDOW, Backoff
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
    return Node(package="vla_ros", executable=process.name, name=process.name, namespace=process.namespace,
                parameters=[dict(process.parameters)], remappings=list(process.remappings), output="screen",
                ros_arguments=["--enclave", process.enclave], on_exit=after(process))


def after(process: Process) -> Callable[[ProcessExited, LaunchContext], list]:
    """What follows the end of a process: it is started again, later each time, or all others end."""
    backoff = Backoff()

    def ended(event: ProcessExited, context: LaunchContext) -> list:
        if context.is_shutdown:
            return []
        again = process.restart and event.returncode != VlaError.exit_code
        delay = backoff.ended(time.monotonic()) if again else None
        if delay is None:
            often = f" {MOST} times within {WINDOW:g} s" if again else ""
            reason = f"{process.name} has ended{often}"
            return [LogInfo(msg=f"{reason}: so do all others"), EmitEvent(event=Shutdown(reason=reason))]
        # The same command again, and not another Node: by now a group around this launch file, with a namespace or
        # an environment of its own, is closed. The command has any prefix (--launch-prefix) already.
        same = ExecuteProcess(cmd=event.cmd, cwd=event.cwd, env=event.env, prefix="", name=process.name,
                              output="screen", on_exit=ended)
        return [LogInfo(msg=f"{process.name} is started again in {delay:g} s"),
                TimerAction(period=delay, actions=[same])]

    return ended
