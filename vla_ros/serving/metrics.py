"""What a server counts, as Prometheus reads it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from vla_ros.serving.engine import PolicyError, Reply

PROTOCOLS = ("openpi", "act")
# answered: with a chunk or an action; refused: by the policy; unreadable: nothing can be inferred from it; failed: the
# policy did; turned_away: no token, a browser's page, or too many clients
OUTCOMES = ("answered", "refused", "unreadable", "failed", "turned_away")
BUCKETS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # [s]
TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """clients, waiting: how many there are now."""

    def __init__(self, clients: Callable[[], int], waiting: Callable[[], int]):
        self._registry = known = CollectorRegistry()
        self._requests = Counter("vla_serve_requests", "requests by protocol and outcome", ("protocol", "outcome"),
                                 registry=known)
        self._seconds = Histogram("vla_serve_request_seconds", "from a whole request to its answer, waiting included",
                                  ("protocol",), registry=known, buckets=BUCKETS)
        for name, meaning, count in (("clients", "websockets that are open, and requests to /act under way", clients),
                                     ("waiting", "requests that wait for the one that is inferred", waiting)):
            Gauge(f"vla_serve_{name}", meaning, registry=known).set_function(count)
        for protocol in PROTOCOLS:  # all are there from the beginning, as rates need it
            self._seconds.labels(protocol)
            for outcome in OUTCOMES:
                self._requests.labels(protocol, outcome)

    @contextmanager
    def request(self, protocol: str) -> Iterator[Callable[[Reply], None]]:
        """Around one request: what is raised is counted, and the answer that is given to what it yields."""
        begin = time.monotonic()

        def answered(answer: Reply) -> None:
            self.count(protocol, "refused" if answer.refused else "answered")
            self._seconds.labels(protocol).observe(time.monotonic() - begin)
        try:
            yield answered
        except Exception as error:
            self.count(protocol, "failed" if isinstance(error, PolicyError) else "unreadable")
            raise

    def count(self, protocol: str, outcome: str) -> None:
        self._requests.labels(protocol, outcome).inc()

    def text(self) -> bytes:
        return generate_latest(self._registry)
