"""OpenVLA checkpoints: what they say, and what is made of it."""

import json
import shutil

import numpy as np
import openvla_samples as samples
import openvla_slow as slow
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from openvla_samples import WORDING, changed, picture, said
from PIL import Image

from vla_ros.errors import CheckpointError, ConfigError, UnknownNameError, VlaError
from vla_ros.openvla.configuration import BACKBONES, EMPTY_WORD, open_config, read_config
from vla_ros.openvla.files import open_checkpoint
from vla_ros.openvla.images import centre_crop, read_images
from vla_ros.openvla.modeling import OpenVla
from vla_ros.openvla.prompt import prompt_ids, prompt_text
from vla_ros.openvla.statistics import choose, stored
from vla_ros.tokens import EdgeBins


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A fused checkpoint in one file. Not to be changed: `folder` is a copy."""
    return samples.write(tmp_path_factory.mktemp("openvla") / "fused")


@pytest.fixture
def folder(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "copy")


# What the model says

@pytest.mark.parametrize("backbone", samples.BACKBONES)
def test_it_says_what_a_slow_computation_says(backbone, tmp_path):
    content = samples.config(backbone)
    checkpoint = open_checkpoint(samples.write(tmp_path / "c", backbone))
    for seed in range(2):
        image = picture(seed)
        got = said(checkpoint, image)
        ids = prompt_ids(WORDING, checkpoint.config, checkpoint.tokenizer)
        tokens, sure = slow.say(samples.weights(content), content, ids, checkpoint.images.read(image), 7)
        assert got.tokens.tolist() == tokens
        np.testing.assert_allclose(got.probabilities, sure, rtol=1e-3)


def test_image_and_words_both_count(whole):
    checkpoint = open_checkpoint(whole)
    one, other = said(checkpoint), said(checkpoint, picture(1))
    assert not np.array_equal(one.probabilities, other.probabilities)
    assert not np.array_equal(one.probabilities, said(checkpoint, words="pick up the cup").probabilities)


def test_shards_hold_what_one_file_holds(whole, tmp_path):
    parted = open_checkpoint(samples.write(tmp_path / "parted", shards=3))
    np.testing.assert_array_equal(said(parted).tokens, said(open_checkpoint(whole)).tokens)


def test_weights_stay_as_they_are_stored_unless_asked(tmp_path):
    folder = samples.write(tmp_path / "half", dtype=torch.bfloat16)
    assert {p.dtype for p in open_checkpoint(folder).model.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in open_checkpoint(folder, "float32").model.parameters()} == {torch.float32}
    rotary = open_checkpoint(folder).model.language_model.model.rotary_emb
    assert rotary.inv_freq.dtype == torch.float32 and rotary.inv_freq.device.type == "cpu"


def test_real_backbones_have_the_shapes_of_their_checkpoints():
    """Known shapes of openvla-7b's tensors, and the patches of each backbone."""
    content = {"model_type": "openvla", "vision_backbone_id": samples.FUSED, "llm_backbone_id": "llama2-7b-pure",
               "text_config": {"vocab_size": 32064}}
    shapes = {name: tuple(t.shape) for name, t in OpenVla.empty(read_config(content)).state_dict().items()}
    assert shapes["vision_backbone.featurizer.pos_embed"] == (1, 256, 1024)
    assert shapes["vision_backbone.featurizer.reg_token"] == (1, 4, 1024)
    assert shapes["vision_backbone.featurizer.blocks.22.ls2.scale_factor"] == (1024,)
    assert shapes["vision_backbone.fused_featurizer.blocks.25.mlp.fc1.weight"] == (4304, 1152)
    assert "vision_backbone.fused_featurizer.blocks.26.mlp.fc1.weight" not in shapes  # the last is never run
    assert shapes["projector.fc1.weight"] == (8704, 2176) and shapes["projector.fc3.weight"] == (4096, 4096)
    assert shapes["language_model.lm_head.weight"] == (32064, 4096)
    assert shapes["language_model.model.layers.31.mlp.down_proj.weight"] == (4096, 11008)
    patches = {name: read_config(content | {"vision_backbone_id": name}).patches for name in BACKBONES}
    assert patches == {"clip-vit-l": 256, "clip-vit-l-336px": 576, "dinov2-vit-l": 256, "in1k-vit-l": 196,
                       "siglip-vit-so400m": 256, "siglip-vit-so400m-384px": 729, "dinoclip-vit-l-336px": 576,
                       "dinosiglip-vit-so-224px": 256, "dinosiglip-vit-so-384px": 729}


# Prompt

def test_the_prompt_letter_by_letter():
    assert prompt_text("Put the RED cube", "pure") == "In: What action should the robot take to put the red cube?\nOut:"
    chat = prompt_text("Go", "chat")
    assert chat.startswith("A chat between a curious user and an artificial intelligence assistant. The assistant")
    assert chat.endswith("user's questions. USER: What action should the robot take to go? ASSISTANT:")
    assert prompt_text("use {braces}", "pure").endswith("to use {braces}?\nOut:")


def test_the_prompt_begins_with_its_beginning_and_ends_with_the_empty_word(whole):
    checkpoint = open_checkpoint(whole)
    ids = prompt_ids(WORDING, checkpoint.config, checkpoint.tokenizer)
    assert ids[0] == 1 and ids[-1] == EMPTY_WORD == 29871 and ids.count(1) == 1
    assert checkpoint.tokenizer.id_to_token(ids[-2]) == ":"
    assert checkpoint.tokenizer.decode(ids[1:-1]).lower() == prompt_text(WORDING, "pure").lower()


def test_the_empty_word_is_not_said_twice(whole, monkeypatch):
    monkeypatch.setitem(prompt_ids.__globals__["PROMPTS"], "pure", "{}: ")
    checkpoint = open_checkpoint(whole)
    ids = prompt_ids("go", checkpoint.config, checkpoint.tokenizer)
    assert ids[-1] == EMPTY_WORD and ids[-2] != EMPTY_WORD


@pytest.mark.parametrize("name,style", [("llama2-7b-pure", "pure"), ("vicuna-v15-7b", "chat")])
def test_how_it_is_asked_depends_on_the_language_model(name, style):
    assert read_config(samples.config(llm_backbone_id=name)).style == style


# Bins and statistics

@given(arrays(float, 7, elements=st.floats(-1.5, 1.5)))
def test_bins_are_an_inverse_pair_to_half_an_interval(values):
    bins = EdgeBins()
    codes = bins.encode(values)
    assert codes.min() >= 1 and codes.max() <= 256
    assert np.abs(bins.decode(codes) - np.clip(values, -1, 1)).max() <= 1 / 255 + 1e-12


def test_bins_at_their_ends():
    bins = EdgeBins()
    assert bins.encode(np.array([-1.0, 1.0, -9, 9])).tolist() == [1, 256, 1, 256]
    first, last = -1 + 1 / 255, 1 - 1 / 255
    np.testing.assert_allclose(bins.decode(np.array([1, 255, 256, 0, -5, 999])), [first, last, last, first, first,
                                                                                          last])
    with pytest.raises(ValueError, match="finite"):
        bins.encode(np.array([np.nan]))


def test_the_mask_says_what_was_normalised():
    statistics = choose({"bridge_orig": samples.BRIDGE})
    assert statistics.unnormalise(np.full(7, -1.0)).tolist() == [*samples.BRIDGE["action"]["q01"][:6], -1.0]
    assert statistics.unnormalise(np.full(7, 1.0))[:6] == pytest.approx(samples.BRIDGE["action"]["q99"][:6])
    assert choose({"other": samples.OTHER}, "other").unnormalise(np.zeros(7)) == pytest.approx([0.1] * 7)


@given(arrays(float, 7, elements=st.floats(-2, 2)))
def test_normalising_is_an_inverse_pair(values):
    statistics = choose({"bridge_orig": samples.BRIDGE})
    np.testing.assert_allclose(statistics.unnormalise(statistics.normalise(values)), values, atol=1e-12)


def test_a_dimension_that_never_changes_stays_what_it_is():
    still = {"action": {"q01": [0.5, 0.0], "q99": [0.5, 1.0]}}
    assert choose({"still": still}).unnormalise(np.array([0.9, 0.0])).tolist() == [0.5, 0.5]


def test_which_statistics_are_meant_is_never_guessed():
    two = {"bridge_orig": samples.BRIDGE, "other": samples.OTHER}
    with pytest.raises(ConfigError, match="unnorm_key=NAME; available: bridge_orig, other"):
        choose(two)
    with pytest.raises(UnknownNameError, match="did you mean 'bridge_orig'.*available: bridge_orig, other"):
        choose(two, "bridge_org")
    with pytest.raises(CheckpointError, match="no norm_stats"):
        choose({})


@pytest.mark.parametrize("actions,why", [
    (None, "lack q01 and q99"), ({"q01": [0.0]}, "lack q99"), ({"q01": ["a"], "q99": [1]}, "lists of numbers"),
    ({"q01": [0, 0], "q99": [1]}, "q01 has 2 numbers, q99 1"), ({"q01": [0.0], "q99": [float("nan")]}, "finite"),
    ({"q01": [1.0], "q99": [0.0]}, "below q01 in dimensions"), ({"q01": 1, "q99": 2}, "lists of numbers"),
    ({"q01": [0], "q99": [1], "mask": [True, True]}, "mask 2"), ({"q01": [], "q99": []}, "lists of numbers")])
def test_statistics_that_cannot_be_used(actions, why):
    with pytest.raises(CheckpointError, match=why):
        choose({"x": {"action": actions}})


def test_statistics_beside_config_json_are_the_ones_that_count(folder):
    (folder / "dataset_statistics.json").write_text(json.dumps({"mine": samples.OTHER}))
    assert list(stored(folder, open_config(folder))) == ["mine"]


# Images

@pytest.mark.parametrize("strategy", ["resize-naive", "resize-crop", "letterbox"])
@pytest.mark.parametrize("height,width", [(42, 42), (60, 81), (81, 60), (30, 21), (43, 42)])
def test_images_of_any_size_become_those_of_each_tower(strategy, height, width):
    towers = samples.BACKBONES[samples.FUSED]
    reader = read_images(samples.preprocessor(image_resize_strategy=strategy), towers)
    image = picture(1, height, width)
    dino, siglip = reader.read(image)
    assert dino.shape == siglip.shape == (3, 42, 42) and dino.dtype == torch.float32
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in samples.MEANS[towers[0]])
    shown = (dino * std + mean) * 255
    torch.testing.assert_close((siglip * 0.5 + 0.5) * 255, shown, atol=1e-3, rtol=0)  # the same picture for both
    if strategy == "resize-naive" or height == width:
        wanted = np.array(Image.fromarray(image).resize((42, 42), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
        np.testing.assert_allclose(shown.numpy(), wanted, atol=1e-3)


def test_a_letterbox_is_filled_with_the_last_mean_and_a_crop_is_from_the_middle():
    def shown(strategy: str) -> np.ndarray:
        image = np.zeros((42, 84, 3), np.uint8)
        image[:, 21:63] = 255
        reader = read_images(samples.preprocessor(samples.SINGLE, image_resize_strategy=strategy),
                             samples.BACKBONES[samples.SINGLE])
        return (reader.read(image)[0].numpy()[0] * 0.5 + 0.5) * 255
    assert (shown("resize-crop")[:, 4:-4] == 255).all()
    boxed = shown("letterbox")
    assert boxed[:9] == pytest.approx(127) and boxed[-9:] == pytest.approx(127)
    assert boxed[21, 0] < 5 and boxed[21, 21] > 250


def test_the_middle_of_an_image_keeps_nine_tenths_of_it():
    ramp = np.broadcast_to(np.linspace(0, 255, 256)[None, :, None], (256, 256, 3)).astype(np.uint8)
    cropped = centre_crop(ramp)
    edge = (1 - np.sqrt(0.9)) / 2 * 255
    assert cropped.shape == (224, 224, 3)
    assert cropped[0, 0, 0] == pytest.approx(edge, abs=1) and cropped[-1, -1, 2] == pytest.approx(255 - edge, abs=1)
    assert (centre_crop(np.full((50, 70, 3), 200, np.uint8)) == 200).all()
    assert centre_crop(np.full((1, 1, 3), 7, np.uint8)).max() == 7


@pytest.mark.parametrize("changes,why", [
    ({"image_resize_strategy": "stretch"}, "unknown image_resize_strategy"), ({"means": [[0.5] * 3]}, "means"),
    ({"interpolations": ["cubic", "bicubic"]}, "did you mean 'bicubic'"), ({"input_sizes": None}, "input_sizes"),
    ({"input_sizes": [[3, 224, 224]] * 2}, r"images of \[3, 224, 224\], config.json reads \[3, 42, 42\]"),
    ({"stds": [[0.5] * 3, [0.5, 0.0, 0.5]]}, "stds above 0"), ({"means": [["a"] * 3] * 2}, "three numbers")])
def test_images_that_cannot_be_prepared(folder, changes, why):
    with pytest.raises(VlaError, match=why):
        open_checkpoint(changed(folder, "preprocessor_config.json", **changes))
