"""A server that speaks GR00T's protocol over ZeroMQ, written from its description: for tests."""

from __future__ import annotations

import io
import threading
from contextlib import contextmanager

import msgpack
import numpy as np
import zmq
from rest_samples import FILE, SEVEN

from vla_ros.policies import open_policy

NAMES = SEVEN.action.names
GR00T = FILE.replace("horizon: 1", "horizon: 2").replace("images: {image: front}", """images: {front: front}
state:
  arm: [joints]
  gripper: [gap]
""")


def npy(values) -> dict:
    out = io.BytesIO()
    np.save(out, values, allow_pickle=False)
    return {"__ndarray_class__": True, "as_npy": out.getvalue()}


def modality(keys, moments=1) -> dict:
    return {"__ModalityConfig_class__": True, "as_json": {
        "modality_keys": list(keys), "delta_indices": list(range(moments)), "action_configs": None}}


def configs(**changes) -> dict:
    return {"video": modality(["front"]), "state": modality(["arm", "gripper"]), "language": modality(["task"]),
            "action": modality(["hand", "gripper"], 2)} | changes


def actions(hand=0.01, gripper=1.0) -> list:
    """What get_action returns: actions and info."""
    of = {"hand": np.full((1, 2, 6), hand, np.float32), "gripper": np.full((1, 2, 1), gripper, np.float32)}
    return [{key: npy(values) for key, values in of.items()}, {}]


class Server:
    """answer: what get_action returns; bytes go as they are, None: says nothing. asked: the requests."""

    def __init__(self, answer, configs, port: int, token: str):
        self.answer, self.configs, self.token, self.asked = answer, configs, token, []
        self._context, self._ending = zmq.Context(), threading.Event()
        self._socket = self._context.socket(zmq.ROUTER)  # as REP is to its clients, and can leave one without an answer
        self.port = port or self._socket.bind_to_random_port("tcp://127.0.0.1")
        if port:
            self._socket.bind(f"tcp://127.0.0.1:{port}")
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def client(self, file, profile=SEVEN, deadline=60):
        """Patient: the machine may have much else to do."""
        return open_policy(f"gr00t://127.0.0.1:{self.port}?spec={file}&deadline={deadline}", profile)

    def stop(self) -> None:
        self._ending.set()
        self._thread.join()
        self._socket.close(linger=0)
        self._context.term()

    def _run(self) -> None:
        while not self._ending.is_set():
            if not self._socket.poll(50):
                continue
            who, _, data = self._socket.recv_multipart()
            request = msgpack.unpackb(data)
            self.asked.append(request)
            said = self._said(request)
            if said is not None:
                self._socket.send_multipart([who, b"", said if isinstance(said, bytes) else msgpack.packb(said)])

    def _said(self, request):
        if self.token and request.get("api_token") != self.token:
            return {"error": "Unauthorized: Invalid API token"}
        return {"get_modality_config": self.configs, "reset": {}, "get_action": self.answer}[request["endpoint"]]


@contextmanager
def serving(answer=None, configured=None, port: int = 0, token: str = ""):
    made = Server(actions() if answer is None else answer, configured or configs(), port, token)
    try:
        yield made
    finally:
        made.stop()
