"""OpenVLA checkpoints as files: what config.json may say, and what is refused."""

import json
import pickle
import shutil

import numpy as np
import openvla_samples as samples
import pytest
import torch
from openvla_samples import changed, said
from safetensors.torch import load_file, save_file

from vla_ros.errors import CheckpointError, UnknownNameError, VlaError
from vla_ros.openvla.configuration import read_config
from vla_ros.openvla.files import open_checkpoint


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A fused checkpoint in one file. Not to be changed: `folder` is a copy."""
    return samples.write(tmp_path_factory.mktemp("openvla") / "fused")


@pytest.fixture
def folder(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "copy")


# What config.json may say

@pytest.mark.parametrize("changes,why", [
    ({"model_type": "llava"}, "model_type 'llava', expected 'openvla'"),
    ({"llm_backbone_id": "phi-2-3b"}, "unknown llm_backbone_id 'phi-2-3b'.*llama2-7b-pure"),
    ({"vision_backbone_id": "resnet"}, "unknown vision_backbone_id 'resnet'.*dinosiglip-vit-so-224px"),
    ({"vision_towers": [{"patch": 14, "wide": 3}]}, "unknown key in vision_towers 'wide'"),
    ({"vision_towers": [{"patch": 14}]}, "vision_towers"), ({"vision_towers": [3]}, "must be a mapping"),
    ({"vision_towers": 3}, "must be a list"), ({"image_sizes": [42]}, "1 image_sizes"),
    ({"image_sizes": [42, 56]}, "as many patches"), ({"image_sizes": ["a", "b"]}, "cannot be"),
    ({"text_config": {"model_type": "mistral"}}, "must be that of a llama"),
    ({"text_config": {"vocab_size": "many"}}, "vocab_size 'many'"),
    ({"text_config": {"rope_scaling": {"factor": 2}}}, "rotary"),
    ({"text_config": {"hidden_size": 33, "vocab_size": 32064}}, "describes no model"),
    ({"text_config": {"vocab_size": 1000}}, "not Llama 2's"), ({"n_action_bins": 0}, "n_action_bins 0"),
    ({"norm_stats": [1]}, "norm_stats"), ({"timm_override_act_layers": ["relu", None]}, "unknown activation.*gelu")])
def test_a_config_that_cannot_be_used(folder, changes, why):
    with pytest.raises(VlaError, match=why):
        open_checkpoint(changed(folder, **changes))


def test_a_tower_that_is_not_known_by_name_is_named():
    content = samples.config()
    del content["vision_towers"]
    with pytest.raises(UnknownNameError, match="unknown vision tower 'tiny_0'"):
        read_config(content)


# What is refused of the files

@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "tokenizer.json", "model.safetensors"])
def test_a_file_that_is_missing_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=f"lacks {name}"):
        open_checkpoint(folder)


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "tokenizer.json", "model.safetensors"])
@pytest.mark.parametrize("content", [b"\x80\x04N.", b"[]", b"[" * 100_000], ids=["pickle", "list", "deep"])
def test_a_file_that_is_something_else(folder, name, content):
    (folder / name).write_bytes(content)
    with pytest.raises(CheckpointError):
        open_checkpoint(folder)


@pytest.mark.parametrize("name", ["noisy_action_projector--5_checkpoint.pt", "vision_backbone--50000_checkpoint.pt"])
def test_a_checkpoint_that_acts_by_an_unknown_part(folder, name):
    (folder / name).write_bytes(b"")
    with pytest.raises(CheckpointError, match=f"one of OpenVLA-OFT with .*{name.partition('--')[0]}"):
        open_checkpoint(folder)


def test_weights_of_two_kinds_become_one(folder):
    def change(tensors):
        tensors[NAME] = tensors[NAME].to(torch.bfloat16)
    assert {p.dtype for p in open_checkpoint(rewritten(folder, change)).model.parameters()} == {torch.float32}


def test_torn_weights(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="damaged"):
        open_checkpoint(folder)


class Touch:
    """Unpickling it makes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def test_a_pickle_is_never_opened(folder, tmp_path):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Touch(tmp_path / "touched")))
    with pytest.raises(CheckpointError, match="pytorch_model.bin is a pickle"):
        open_checkpoint(folder)
    assert not (tmp_path / "touched").exists()


def test_code_of_a_checkpoint_never_runs(folder, tmp_path):
    code = f"open({str(tmp_path / 'touched')!r}, 'w')\n"
    names = ("modeling_prismatic", "configuration_prismatic", "processing_prismatic")
    for name in (*names, "__init__"):
        (folder / f"{name}.py").write_text(code)
    changed(folder, auto_map={"AutoConfig": f"{names[1]}.OpenVLAConfig",
                              "AutoModelForVision2Seq": f"{names[0]}.OpenVLAForActionPrediction"})
    changed(folder, "preprocessor_config.json", auto_map={"AutoImageProcessor": f"{names[2]}.PrismaticImageProcessor"})
    changed(folder, "tokenizer_config.json", auto_map={"AutoTokenizer": [f"{names[2]}.Tokenizer", None]})
    said(open_checkpoint(folder))
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("place", ["../{}/model.safetensors", "{}/model.safetensors", "/etc/passwd", "..",
                                   "pytorch_model.bin"])
def test_an_index_that_leads_elsewhere(folder, place, tmp_path):
    weights = folder / "model.safetensors"
    other = tmp_path / "elsewhere"
    other.mkdir()
    shutil.move(weights, other / "model.safetensors")
    names = list(load_file(other / "model.safetensors"))
    index = {"weight_map": dict.fromkeys(names, place.format("elsewhere" if ".." in place else str(other)))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="expected .safetensors files in its folder"):
        open_checkpoint(folder)


@pytest.mark.parametrize("index", [{}, {"weight_map": {}}, {"weight_map": {"a": 3}}, []], ids=str)
def test_an_index_that_names_nothing(folder, index):
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="no weight_map"):
        open_checkpoint(folder)


def test_a_shard_that_is_missing_is_named(tmp_path):
    folder = samples.write(tmp_path / "c", shards=2)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match="lacks model-00002-of-00002.safetensors"):
        open_checkpoint(folder)


def rewritten(folder, change):
    """The folder with its tensors changed by `change(tensors)`."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    return folder


NAME = "projector.fc1.weight"


@pytest.mark.parametrize("change,why", [
    (lambda t: t.pop(NAME), f"missing: {NAME} \\(1\\)"),
    (lambda t: t.update({"projector.fc4.weight": torch.zeros(2)}), "unexpected: projector.fc4.weight"),
    (lambda t: t.update({NAME: torch.zeros(2, 3)}), f"of another shape: {NAME} \\[2, 3\\] instead of"),
    (lambda t: t.update({NAME: t[NAME].to(torch.int8)}), f"not of floats: {NAME} int8"),
    (lambda t: t.update({"vision_backbone.featurizer.blocks.9.norm1.bias": torch.zeros(2)}), "unexpected")],
    ids=["missing", "unexpected", "shape", "integers", "block"])
def test_tensors_that_do_not_fit(folder, change, why):
    with pytest.raises(CheckpointError, match=why):
        open_checkpoint(rewritten(folder, change))


def test_what_never_acts_may_be_missing_or_of_any_shape(folder):
    before = said(open_checkpoint(folder)).probabilities

    def change(tensors):
        last = [name for name in tensors if name.startswith("vision_backbone.featurizer.blocks.2.")]
        assert last and "vision_backbone.fused_featurizer.attn_pool.latent" in tensors
        for name in last:
            del tensors[name]
        tensors["vision_backbone.fused_featurizer.norm.weight"] = torch.zeros(3)
        tensors["language_model.model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.zeros(4)
    np.testing.assert_array_equal(said(open_checkpoint(rewritten(folder, change))).probabilities, before)


def test_a_tensor_that_two_shards_hold(tmp_path):
    folder = samples.write(tmp_path / "c", shards=2)
    for file in sorted(folder.glob("*.safetensors"))[:1]:
        shutil.copy(file, folder / "model-00002-of-00002.safetensors")
    with pytest.raises(CheckpointError, match="unexpected.*missing|missing.*unexpected"):
        open_checkpoint(folder)


def test_another_tokenizer(folder):
    content = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary["▁"], vocabulary["e"] = vocabulary["e"], vocabulary["▁"]
    (folder / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="29871 is not the empty one"):
        open_checkpoint(folder)


def test_no_folder(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint folder"):
        open_checkpoint(tmp_path / "nowhere")
