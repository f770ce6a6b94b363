"""Real nodes over DDS, each test in a ROS domain of its own; tests wait for events, with a deadline, never for time."""

from __future__ import annotations

import os
import time

import pytest

from vla_ros.bringup import THREADS, transports

os.environ.update(transports(os.environ, image=0) | THREADS)  # images are small here: none goes through shared memory
try:
    import rclpy
    import vla_ros.msg  # noqa: F401
    from rclpy.signals import SignalHandlerOptions
except ImportError as error:
    WHY = f"ROS 2 or the interfaces of vla_ros are not installed: run `make` ({error})"
else:
    WHY = ""

DEADLINE = 60.0  # [s] that an event may take on a machine with much else to do


class Skipped(pytest.Module):
    """A test module that cannot be imported here."""

    def collect(self):
        pytest.skip(WHY, allow_module_level=True)


def pytest_pycollect_makemodule(module_path, parent):
    return Skipped.from_parent(parent, path=module_path) if WHY else None


class Bench:
    """Nodes of one test in this process, and a peer to talk with them."""

    def __init__(self):
        from rclpy.executors import SingleThreadedExecutor

        from vla_ros.nodes.domains import free_domain
        self.domain = free_domain()
        self.nodes = []
        self.executor = None
        self._make_executor = SingleThreadedExecutor

    def start(self, make, **parameters):
        """A node with these parameters, and self.peer, a plain one."""
        from vla_ros.bringup import literal
        words = [word for name, value in parameters.items() for word in ("-p", f"{name}:={literal(value)}")]
        rclpy.init(args=["--ros-args", *words], domain_id=self.domain, signal_handler_options=SignalHandlerOptions.NO)
        self.executor = self._make_executor()
        self.node, self.peer = self.add(make()), self.add(rclpy.create_node("peer"))
        return self.node

    def add(self, node):
        self.executor.add_node(node)
        self.nodes.append(node)
        return node

    def listen(self, kind, topic, profile=10):
        """A list that grows by what is published."""
        heard = []
        self.peer.create_subscription(kind, topic, heard.append, profile)
        return heard

    def speak(self, kind, topic, profile=10):
        """A publisher that has found its reader."""
        publisher = self.peer.create_publisher(kind, topic, profile)
        self.until(lambda: publisher.get_subscription_count() > 0, f"a reader of {topic}")
        return publisher

    def until(self, condition, what="", meanwhile=lambda: None, deadline=DEADLINE):
        """Spins until the condition holds, and returns what it gave; meanwhile() runs every 20 ms."""
        end = time.monotonic() + deadline
        while not (value := condition()):
            assert time.monotonic() < end, f"waited {deadline:g} s for {what or condition}"
            meanwhile()
            pause = time.monotonic() + 0.02
            while time.monotonic() < pause:
                self.executor.spin_once(timeout_sec=max(0.0, pause - time.monotonic()))
        return value

    def close(self):
        for node in self.nodes:
            if hasattr(node, "close"):
                node.close()
        if self.executor is not None:
            self.executor.shutdown(timeout_sec=1.0)
        for node in self.nodes:
            node.destroy_node()
        rclpy.try_shutdown()


@pytest.fixture
def bench():
    made = Bench()
    yield made
    made.close()
