"""A server in another Python, on this machine alone: it ends with this process, and is started again when it ends.

The socket that it listens on is made here and stays, so that its address is the same whoever of its lives answers.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import socket
import subprocess
import threading
import time
import weakref
from collections.abc import Sequence
from pathlib import Path

from vla_ros.backoff import Backoff
from vla_ros.errors import CheckpointError, RemoteError
from vla_ros.remote.address import TOKEN

# What would lead another Python to our packages, or to those of a sourced ROS distribution.
LEFT_OUT = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LD_PRELOAD")
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}  # what a checkpoint is made of is on this machine
GRACE = 5.0  # [s] to end by itself


class Life:
    """What one thread keeps alive. script: run by `python` as `script --socket FD arguments`, told the token by the
    environment. It says one line of JSON on its standard output: {} when it listens, {"error": TEXT} when it cannot.
    """

    def __init__(self, python: str, script: Path, arguments: Sequence[str]):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.token = secrets.token_urlsafe()
        self.command = [python, "-I", str(script), "--socket", str(self.socket.fileno()), *arguments]
        self.said = threading.Event()  # it has said something, or ended
        self.ready, self.why, self.closing = False, "is loading", threading.Event()
        self.process: subprocess.Popen | None = None

    def run(self) -> None:
        backoff = Backoff()
        while not self.closing.is_set():
            try:
                code, error = self._once()
            except OSError as failed:
                code, error = None, f"cannot be started: {failed.strerror}"
            self.ready, self.why = False, error or f"ended with code {code}"
            if not self.said.is_set():  # it never served: whoever waits is told so
                break
            delay = backoff.ended(time.monotonic())
            if delay is None:
                self.why += ", too often: it is not started again"
                break
            if not self.closing.is_set():
                logging.getLogger(__name__).warning("%s %s; started again in %g s", self.command[2], self.why, delay)
            self.why += ", and is started again"
            self.closing.wait(delay)
        self.said.set()

    def _once(self) -> tuple[int, str]:
        """From its start to its end: exit code, and why it could not serve."""
        environment = {name: value for name, value in os.environ.items() if name not in LEFT_OUT}
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        env=environment | OFFLINE | {TOKEN: self.token},
                                        pass_fds=[self.socket.fileno()])
        with self.process as process:
            if self.closing.is_set():  # just now
                process.terminate()
            error = first_words(process.stdout.readline(1 << 16))
            if error is None:
                self.ready = True
                self.said.set()
            process.stdout.read()  # to its end: nothing else comes
            return process.wait(), error or ""

    def close(self) -> None:
        self.closing.set()
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(GRACE)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.socket.close()


class Child:
    """name: what to call it in errors."""

    def __init__(self, name: str, python: str, script: Path, arguments: Sequence[str]):
        self.name, self._life = name, Life(python, script, arguments)
        self.close = weakref.finalize(self, self._life.close)
        threading.Thread(target=self._life.run, name=name, daemon=True).start()

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self._life.socket.getsockname()[1]}"

    @property
    def token(self) -> str:
        return self._life.token

    @property
    def pid(self) -> int:
        """Of the process that runs now, or ran last."""
        return self._life.process.pid

    def wait(self, seconds: float) -> None:
        """Until it serves. Raises CheckpointError with the reason why it does not."""
        said = self._life.said.wait(seconds)
        if not self._life.ready:
            self.close()
            raise CheckpointError(f"{self.name}: {self._life.why if said else f'not loaded within {seconds:g} s'}")

    def require(self) -> None:
        """Raises RemoteError while it does not serve."""
        if not self._life.ready:
            raise RemoteError(f"{self.name} {self._life.why}")


def first_words(line: bytes) -> str | None:
    """None: it serves; else why not, empty where it ended without a word."""
    try:
        said = json.loads(line)
    except ValueError:
        return " ".join(line.decode(errors="replace").split())[:300]
    return str(said["error"])[:300] if isinstance(said, dict) and "error" in said else None
