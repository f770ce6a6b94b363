"""System: the processes of a SystemDescription, started, watched and ended together. Only its client needs ROS."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable

from vla_ros.backoff import MOST, WINDOW, Backoff
from vla_ros.bringup import PARENT, Process, SystemDescription
from vla_ros.errors import VlaError
from vla_ros.nodes.shared_memory import files_of, remove_unused

GRACE = 5.0  # [s] that processes have to end by themselves
AGAIN = 1.5  # [s] after which they are asked again
TAIL = 40  # lines of output that are kept of each: as many as the stacks of a crash take


class ProcessError(VlaError):
    """A process of the system ended by itself. exit_code: 2 when that of the process said that its input was wrong."""

    def __init__(self, message: str, code: int):
        super().__init__(message)
        self.exit_code = 2 if code == VlaError.exit_code else 1


class Running:
    """One process and the thread that reads its output. It gets a session of its own: Ctrl-C reaches us alone."""

    def __init__(self, process: Process, environment: dict[str, str], output: Callable[[str, str], None]):
        self.name = process.name
        self.tail: deque[str] = deque(maxlen=TAIL)
        self._output = output
        self.child = subprocess.Popen(
            [sys.executable, "-m", process.module, *process.ros_arguments()], env=environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace",
            start_new_session=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.child.stdout:
            self.tail.append(line.rstrip("\n"))
            self._output(self.name, self.tail[-1])

    def ended(self) -> bool:
        return self.child.poll() is not None

    def signal(self, number: int) -> None:
        """To the whole session of the process; one that is gone already is not an error."""
        try:
            os.killpg(self.child.pid, number)
        except ProcessLookupError:
            pass

    def obituary(self) -> str:
        """How it ended, and its last words."""
        self.join(1.0)
        code = self.child.returncode
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        return f"{how}: {last_words(list(self.tail))}"

    def join(self, timeout: float) -> None:
        self._reader.join(timeout)
        self.child.stdout.close()


def last_words(lines: list[str]) -> str:
    """The last line that says something; of a crash, as Python's faulthandler tells it, where it was."""
    where = [i for i, line in enumerate(lines[:-1]) if line.startswith(("Current thread", "Stack (most recent"))]
    if where:
        return f"crashed in {lines[where[-1] + 1].strip()}"
    return next((line for line in reversed(lines) if line.strip()), "no output")


class System:
    """Use it in a `with` statement: on leaving it nothing of it runs any more.

    output: gets (process name, line) from a thread; the default discards (the last lines are in errors).
    environment: for the processes, over the description's; domain: ROS domain id, None for the environment's.
    restart: start again what crashes, where the description says so; else every end is an error.
    """

    def __init__(self, description: SystemDescription, output: Callable[[str, str], None] | None = None,
                 domain: int | None = None, environment: dict[str, str] | None = None, restart: bool = False):
        self.description, self.domain, self.restart = description, domain, restart
        self.restarts = 0
        self._output = output or (lambda name, line: None)
        own = {PARENT: str(os.getpid()), "PYTHONUNBUFFERED": "1"}
        if domain is not None:
            own["ROS_DOMAIN_ID"] = str(domain)
        self._environment = {**description.environment, **os.environ, **(environment or {}), **own}
        self.processes: list[Running] = []
        self.ends: dict[str, str] = {}  # of processes that did not end well when they were asked to, how they did
        self._backoffs = {process.name: Backoff() for process in description.processes}
        self._due: dict[str, float] = {}  # [s] steady, when a process that ended is to be started again

    def start(self) -> System:
        for process in self.description.processes:
            self.processes.append(self._start(process))
        return self

    def _start(self, process: Process) -> Running:
        return Running(process, self._environment, self._output)

    def __enter__(self) -> System:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *error) -> None:
        self.stop()

    def check(self) -> None:
        """To be called often. Raises ProcessError, naming it and its last words, when a process has ended for good."""
        for place, (process, running) in enumerate(zip(self.description.processes, self.processes, strict=True)):
            if not running.ended():
                continue
            if process.name not in self._due:
                self._due[process.name] = time.monotonic() + self._delay(process, running)
            elif time.monotonic() >= self._due[process.name]:
                del self._due[process.name]
                self.processes[place], self.restarts = self._start(process), self.restarts + 1

    def _delay(self, process: Process, running: Running) -> float:
        """[s] until a process that has ended is to be started again. Who refused its input would do so again."""
        code, obituary = running.child.returncode, running.obituary()
        if not (self.restart and process.restart) or code == VlaError.exit_code:
            raise ProcessError(f"{process.name} {obituary}", code)
        delay = self._backoffs[process.name].ended(time.monotonic())
        if delay is None:
            often = f"{MOST} times within {WINDOW:g} s"
            raise ProcessError(f"{process.name} has ended {often}; the last time it {obituary}", code)
        self._output(process.name, f"{obituary}; started again in {delay:g} s, then to be given a new instruction")
        return delay

    def wait_ready(self, timeout: float = 60.0, watch: Callable[[], None] | None = None) -> None:
        """Returns when every node is ready; raises ProcessError or NoSystemError. watch: called often, may raise."""
        with self.client("vla_ready") as client:
            client.wait_ready(self.description, timeout, watch or self.check)

    def client(self, name: str = "vla_client"):
        """A Client in the system's domain and namespace."""
        from vla_ros.nodes.client import Client
        with self._transports():
            return Client(name, self.description.namespace, self.domain)

    def _transports(self):
        return Overlay({name: self._environment[name] for name in self.description.environment})

    def stop(self) -> None:
        """Ends all processes: asks first, more than once, as a request that comes while a node's executor puts its own
        handlers in place is lost; and kills what is left after a while."""
        begin, asked = time.monotonic(), 0
        while (past := time.monotonic() - begin) < GRACE and not all(running.ended() for running in self.processes):
            if past >= asked * AGAIN:
                asked += 1
                for running in self.processes:
                    running.signal(signal.SIGTERM)
            time.sleep(0.02)
        left = set().union(*(files_of(running.child.pid) for running in self.processes if not running.ended()))
        for running in self.processes:
            running.signal(signal.SIGKILL)
            if running.child.wait():
                self.ends[running.name] = running.obituary()
            running.join(1.0)
        remove_unused(left)
        self.processes = []


class Overlay:
    """Environment variables for the time of a `with` statement: what a participant is made with in this process."""

    def __init__(self, values: dict[str, str]):
        self._values, self._before = values, {}

    def __enter__(self) -> None:
        self._before = {name: os.environ.get(name) for name in self._values}
        os.environ.update(self._values)

    def __exit__(self, *error) -> None:
        for name, value in self._before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
