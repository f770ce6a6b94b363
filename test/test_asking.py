"""Questions to the policy, without ROS: what is answered, what is refused and why, one thread at a time."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
from test_inferring import MS, PICTURE, Bench

from vla_ros.errors import ConfigError, ObservationError, UnknownNameError, VlaError
from vla_ros.nodes.asking import ask
from vla_ros.policies.hold import HoldPolicy
from vla_ros.policy import Answerer
from vla_ros.types import Answer

BRIGHT = PICTURE + 200


class Witness:
    """Says how bright it is; `meanwhile` runs while it looks."""

    def __init__(self, bench, meanwhile=lambda: None, confidence=0.75):
        self.meanwhile, self.confidence = meanwhile, confidence
        bench.policy.ask = self.ask

    def ask(self, image, question):
        self.meanwhile()
        return Answer(f"{question} {image.mean():.0f}", self.confidence, {"look": 0.01})


def asking(**more):
    bench = Bench()
    Witness(bench, **more)
    return bench


def test_the_newest_image_is_looked_at_without_an_instruction():
    bench = asking()
    bench.observe(1000)
    bench.observe(1100, image=BRIGHT)
    asked = ask(bench.work, "how bright?")
    assert asked.answer == Answer("how bright? 200", 0.75, {"look": 0.01})
    assert (asked.camera, asked.stamp) == ("front", 1100 * MS)
    assert bench.policy.seen == [] and bench.work.status.detail == "no instruction"


def test_a_camera_may_be_named():
    bench = asking()
    bench.observe(1000)
    bench.work.add("wrist", 1010 * MS, BRIGHT)
    bench.clock = 1010 * MS
    assert ask(bench.work, "how bright?", "wrist").answer.text == "how bright? 200"
    with pytest.raises(UnknownNameError, match="'wrst'.*did you mean 'wrist'.*available: front, wrist"):
        ask(bench.work, "how bright?", "wrst")


def test_an_answer_leaves_the_episode_as_it_was():
    bench = asking()
    bench.work.instruct("go")
    bench.observe(1000)
    assert bench.turn() is not None
    ask(bench.work, "how bright?")
    assert bench.turn() is None and bench.policy.resets == 1 and bench.work.status.state == "running"


def test_a_policy_without_answers_says_so():
    bench = Bench()
    bench.observe(1000)
    assert not isinstance(bench.policy, Answerer)
    with pytest.raises(ConfigError, match="policy 'hold' answers no questions"):
        ask(bench.work, "how bright?")


def test_what_cannot_be_looked_at_is_refused():
    bench = asking()
    with pytest.raises(ObservationError, match="nothing received from camera 'front'"):
        ask(bench.work, "how bright?")
    bench.observe(1000)
    with pytest.raises(ConfigError, match="question is empty"):
        ask(bench.work, "")
    bench.clock = 2000 * MS
    with pytest.raises(ObservationError, match="'front' is 1.000 s old"):
        ask(bench.work, "how bright?")
    bench.observe(2000, image=PICTURE[:10])
    with pytest.raises(ObservationError, match="robot profile says"):
        ask(bench.work, "how bright?")


def test_in_lockstep_no_image_is_old():
    bench = Bench(lockstep=True)
    Witness(bench)
    bench.observe(1000)
    bench.clock = 9000 * MS
    assert ask(bench.work, "how bright?").stamp == 1000 * MS


@pytest.mark.parametrize("confidence", [np.nan, 1.5, None])
def test_a_broken_answer_is_an_error_of_one_line(confidence):
    bench = asking(confidence=confidence)
    bench.observe(1000)
    with pytest.raises(VlaError, match="Error: "):
        ask(bench.work, "how bright?")
    assert not bench.work.turn.locked()


def test_a_policy_that_raises_is_free_again():
    def fail():
        raise RuntimeError("out of memory")
    bench = asking(meanwhile=fail)
    bench.observe(1000)
    with pytest.raises(VlaError, match="RuntimeError: out of memory"):
        ask(bench.work, "how bright?")
    bench.work.instruct("go")
    assert bench.turn() is not None


def test_question_and_inference_take_turns():
    bench, entered, inside, most = asking(), threading.Event(), [], []
    go_on = threading.Event()

    def look():
        inside.append("question")
        entered.set()
        go_on.wait(60)
        most.append(len(inside))
        inside.remove("question")

    def infer(chunk):
        inside.append("inference")
        most.append(len(inside))
        inside.remove("inference")
        return replace(chunk)

    Witness(bench, look)
    bench.policy.answer = infer
    bench.work.instruct("go")
    bench.observe(1000)
    question = threading.Thread(target=ask, args=(bench.work, "how bright?"))
    question.start()
    assert entered.wait(60)
    with pytest.raises(VlaError, match="still busy after 0 s"):
        ask(bench.work, "and now?", patience=0.0)
    turn = threading.Thread(target=bench.turn)
    turn.start()
    turn.join(0.2)
    assert turn.is_alive(), "it waits for the answer"
    go_on.set()
    question.join(60)
    turn.join(60)
    assert most == [1, 1] and bench.work.chunks == 1


def test_hold_is_no_answerer_and_a_policy_with_ask_is():
    bench = asking()
    assert isinstance(bench.policy, Answerer) and not isinstance(HoldPolicy(bench.policy.profile), Answerer)
