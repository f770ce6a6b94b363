"""/metrics of `vla serve`, read as Prometheus reads it: who asked, how it ended, how long it took, who waits."""

import asyncio
import threading
import time
from dataclasses import replace

import pytest
from core_samples import PANDA

aiohttp = pytest.importorskip("aiohttp", reason="serving needs it: pip install 'vla_ros[serve]'")
pytest.importorskip("msgpack", reason="serving needs it: pip install 'vla_ros[serve]'")
parser = pytest.importorskip("prometheus_client.parser", reason="serving needs it: pip install 'vla_ros[serve]'")

from serving_samples import serving  # noqa: E402
from test_act import SEEN, WHOLE, ask, fail, post, refuse  # noqa: E402
from test_serving import Scripted  # noqa: E402
from test_serving_door import get  # noqa: E402

from vla_ros.errors import ObservationError, RemoteError  # noqa: E402

LABELS = ("protocol", "outcome", "le")


def measured(made, **headers) -> dict[tuple, float]:
    """Values by name and labels."""
    def labels(sample):
        return [sample.labels[label] for label in LABELS if label in sample.labels]

    status, text = get(made, "/metrics", **headers)
    assert status == 200
    return {(sample.name.removeprefix("vla_serve_"), *labels(sample)): sample.value
            for family in parser.text_string_to_metric_families(text) for sample in family.samples}


def counts(made, **headers) -> dict[tuple[str, str], float]:
    """Requests that there were, by protocol and outcome."""
    return {key[1:]: value for key, value in measured(made, **headers).items() if key[0] == "requests_total" and value}


def test_everything_is_there_from_the_beginning():
    with serving(Scripted(), PANDA) as made:
        found = measured(made)
    assert {key[1:] for key in found if key[0] == "requests_total"} == {
        (protocol, outcome) for protocol in ("openpi", "act")
        for outcome in ("answered", "refused", "unreadable", "failed", "turned_away")}
    assert found["clients",] == found["waiting",] == 0 and found["request_seconds_count", "act"] == 0


def test_requests_are_counted_by_protocol_and_outcome():
    behave = [lambda chunk: chunk]
    with serving(Scripted(behave=lambda chunk: behave[-1](chunk)), PANDA) as made:
        client = made.client()
        client.infer(SEEN)
        ask(made, **WHOLE)
        behave.append(refuse)
        client.infer(SEEN)
        ask(made, **WHOLE)
        behave.append(fail)
        ask(made, **WHOLE)
        with pytest.raises(ObservationError):
            client.infer(replace(SEEN, images={name: image[:9] for name, image in SEEN.images.items()}))
        post(made, b"no JSON")
        post(made, b"{}")
        post(made, b" " * (2 * made.server.engine.largest + 1))
        get(made, "/", Origin="https://anywhere.example")
        with pytest.raises(RemoteError):
            client.infer(SEEN)
        assert counts(made) == {
            ("openpi", "answered"): 1, ("openpi", "refused"): 1, ("openpi", "unreadable"): 1, ("openpi", "failed"): 1,
            ("openpi", "turned_away"): 1, ("act", "answered"): 1, ("act", "refused"): 1, ("act", "failed"): 1,
            ("act", "unreadable"): 3}
        found = measured(made)
        assert found["request_seconds_count", "openpi"] == found["request_seconds_count", "act"] == 2
        assert found["request_seconds_sum", "openpi"] > 0


def test_who_is_there_and_who_waits_is_told_meanwhile():
    go = threading.Event()

    def wait(chunk):
        go.wait(60)
        return chunk
    with serving(Scripted(behave=wait), PANDA) as made:
        clients = [made.client() for _ in range(3)]
        asking = [threading.Thread(target=client.infer, args=(SEEN,)) for client in clients]
        for thread in asking:
            thread.start()
        end = time.monotonic() + 60
        while measured(made)["waiting",] != 2:
            assert time.monotonic() < end
        assert measured(made)["clients",] == 3
        go.set()
        for thread in asking:
            thread.join(60)
        assert measured(made)["waiting",] == 0


def test_a_token_is_asked_for_and_whoever_lacks_it_is_counted():
    with serving(Scripted(), PANDA, token="secret") as made:
        assert get(made, "/metrics")[0] == 401
        post(made, b"{}")
        with pytest.raises(RemoteError, match="401"):
            made.client()
        assert counts(made, Authorization="Bearer secret") == {("act", "turned_away"): 1, ("openpi", "turned_away"): 1}


def test_the_type_is_that_of_prometheus():
    async def kind(made):
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{made.port}/metrics") as answer:
                return answer.headers["Content-Type"]
    with serving(Scripted(), PANDA) as made:
        assert asyncio.run(kind(made)).startswith("text/plain; version=")
