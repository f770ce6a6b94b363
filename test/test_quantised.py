"""Weights of 8 and of 4 bits: of the blocks alone, close to what they were, and by no code from a hub."""

import sys
import types

import numpy as np
import openvla_samples
import pytest
import torch
import vlm_samples
from core_samples import PANDA
from openvla_samples import said
from torch import nn

from vla_ros.errors import ConfigError
from vla_ros.openvla import quantised
from vla_ros.openvla.files import open_checkpoint
from vla_ros.policies import open_policy
from vla_ros.types import JointState, Observation, Pose

WIDE = {"text_config": {"model_type": "llama", "vocab_size": 32064, "hidden_size": 128, "pad_token_id": 32000,
                        "intermediate_size": 192, "num_hidden_layers": 2, "num_attention_heads": 4}}
OFF = {"int8": 0.03, "nf4": 0.25}  # share of its length by which an output of a random layer may differ
BYTES = {"int8": 1.0, "nf4": 0.5}  # a weight, without the scales


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return openvla_samples.write(tmp_path_factory.mktemp("openvla") / "wide", dtype=torch.bfloat16, **WIDE)


def seen(words="touch the red cube"):
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    hand = Pose(np.array([0.4, 0.1, 0.2]), np.eye(3))
    return Observation({"front": image}, JointState({}, {}, 0), words, {"front": 7}, hand, 0.05)


@pytest.mark.parametrize("kind", quantised.KINDS)
def test_the_layers_of_the_blocks_are_small_and_say_nearly_the_same(folder, kind):
    whole, small = open_checkpoint(folder).model, open_checkpoint(folder, kind).model
    compared = 0
    for name, layer in whole.named_modules():
        if type(layer) is not nn.Linear:
            continue
        other = small.get_submodule(name)
        odd = kind == "nf4" and any(n % quantised.SIDE for n in layer.weight.shape)
        if odd or (".layers." not in name and ".blocks." not in name):
            assert type(other) is nn.Linear and torch.equal(other.weight, layer.weight), name
            continue
        x = torch.randn(5, layer.in_features, generator=torch.manual_seed(0)).to(torch.bfloat16)
        with torch.inference_mode():
            wanted, made = layer(x).float(), other(x).float()
        assert 0 < (made - wanted).norm() / wanted.norm() < OFF[kind], name
        assert other.weight.nbytes == pytest.approx(BYTES[kind] * layer.weight.numel(), rel=0.05)
        compared += 1
    assert compared >= 14


@pytest.mark.parametrize("kind", quantised.KINDS)
def test_it_speaks_with_them(folder, kind, caplog):
    whole, small = said(open_checkpoint(folder)), said(open_checkpoint(folder, kind))
    assert not caplog.records, "nothing is said of each layer"
    assert len(small.tokens) == 7 and np.isfinite(small.probabilities).all()
    assert not np.array_equal(small.probabilities, whole.probabilities)


def llava(folder):
    vlm_samples.write(folder, text={"hidden_size": 64, "intermediate_size": 128})


@pytest.mark.parametrize("write,kind", [
    (llava, "int8"), (llava, "nf4"), (vlm_samples.write_pi0, "int8"),
    (lambda folder: vlm_samples.write_qwen(folder, "qwen2_5_vl"), "int8")], ids=["llava", "llava-nf4", "pi0", "qwen"])
def test_any_model_of_transformers_acts_with_them(tmp_path, write, kind):
    write(tmp_path)
    policy = open_policy(f"{tmp_path}?dtype={kind}", PANDA)
    layers = {type(module).__name__ for module in policy.model.model.modules()}
    assert {"int8": "Linear8bitLt", "nf4": "Linear4bit"}[kind] in layers
    chunk = policy.infer(seen())
    assert len(chunk.values) and not chunk.refusal and np.isfinite(chunk.values).all()


def test_it_is_never_whole_on_the_device(monkeypatch):
    """A layer is rounded before the next one is moved."""
    model = nn.ModuleDict({"blocks": nn.ModuleList(nn.Linear(64, 64) for _ in range(3)), "head": nn.Linear(64, 2)})
    order, made = [], quantised.quantised
    monkeypatch.setattr(quantised, "quantised", lambda *given: order.append("made") or Moved(order, made(*given)))
    quantised.fit(model, "nf4", "cpu")
    assert order == ["made", "moved"] * 3


class Moved(nn.Module):
    def __init__(self, order, layer):
        super().__init__()
        self.order, self.layer = order, layer

    def to(self, device):
        self.order.append("moved")
        return self


def test_without_the_library_it_is_said_how_to_have_it(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ConfigError, match=r"pip install 'vla_ros\[quantised\]'"):
        open_checkpoint(folder, "int8")
    assert open_checkpoint(folder, "bfloat16").model


def test_the_library_brings_no_code_from_a_hub(monkeypatch):
    """It asks the package `kernels` for some, where that is installed, as soon as it is imported."""
    asked, kernels = [], types.ModuleType("kernels")
    kernels.get_kernel = lambda *name, **more: asked.append(name)
    monkeypatch.setitem(sys.modules, "kernels", kernels)
    for name in [name for name in sys.modules if name.partition(".")[0] == "bitsandbytes"]:
        monkeypatch.delitem(sys.modules, name)
    found = []

    def find(name, path=None, target=None):
        found.append(sys.modules["kernels"])
        raise ImportError(name)
    monkeypatch.setattr(sys, "meta_path", [types.SimpleNamespace(find_spec=find)])
    with pytest.raises(ConfigError):
        quantised.bitsandbytes()
    assert found == [None] and sys.modules["kernels"] is kernels and not asked
