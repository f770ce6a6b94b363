"""Robots that wait are inferred for at once: each gets what it would have got alone, whatever the others sent."""

import copy
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from core_samples import PANDA, observation

pytest.importorskip("aiohttp", reason="serving needs it: pip install 'vla_ros[serve]'")
pytest.importorskip("msgpack", reason="serving needs it: pip install 'vla_ros[serve]'")

from serving_samples import serving  # noqa: E402

from vla_ros.errors import ObservationError, RemoteError  # noqa: E402
from vla_ros.policies.hold import HoldPolicy  # noqa: E402
from vla_ros.serving.engine import MOST  # noqa: E402

ROBOTS = 5


class Batched(HoldPolicy):
    """Its chunk is the number in the instruction; one request alone waits until the others are there."""

    def __init__(self):
        super().__init__(PANDA)
        self.batches, self.gate, self.begun = [], threading.Event(), threading.Event()

    def infer(self, seen):
        self.begun.set()
        self.gate.wait(60)
        self.batches.append([seen.instruction])
        return self._chunk(seen)

    def infer_together(self, episodes, observations):
        self.batches.append([seen.instruction for seen in observations])
        assert len({id(episode) for episode in episodes}) == len(episodes)
        if any("break" in seen.instruction for seen in observations):
            raise ValueError("one of them")
        return [self._chunk(seen) if "blind" not in seen.instruction else ObservationError("size", "too small")
                for seen in observations]

    def _chunk(self, seen):
        if "break" in seen.instruction:
            raise ValueError("this one")
        chunk = HoldPolicy.infer(self, seen)
        number = float(seen.instruction.split()[-1])
        return replace(chunk, values=np.full_like(chunk.values, number if "wild" not in seen.instruction else np.nan))


def asked(made, said) -> list:
    """Of a first robot, whose inference the others wait behind: values or the error of each."""
    def ask(client, text):
        try:
            return float(client.infer(observation(PANDA, text)).values[0, 0])
        except (ObservationError, RemoteError) as error:
            return error
    clients = [made.client() for _ in range(len(said) + 1)]
    with ThreadPoolExecutor(len(clients)) as pool:
        first = pool.submit(ask, clients[0], "say 0.009")
        assert made.policy.begun.wait(60)
        others = [pool.submit(ask, client, text) for client, text in zip(clients[1:], said, strict=True)]
        wait_until(lambda: made.server.engine.waiting == len(said))
        made.policy.gate.set()
        assert first.result(60) == 0.009
        return [other.result(60) for other in others]


def wait_until(true) -> None:
    """Of what other threads do, and no event tells."""
    done = threading.Event()
    while not true():
        done.wait(0.002)


@pytest.fixture
def made():
    with serving(Batched(), PANDA) as made:
        yield made


@pytest.mark.timeout(120)
def test_who_waits_is_answered_at_once_and_each_by_its_own_answer(made):
    said = [f"say 0.00{i}" for i in range(ROBOTS)]
    assert asked(made, said) == pytest.approx([i / 1000 for i in range(ROBOTS)])
    alone, together = made.policy.batches
    assert alone == ["say 0.009"] and sorted(together) == said


@pytest.mark.timeout(120)
def test_what_one_of_them_breaks_is_its_own_loss_alone(made, caplog):
    broken, blind, wild, well = asked(made, ["break 0.001", "blind 0.002", "wild 0.003", "say 0.004"])
    assert isinstance(broken, RemoteError) and "the policy failed" in str(broken)
    assert blind == pytest.approx(0.002), "alone it would have been seen: the batch was given up"
    assert isinstance(wild, RemoteError) and well == pytest.approx(0.004)
    assert len(made.policy.batches) == 6, "one alone, all at once, and then each for itself"


@pytest.mark.timeout(120)
def test_an_observation_that_cannot_be_read_is_refused_amid_the_others(made):
    blind, well = asked(made, ["blind 0.002", "say 0.004"])
    assert isinstance(blind, ObservationError) and "too small" in str(blind) and well == pytest.approx(0.004)
    assert len(made.policy.batches) == 2


@pytest.mark.timeout(120)
def test_no_more_are_inferred_at_once_than_may_be(made):
    asked(made, [f"say 0.00{i % 9}" for i in range(MOST + 3)])
    assert [len(batch) for batch in made.policy.batches] == [1, MOST, 3]


def test_the_native_model_infers_for_several_what_it_does_for_each():
    """A mind each: what they agreed to, and where they saw it. Also one that is refused, and one that sees nothing."""
    from vla_ros.policies import open_policy
    from vla_ros.sim.bullet import BulletWorld
    policy = open_policy("native", PANDA)
    world, seen = BulletWorld(PANDA, cameras=policy.cameras), []
    for seed in range(4):
        world.reset(seed)
        seen.append(world.observe())
    world.close()
    seen.append(replace(seen[0], instruction="  ?"))
    seen.append(replace(seen[1], instruction="sing a song about the sea"))
    small = replace(seen[2], images={name: image[:64] for name, image in seen[2].images.items()})
    minds, lone = ([fresh(policy) for _ in seen] for _ in range(2))
    for _ in range(3):
        together = policy.infer_together([*minds, fresh(policy)], [*seen, small])
        assert isinstance(together.pop(), ObservationError)
        for made, mind, one in zip(together, lone, seen, strict=True):
            alone = mind.infer(one)
            assert made.stamp == one.stamp and made.refusal == alone.refusal
            assert made.confidence == pytest.approx(alone.confidence, abs=1e-4)
            if not made.refusal:
                assert np.abs(np.subtract(made.tokens, alone.tokens)).max() <= 1, "rounding may move one by a bin"
                assert [look.name for look in made.looks] == [look.name for look in alone.looks]
    assert [bool(made.refusal) for made in together] == [False] * 4 + [True, True]


def fresh(policy):
    made = copy.copy(policy)
    made.reset()
    return made
