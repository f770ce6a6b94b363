"""A server in this process, on a free port, and clients to it: for tests."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import threading
from contextlib import contextmanager

import pytest

from vla_ros.policies import open_policy
from vla_ros.remote.messages import metadata
from vla_ros.serving.engine import Engine
from vla_ros.serving.server import Door, Server


def certificate(folder) -> tuple[str, str]:
    """PEM files of a certificate for this machine that signed itself, and of its key."""
    if not shutil.which("openssl"):
        pytest.skip("needs the command openssl")
    made = str(folder / "cert.pem"), str(folder / "key.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1",
                    "-keyout", made[1], "-out", made[0]], check=True, capture_output=True)
    return made


class Serving:
    """policy: what is served, on a robot; said: its metadata, where they are to be others."""

    def __init__(self, policy, profile, said=None, **door):
        self.policy, self.profile = policy, profile
        self.server = Server(Engine(policy, profile), said or metadata(policy, profile, "test"),
                             Door(**{"port": 0} | door))
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self.port = self.run(self.server.start())

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)

    @property
    def address(self) -> str:
        return f"ws{'s' if self.server.door.certificate else ''}://{self.server.door.host}:{self.port}"

    def client(self, options: str = "?deadline=60"):
        """Patient, where the options say nothing else: the machine may have much else to do."""
        return open_policy(self.address + options, self.profile)

    def stop(self) -> None:
        self.run(self.server.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)


@contextmanager
def serving(policy, profile, said=None, **door):
    made = Serving(policy, profile, said, **door)
    try:
        yield made
    finally:
        made.stop()
