"""How a node's process begins and ends: one line for an error, exit code 0 and no traceback for SIGINT and SIGTERM."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial

import rclpy
from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import SetParameters, SetParametersAtomically
from rclpy.executors import Executor, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from vla_ros.bringup import PARENT
from vla_ros.errors import VlaError

PRIORITY = -10  # niceness; below 0 it takes CAP_SYS_NICE, or a `nice` limit in limits.conf
POLL = 0.1  # [s] how soon a request to end is noticed while nothing else happens


def make_executor(context=None) -> Executor:
    """The events executor where rclpy has it: it costs a quarter of the time for each message.

    It takes SIGINT and SIGTERM for itself, without asking, and leaves none at its end: for processes of our own only.
    """
    try:
        from rclpy.experimental.events_executor import EventsExecutor
    except ImportError:
        return SingleThreadedExecutor(context=context)
    return EventsExecutor(context=context)


class Ending:
    """True once the process was asked to end. While `loading`, the request ends it at once."""

    def __init__(self):
        self.loading, self.requested = True, False
        self.parent = int(os.environ.get(PARENT, "0"))
        self.listen()

    def listen(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._request)

    def _request(self, number, frame) -> None:
        self.requested = True
        if self.loading:
            raise SystemExit(0)

    def __bool__(self) -> bool:
        """Also when the `vla up` that started this process is gone, however it went."""
        return self.requested or (self.parent != 0 and os.getppid() != self.parent)


def hurry() -> bool:
    """This process wakes up before others, with all threads that it will have; False where that is not allowed."""
    try:
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
    except PermissionError:
        return False
    return True


def shield_parameters(node: Node) -> None:
    """A parameter of a type that there is not makes the request fail, with a reason: rclpy lets it end the node."""
    for service in node.services:
        if service.srv_type is SetParameters:
            service.callback = partial(set_each, service.callback)
        elif service.srv_type is SetParametersAtomically:
            service.callback = partial(set_together, service.callback)


def set_each(set_parameters, request: SetParameters.Request, response: SetParameters.Response):
    for parameter in request.parameters:
        try:
            one = set_parameters(SetParameters.Request(parameters=[parameter]), SetParameters.Response())
            response.results += one.results
        except Exception as error:  # whatever rclpy raises on what anybody may send
            response.results.append(refusal(error))
    return response


def set_together(set_parameters, request: SetParametersAtomically.Request, response: SetParametersAtomically.Response):
    try:
        return set_parameters(request, response)
    except Exception as error:  # as above
        response.result = refusal(error)
        return response


def refusal(error: Exception) -> SetParametersResult:
    return SetParametersResult(successful=False, reason=f"{type(error).__name__}: {error}")


def spin(node: Node, executor: Executor, ending: Ending) -> None:
    while not ending:
        executor.spin_once(timeout_sec=POLL)


def run(make: Callable[[], Node], args=None, loop=spin) -> int:
    """Makes a node and runs `loop` until the process is asked to end. Returns the exit code, unless a thread hangs."""
    code = run_node(make, args, loop)
    if any(thread.daemon for thread in threading.enumerate()):  # in a model: Python's own end would abort on it
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def run_node(make: Callable[[], Node], args, loop) -> int:
    ending, node, executor = Ending(), None, None
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = make()
        shield_parameters(node)
        ending.loading = False  # cut short while it is made, an executor aborts the process: its shared memory stays
        executor = make_executor()
        executor.add_node(node)
        ending.listen()  # the executor has put its own handlers there
        loop(node, executor, ending)
        return 0
    except VlaError as error:
        print(f"{make.__name__}: {error}", file=sys.stderr)
        return error.exit_code
    finally:
        ending.loading = False
        if node is not None:
            node.close()
        if executor is not None:
            executor.shutdown(timeout_sec=1.0)
            ending.listen()  # it leaves no handlers, and an impatient Ctrl-C must not cut the end short
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
