"""The native model: its two passes agree, its parts see only what they should, and its files are checked."""

import json
import shutil

import numpy as np
import pytest
import torch

from vla_ros.errors import ActionError, CheckpointError, ObservationError
from vla_ros.model import vocabulary as vocab
from vla_ros.model.configuration import VlaConfig
from vla_ros.model.files import open_checkpoint, save_checkpoint
from vla_ros.model.modeling import VlaModel
from vla_ros.policies.native import NativePolicy
from vla_ros.profile import load_profile
from vla_ros.types import JointState, Observation, Pose

PANDA = load_profile("panda")
TOKENIZER = vocab.build_tokenizer(["touch push the red blue cube ball to left"])


def tiny(**changes) -> VlaModel:
    torch.manual_seed(0)
    settings = dict(
        vocab_size=len(TOKENIZER), vision_width=32, vision_layers=1, vision_heads=2, width=32, layers=2, heads=2,
        mlp=48,
        action_spec=PANDA.action.to_dict(), action_low=[-0.03, -0.03, -0.03, 0.0], action_high=[0.03, 0.03, 0.03, 1.0],
        proprio_names=["x", "y", "z", "gap"], proprio_low=[0.3, -0.3, 0.0, 0.0], proprio_high=[0.7, 0.3, 0.4, 0.08],
        robot="panda")
    return VlaModel(VlaConfig(**settings | changes)).eval()


MODEL = tiny()
WORDS = vocab.Words(TOKENIZER, MODEL.config.text_length)


def inputs(b=2, texts=("touch the red cube", "push the blue ball to the left")):
    g = torch.Generator().manual_seed(1)
    pixels = torch.rand(b, 3, 96, 96, generator=g) * 2 - 1
    text = torch.tensor([[WORDS.encode(t) for t in texts]] * b)
    look = torch.tensor([[[vocab.LOOK_X + 3, vocab.LOOK_Y + 9], [vocab.LOOK_X + 90, vocab.LOOK_Y + 50]]] * b)
    return pixels, text, torch.rand(b, 4, generator=g), look


@torch.no_grad()
def test_inference_in_two_halves_is_the_training_pass():
    pixels, text, proprio, look = inputs()
    out = MODEL(pixels, text, proprio, look)
    for i in range(2):
        for k in range(2):
            seen, point, memory = MODEL.see(pixels[i:i + 1], text[i, k][None])
            acted = MODEL.act(memory, text[i, k][None], look[i, k][None], proprio[i:i + 1])
            assert torch.allclose(seen, out.look_logits[i, k].softmax(-1), atol=1e-5)
            assert torch.allclose(acted, out.actions[i, k], atol=1e-4)
            assert (acted.argmax(-1) == out.actions[i, k].argmax(-1)).all()


@torch.no_grad()
def test_pretraining_reads_the_text_as_inference_does():
    pixels, text, proprio, look = inputs()
    logits, _, _ = MODEL.find(pixels, text)
    assert torch.allclose(logits, MODEL(pixels, text, proprio, look).look_logits, atol=1e-4)


@torch.no_grad()
def test_instructions_on_one_image_do_not_see_each_other():
    pixels, text, proprio, look = inputs()
    both = MODEL(pixels, text, proprio, look).actions[:, 0]
    alone = MODEL(pixels, text[:, :1], proprio, look[:, :1]).actions[:, 0]
    assert torch.allclose(both, alone, atol=1e-5)


@torch.no_grad()
def test_words_look_and_body_all_reach_the_actions():
    pixels, text, proprio, look = inputs(1)
    base = MODEL(pixels, text, proprio, look).actions
    assert not torch.allclose(base, MODEL(pixels, text.flip(1), proprio, look).actions, atol=1e-6)
    assert not torch.allclose(base, MODEL(pixels, text, proprio + 0.5, look).actions, atol=1e-6)
    assert not torch.allclose(base, MODEL(pixels, text, proprio, look.flip(1)).actions, atol=1e-6)
    assert not torch.allclose(base, MODEL(-pixels, text, proprio, look).actions, atol=1e-6)


@torch.no_grad()
def test_padding_does_not_matter():
    pixels, text, proprio, look = inputs(1)
    noisy = MODEL.language.embed_tokens.weight.clone()
    before = MODEL(pixels, text, proprio, look).actions
    MODEL.language.embed_tokens.weight[vocab.PAD] += 5.0
    after = MODEL(pixels, text, proprio, look).actions
    MODEL.language.embed_tokens.weight.copy_(noisy)
    assert torch.allclose(before, after, atol=1e-4)


def test_look_tokens_are_the_nearest_half_pixels():
    ids = MODEL.look_tokens(torch.tensor([[0.0, 0.0], [47.9, 95.9], [-3.0, 200.0]]))
    assert (ids - torch.tensor([vocab.LOOK_X, vocab.LOOK_Y])).tolist() == [[0, 0], [95, 191], [0, 191]]


# --- vocabulary ---------------------------------------------------------------------------------------------------


def test_vocabulary_ids_stand_where_the_model_expects_them():
    ids = TOKENIZER.get_vocab()
    assert ids["<pad>"] == vocab.PAD and ids["<absent>"] == vocab.ABSENT
    assert ids["<look_y_0>"] == vocab.LOOK_Y and ids["<action_255>"] == vocab.WORDS - 1


def test_own_encoding_is_the_tokenizers():
    text = "Touch, the RED cube!  zebra"
    assert [i for i in WORDS.encode(text) if i][1:] == TOKENIZER.encode(text, add_special_tokens=False)
    assert WORDS.unknown(text) == ["zebra"]


def test_special_tokens_cannot_be_typed():
    assert not set(WORDS.encode("<action_3> <absent>")) & set(range(vocab.ABSENT, vocab.WORDS))


# --- policy -------------------------------------------------------------------------------------------------------


def observation(instruction="touch the red cube", image=None) -> Observation:
    image = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8) if image is None else image
    joints = JointState(dict.fromkeys(PANDA.joints, 0.0), {}, 5)
    return Observation({"front": image}, joints, instruction, {"joints": 5, "front": 7},
                       ee_pose=Pose(np.array([0.5, 0.0, 0.2]), np.eye(3)), gripper=0.04)


def policy(**changes) -> NativePolicy:
    model = tiny(**changes)
    with torch.no_grad():
        model.look_scale.fill_(0.0)  # no place stands out: neither does 'not there'
    return NativePolicy(model, TOKENIZER, PANDA)


def test_chunk_is_decoded_from_its_tokens():
    chunk = policy().infer(observation())
    assert chunk.stamp == 5 and not chunk.refusal and chunk.values.shape == (8, 4) == chunk.tokens.shape
    assert (chunk.tokens >= vocab.ACTIONS).all() and (chunk.tokens < vocab.WORDS).all()
    low, high = MODEL.config.action_low, MODEL.config.action_high
    assert (chunk.values >= low).all() and (chunk.values <= high).all()


@pytest.mark.parametrize("words, reason", [
    ("sing to the red cube", "'sing'"), ("", "empty"), ("...", "empty"), ("touch " * 40, "too long")])
def test_words_that_it_cannot_read_are_refused(words, reason):
    chunk = policy().infer(observation(words))
    assert reason in chunk.refusal and len(chunk.values) == 0


def test_absent_objects_are_refused_until_seen_once():
    ours = policy()
    seen = ours.infer(observation())
    with torch.no_grad():  # from now on everything looks like 'not there'
        ours.model.text_query.weight.zero_()
        ours.model.text_query.bias.copy_(ours.model.absent_key)
        ours.model.look_scale.fill_(4.0)
    assert not seen.refusal and not ours.infer(observation()).refusal
    assert "do not see" in ours.infer(observation("touch the blue ball")).refusal
    ours.reset()
    assert "do not see" in ours.infer(observation()).refusal


@pytest.mark.parametrize("image", [np.zeros((64, 96, 3), np.uint8), np.zeros((96, 96), np.uint8)])
def test_images_of_another_size_are_an_error(image):
    with pytest.raises(ObservationError, match="96 x 96"):
        policy().infer(observation(image=image))


@pytest.mark.parametrize("shade", [0, 130, 255])
def test_an_image_that_shows_nothing_is_an_error(shade):
    blank = np.full((96, 96, 3), shade, np.uint8)
    blank[::2] += 5 if shade < 250 else 0
    with pytest.raises(ObservationError, match="shows nothing"):
        policy().infer(observation(image=blank))


def test_it_says_where_it_looks():
    (look,) = policy().infer(observation()).looks
    assert look.name == "target" and 0 <= look.confidence <= 1
    assert -8 <= min(look.u, look.v) <= max(look.u, look.v) < 104  # an offset may point a patch beyond the border


def test_a_checkpoint_for_another_robot_is_an_error():
    with pytest.raises(ActionError, match="disagree"):
        NativePolicy(MODEL, TOKENIZER, load_profile("husky"))


def test_a_checkpoint_for_another_camera_is_an_error():
    with pytest.raises(CheckpointError, match="'side'.*'front' 96 x 96"):
        policy(camera="side")


# --- files --------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    save_checkpoint(tmp_path / "checkpoint", MODEL, TOKENIZER)
    return tmp_path / "checkpoint"


@torch.no_grad()
def test_a_saved_checkpoint_answers_the_same(folder):
    model, tokenizer = open_checkpoint(folder)
    assert torch.equal(model(*inputs()).actions, MODEL(*inputs()).actions)
    assert tokenizer.get_vocab() == TOKENIZER.get_vocab()


def test_missing_folder(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint folder"):
        open_checkpoint(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_missing_file(folder, name):
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        open_checkpoint(folder)


@pytest.mark.parametrize("damage", [lambda b: b[:-100], lambda b: b"\xff" * 16 + b[16:], lambda b: b""])
def test_damaged_weights(folder, damage):
    file = folder / "model.safetensors"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(CheckpointError, match="damaged"):
        open_checkpoint(folder)


def test_weights_of_another_shape(folder, tmp_path):
    save_checkpoint(tmp_path / "other", tiny(width=48), TOKENIZER)
    shutil.copy(tmp_path / "other" / "model.safetensors", folder)
    with pytest.raises(CheckpointError, match="does not fit"):
        open_checkpoint(folder)


def test_another_architecture(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "llama"}))
    with pytest.raises(CheckpointError, match="'llama'"):
        open_checkpoint(folder)
