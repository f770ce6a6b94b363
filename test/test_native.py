"""The native policy: what it refuses and why, what it does, where it says that it looks, and what it answers."""

from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from core_samples import observation
from model_samples import MODEL, PANDA, TOKENIZER, WORDS, tiny
from test_policies import PolicyContract

from vla_ros.chunking import check_chunk
from vla_ros.errors import ActionError, CheckpointError, ObservationError
from vla_ros.model import vocabulary as vocab
from vla_ros.observing import proprioception
from vla_ros.policies.native import NativePolicy
from vla_ros.policy import Answerer
from vla_ros.profile import load_profile
from vla_ros.types import Observation

THERE_NOT, NOWHERE = 256, 257  # places, after the patches
SEEN = observation(PANDA, "touch the red cube", 12_345)
PICTURE = SEEN.images["front"]


@pytest.fixture
def policy():
    return NativePolicy(MODEL, TOKENIZER, PANDA)


@contextmanager
def judging(policy: NativePolicy, verdict="act", places=(37, NOWHERE), sure=8.0, hand=200):
    """The policy's model with this verdict, and looks that end at these places; all else is its own."""
    see = policy.model.see

    def decided(pixels, text):
        sight, memory = see(pixels, text)
        verdicts, looks = torch.zeros_like(sight.verdict), torch.zeros_like(sight.look_logits)
        verdicts[..., vocab.VERDICTS.index(verdict)] = sure
        for i, place in enumerate((*places, hand)):
            looks[..., i, place] = 2 * sure
        return replace(sight, verdict=verdicts, look_logits=looks), memory

    policy.model.see = decided
    try:
        yield policy
    finally:
        del policy.model.see


def told(words: str) -> Observation:
    return replace(SEEN, instruction=words)


def shown(image) -> Observation:
    return replace(SEEN, images={"front": image})


class TestContract(PolicyContract):
    """What every policy promises, whatever the weights."""

    reads_images = True

    @pytest.fixture
    def profile(self):
        return PANDA


# --- acting -------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_a_chunk_is_the_training_pass_decoded_token_by_token(policy):
    pixels = torch.from_numpy(PICTURE.copy()).permute(2, 0, 1)[None] / 127.5 - 1
    text = torch.tensor([[[vocab.BOS, *WORDS.ids(SEEN.instruction)]]])
    body = torch.tensor(policy.proprio.normalise(proprioception(SEEN, "arm")), dtype=torch.float32)[None]
    with judging(policy, places=(37, 120)):
        chunk = policy.infer(SEEN)
        sight, _ = policy.model.see(pixels, text)
        place = torch.tensor([[[37, 120, 200]]])
        point = policy.model.look.point(sight.patches, sight.query, place)
        look = policy.model.look.tokens(point, place)
        logits = policy.model(pixels, text, body, look.flatten(2))[1]
    bins = logits[0, 0].argmax(-1).reshape(8, 4).numpy()
    assert (chunk.tokens == bins + vocab.ACTIONS).all() and chunk.tokens.max() < vocab.WORDS
    low, high = np.array(MODEL.config.action_low), np.array(MODEL.config.action_high)
    assert np.allclose(chunk.values, low + (bins + 0.5) / 256 * (high - low))
    assert [look.name for look in chunk.looks] == ["target", "reference"]
    assert np.allclose([(look.u, look.v) for look in chunk.looks], point[0, 0, :2], atol=1e-3)
    check_chunk(chunk, PANDA.action)
    assert not chunk.refusal and chunk.stamp == SEEN.stamp


@torch.no_grad()
def test_what_it_sees_where_it_looks_tells_how_it_acts():
    model = tiny(shapes=6)
    policy, acted = NativePolicy(model, TOKENIZER, PANDA), []
    act = model.act
    model.act = lambda intent, look, proprio, shape: acted.append(shape.tolist()) or act(intent, look, proprio, shape)
    model.look.shapes = lambda patches, place: 9.0 * torch.nn.functional.one_hot(place % 6, 6)
    chunks = []
    for places in ((37, 120), (37, NOWHERE)):
        policy.reset()
        with judging(policy, places=places):
            chunks.append(policy.infer(SEEN))
    assert acted == [[[1, 0]], [[1, 6]]]
    assert (chunks[0].tokens != chunks[1].tokens).any()


def test_it_says_in_words_where_it_looks(policy):
    with judging(policy, places=(37, 120)):
        chunk = policy.infer(SEEN)
    (u, v), (x, y) = ((look.u, look.v) for look in chunk.looks)
    assert chunk.text == (f"I look at the target at ({u:.0f}, {v:.0f}) px and "
                          f"the reference at ({x:.0f}, {y:.0f}) px in 'front'")


@pytest.mark.parametrize("dz, fingers, done", [(0.001, 1.0, True), (0.003, 1.0, False), (0.0, 0.0, False)])
def test_it_is_done_when_a_whole_chunk_asks_for_no_motion(policy, monkeypatch, dz, fingers, done):
    values = np.tile([-0.001, 0.0, 0.0, 1.0], (8, 1))
    values[-1, 2:] = dz, fingers
    monkeypatch.setattr(policy, "actions", SimpleNamespace(unnormalise=lambda normal: values))
    with judging(policy):
        assert policy.infer(SEEN).done is done
    policy.reset()
    with judging(policy, "impossible"):
        assert policy.infer(SEEN).refusal and not policy.infer(SEEN).done


def test_the_middle_of_a_patch_is_the_look_of_a_model_without_offset():
    model = tiny()
    with torch.no_grad():
        for parameter in model.look.offset.parameters():
            parameter.zero_()
    with judging(NativePolicy(model, TOKENIZER, PANDA), places=(0, 16 * 15 + 3)) as policy:
        target, reference = policy.infer(SEEN).looks
    assert (target.u, target.v, reference.u, reference.v) == (4.0, 4.0, 28.0, 124.0)


def test_what_an_instruction_does_not_name_is_not_looked_at(policy):
    with judging(policy, places=(37, NOWHERE)):
        assert [look.name for look in policy.infer(SEEN).looks] == ["target"]
    with judging(policy, places=(NOWHERE, NOWHERE)):
        chunk = policy.infer(told("stop"))
    assert chunk.looks == () and chunk.text == "I look at nothing" and not chunk.refusal


def test_confidence_is_that_of_verdict_and_looks(policy):
    with judging(policy, places=(NOWHERE, NOWHERE), sure=2.0):
        assert policy.infer(SEEN).confidence == pytest.approx(np.exp(2) / (np.exp(2) + 3), rel=1e-5)
    policy.reset()
    with judging(policy, places=(37, 120), sure=2.0):
        chunk = policy.infer(SEEN)
    near = (np.exp(4) + 8) / (np.exp(4) + 257)  # the patch and those around it, of 258 places
    assert [look.confidence for look in chunk.looks] == pytest.approx([near, near], rel=1e-5)
    assert chunk.confidence == pytest.approx(np.exp(2) / (np.exp(2) + 3) * near**2, rel=1e-5)


# --- refusing -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verdict, reason", [("absent", "I do not see what 'touch the red cube' is about"),
                                             ("impossible", "I cannot do 'touch the red cube'"),
                                             ("nonsense", "I do not understand 'touch the red cube'")])
def test_a_verdict_is_a_refusal_with_its_reason(policy, verdict, reason):
    with judging(policy, verdict, sure=2.0):
        chunk = policy.infer(SEEN)
    assert chunk.refusal == reason and chunk.values.shape == (0, 4) and chunk.stamp == SEEN.stamp
    assert chunk.confidence == pytest.approx(np.exp(2) / (np.exp(2) + 3), rel=1e-5)


@pytest.mark.parametrize("places", [(THERE_NOT, NOWHERE), (37, THERE_NOT)])
def test_one_thing_that_is_not_there_is_a_refusal(policy, places):
    with judging(policy, places=places, sure=2.0):
        chunk = policy.infer(SEEN)
    assert "do not see" in chunk.refusal
    assert chunk.confidence == pytest.approx(np.exp(4) / (np.exp(4) + 257), rel=1e-5), "of the look: that is why"


@pytest.mark.parametrize("words, reason", [("", "empty"), (" \n", "empty"), ("...", "empty"),
                                           ("touch " * 40, "too long")])
def test_words_that_it_cannot_read_are_refused(policy, words, reason):
    with judging(policy):
        chunk = policy.infer(told(words))
    assert reason in chunk.refusal and chunk.values.shape == (0, 4)


def test_as_many_words_as_it_can_read_are_read(policy):
    with judging(policy):
        assert not policy.infer(told("touch " * 39)).refusal


def test_what_was_agreed_to_is_not_refused_on_the_way_but_other_words_and_after_a_reset_it_is(policy):
    with judging(policy):
        assert not policy.infer(SEEN).refusal
    with judging(policy, "impossible"):
        assert not policy.infer(SEEN).refusal
        assert policy.infer(told("touch the blue ball")).refusal
    with judging(policy):
        assert not policy.infer(SEEN).refusal
    with judging(policy, places=(THERE_NOT, NOWHERE)):
        chunk = policy.infer(SEEN)
        assert not chunk.refusal and chunk.tokens is not None
        assert [look.name for look in chunk.looks] == ["target"], "it was there: the hand may hide it"
        policy.reset()
        assert policy.infer(SEEN).refusal


# --- answering ----------------------------------------------------------------------------------------------------


def test_an_answer_is_the_models_reply_in_words(policy):
    assert isinstance(policy, Answerer)
    answer = policy.ask(PICTURE, "What is left of the red cube?")
    ids, probability = MODEL.reply(torch.from_numpy(PICTURE.copy()).permute(2, 0, 1)[None] / 127.5 - 1,
                                   torch.tensor([[vocab.BOS, *WORDS.ids("what is left of the red cube?")]]))
    assert answer.text == WORDS.decode(ids) and isinstance(answer.text, str)
    assert answer.confidence == pytest.approx(probability, rel=1e-3) and 0 < answer.confidence <= 1
    assert answer.timings["infer"] > 0


def test_a_question_changes_nothing_of_an_episode(policy):
    with judging(policy):
        before = policy.infer(SEEN)
    policy.ask(PICTURE, "what do you see?")
    with judging(policy, "absent"):
        after = policy.infer(SEEN)
    assert not after.refusal and (after.tokens == before.tokens).all()


@pytest.mark.parametrize("words, answer", [("", "the question is empty"), ("what " * 40, "the question is too long")])
def test_a_question_that_it_cannot_read_is_answered_with_why(policy, words, answer):
    assert answer in policy.ask(PICTURE, words).text


# --- images and robots --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("image", [PICTURE[:64], PICTURE[..., 0]], ids=["low", "grey"])
def test_images_of_another_size_are_an_error(policy, image):
    for call in (lambda: policy.infer(shown(image)), lambda: policy.ask(image, "what is this?")):
        with pytest.raises(ObservationError, match="128 x 128") as caught:
            call()
        assert caught.value.reason == "size"


@pytest.mark.parametrize("image", [np.zeros((128, 128, 3), np.uint8), np.full((128, 128, 3), 255, np.uint8),
                                   np.random.default_rng(0).integers(7, 17, (128, 128, 3), dtype=np.uint8)],
                         ids=["black", "white", "noise of a covered camera"])
def test_a_blank_image_is_an_error(policy, image):
    for call in (lambda: policy.infer(shown(image)), lambda: policy.ask(image, "what is this?")):
        with pytest.raises(ObservationError, match="shows nothing") as caught:
            call()
        assert caught.value.reason == "blank"


def test_a_checkpoint_for_another_robot_is_an_error():
    with pytest.raises(ActionError, match="disagree"):
        NativePolicy(MODEL, TOKENIZER, load_profile("husky"))


def test_a_checkpoint_for_another_camera_is_an_error():
    with pytest.raises(CheckpointError, match="'side'.*'front' 128 x 128"):
        NativePolicy(tiny(camera="side"), TOKENIZER, PANDA)
    with pytest.raises(CheckpointError, match="96 x 96 px.*'front' 128 x 128"):
        NativePolicy(tiny(image_size=96), TOKENIZER, PANDA)
