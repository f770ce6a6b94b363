"""OpenVLA-OFT: all steps of a chunk in one pass, by a head of its own; and what does not fit is refused."""

import shutil
from dataclasses import replace

import numpy as np
import oft_samples as samples
import pytest
import torch
import yaml
from core_samples import PANDA, observation
from openvla_samples import changed, picture
from safetensors.torch import load_file, save_file
from test_policies import PolicyContract
from torch.nn import functional as F

from vla_ros.doctor.examine import cameras_read, examine
from vla_ros.doctor.finding import ERROR
from vla_ros.errors import VlaError
from vla_ros.openvla.prompt import prompt_ids
from vla_ros.policies import open_policy
from vla_ros.spec import ActionSpec
from vla_ros.types import Observation

SEVEN = replace(PANDA, name="seven", action=ActionSpec.from_dict(samples.SAID["action"]))
HEAD, PROPRIO = "action_head--150000_checkpoint", "proprio_projector--150000_checkpoint"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Not to be changed."""
    return samples.write(tmp_path_factory.mktemp("oft") / "checkpoint")


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def seen(words: str = "put the red cube in the tray", **images) -> Observation:
    made = observation(SEVEN, words, stamp=12_345)
    return replace(made, images=made.images | images)


class TestOft(PolicyContract):
    reads_images = True

    @pytest.fixture
    def profile(self):
        return SEVEN

    @pytest.fixture
    def policy(self, folder):
        return open_policy(str(folder), SEVEN)


def test_a_chunk_is_that_of_every_part_written_out(folder):
    """In float64, layer by layer: attention that sees everything, rotary positions, the head's blocks."""
    policy, view = open_policy(str(folder), SEVEN), seen(front=picture(1), wrist=picture(2))
    c, low, high = policy.checkpoint, *(np.array(samples.PROPRIO[key]) for key in ("q01", "q99"))
    model, llama = c.model.double(), c.model.language_model
    ids = prompt_ids(view.instruction, c.config, c.tokenizer)
    state = np.concatenate([view.ee_pose.position, [view.gripper]]).astype(np.float32)
    scaled = torch.from_numpy(np.clip(2 * (state - low) / (high - low + 1e-8) - 1, -1, 1))
    proprio, head = stored(folder, PROPRIO, "module."), stored(folder, HEAD, "module.model.")
    hidden = F.gelu(F.linear(scaled, proprio["fc1.weight"], proprio["fc1.bias"]))
    words = llama.get_input_embeddings()
    x = torch.cat([words(torch.tensor(ids[:1])),
                   *(model.look([tower[None].double() for tower in c.images.read(view.images[name])])[0]
                     for name in ("front", "wrist")),
                   F.linear(hidden, proprio["fc2.weight"], proprio["fc2.bias"])[None], words(torch.tensor(ids[1:])),
                   torch.zeros(samples.STEPS * samples.DIM, samples.WIDTH, dtype=torch.float64),
                   words(torch.tensor([2]))])
    states = everywhere(llama, x)
    said = states[-2 - samples.STEPS * samples.DIM:-2].view(samples.STEPS, -1)
    y = F.relu(layer(norm(said, head, "layer_norm1"), head, "fc1"))
    for block in ("mlp_resnet_blocks.0.ffn", "mlp_resnet_blocks.1.ffn"):
        y = y + F.relu(layer(norm(y, head, f"{block}.0"), head, f"{block}.1"))
    made = layer(norm(y, head, "layer_norm2"), head, "fc2").detach().numpy()
    q01, q99 = (np.array(samples.ACTION[key]) for key in ("q01", "q99"))
    wanted = np.where(samples.ACTION["mask"], 0.5 * (made + 1) * (q99 - q01 + 1e-8) + q01, made)
    chunk = open_policy(str(folder), SEVEN).infer(view)
    assert chunk.values.shape == (samples.STEPS, samples.DIM) and chunk.stamp == 12_345
    np.testing.assert_allclose(chunk.values, wanted, atol=2e-5)
    assert np.ptp(chunk.values, axis=0).min() > 1e-5, "the steps differ"


def stored(folder, file: str, prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): tensor.double() for name, tensor in
            load_file(folder / f"{file}.safetensors").items()}


def layer(x, tensors, name):
    return F.linear(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"])


def norm(x, tensors, name):
    return F.layer_norm(x, x.shape[-1:], tensors[f"{name}.weight"], tensors[f"{name}.bias"])


def everywhere(llama, x: torch.Tensor) -> torch.Tensor:
    """Llama over (N, W) without a mask: each place sees those behind it too."""
    c, n = llama.config, len(x)
    size = c.hidden_size // c.num_attention_heads
    turns = torch.outer(torch.arange(n, dtype=torch.float64), 10000.0 ** (-torch.arange(0, size, 2).double() / size))
    cos, sin = (torch.cat([part, part], 1) for part in (turns.cos(), turns.sin()))

    def normed(x, weight):
        return x / (x.pow(2).mean(-1, keepdim=True) + c.rms_norm_eps).sqrt() * weight

    def turned(x):
        return x * cos + torch.cat([-x[..., size // 2:], x[..., :size // 2]], -1) * sin
    for block in llama.model.layers:
        y = normed(x, block.input_layernorm.weight)
        q, k, v = (linear(y).view(n, -1, size).transpose(0, 1) for linear in
                   (block.self_attn.q_proj, block.self_attn.k_proj, block.self_attn.v_proj))
        shares = (turned(q) @ turned(k).transpose(1, 2) / size ** 0.5).softmax(-1)
        x = x + block.self_attn.o_proj((shares @ v).transpose(0, 1).reshape(n, -1))
        y = normed(x, block.post_attention_layernorm.weight)
        x = x + block.mlp.down_proj(F.silu(block.mlp.gate_proj(y)) * block.mlp.up_proj(y))
    return normed(x, llama.model.norm.weight)


def test_words_state_and_both_images_matter(folder):
    policy, plain = open_policy(str(folder), SEVEN), seen()
    first = policy.infer(plain).values
    moved = replace(plain, gripper=0.0)
    for other in (seen("push it"), seen(front=picture(3, 128, 128)), seen(wrist=picture(3, 128, 128)), moved):
        assert not np.array_equal(policy.infer(other).values, first)
    cropped = open_policy(f"{folder}?center_crop=true", SEVEN)
    assert not np.array_equal(cropped.infer(plain).values, first)
    extremes = open_policy(f"{folder}?bounds=extremes", SEVEN).infer(plain).values
    assert not np.allclose(extremes[:, :6], first[:, :6])


def test_one_image_and_no_state(tmp_path):
    said = samples.SAID | {"images": {"full_image": "front"}, "state": {}}
    policy = open_policy(str(samples.write(tmp_path / "c", numbers=0, wrapped=False, said=said)), SEVEN)
    assert policy.cameras == ("front",) and policy.state is None
    assert np.isfinite(policy.infer(seen()).values).all()


@pytest.mark.parametrize("words,why", [("", "empty"), ("go " * 2000, "too long")])
def test_words_that_cannot_be_asked(folder, words, why):
    assert why in open_policy(str(folder), SEVEN).infer(seen(words)).refusal


def said(copy, **changes):
    (copy / "vla.yaml").write_text(yaml.safe_dump(samples.SAID | changes))


def altered(copy, file, **tensors):
    """Dots of their names are two underscores; None takes one away."""
    held = load_file(copy / f"{file}.safetensors") | {f"module.{k.replace('__', '.')}": t for k, t in tensors.items()}
    save_file({name: tensor for name, tensor in held.items() if tensor is not None}, copy / f"{file}.safetensors")


def pickled(copy, name):
    (copy / f"{name}.safetensors").rename(copy / f"{name}.pt")


REFUSED = {
    "no file": (lambda c: (c / "vla.yaml").unlink(), "is to be said in vla.yaml there, or in a file as in"),
    "a pickle": (lambda c: pickled(c, HEAD), "lacks action_head.safetensors; .*action_head--150000_checkpoint.pt"),
    "another pickle": (lambda c: pickled(c, PROPRIO), "lacks proprio_projector.safetensors"),
    "two heads": (lambda c: shutil.copy(c / f"{HEAD}.safetensors", c / "action_head--2_checkpoint.safetensors"),
                  "has 2 files action_head"),
    "no head": (lambda c: (c / f"{HEAD}.safetensors").unlink(), "lacks action_head.safetensors"),
    "diffusion": (lambda c: (c / "noisy_action_projector--1_checkpoint.pt").touch(), "actions by diffusion"),
    "film": (lambda c: (c / "vision_backbone--1_checkpoint.pt").touch(), "told the words .FiLM."),
    "another head": (lambda c: altered(c, HEAD, model__fc2__weight=None),
                     "none of a regression of the actions"),
    "a head that does not fit": (lambda c: altered(c, HEAD, model__fc1__weight=torch.zeros(3, 3)),
                                 "action_head of .* does not fit: .*fc1.weight"),
    "nan": (lambda c: altered(c, PROPRIO, fc1__bias=torch.full((32,), np.nan)), "weights are not finite"),
    "no floats": (lambda c: altered(c, PROPRIO, fc1__bias=torch.zeros(32, dtype=torch.int8)),
                  "weights are not floats: module.fc1.bias"),
    "damaged": (lambda c: (c / f"{HEAD}.safetensors").write_bytes(b"12345678"), "is damaged"),
    "another state": (lambda c: said(c, state={"state": ["position"]}), r"states of \[3\] numbers, the check.* 4"),
    "no state": (lambda c: said(c, state={}), r"states of \[\] numbers"),
    "another robot": (lambda c: said(c, action=samples.SAID["action"] | {"period": 0.2}), "disagree on what an action"),
    "other actions": (lambda c: said(c, adapt={"rotation": "quaternion"}), "have 8 numbers, the statistics' 7"),
    "no proprio": (lambda c: changed(c, norm_stats={"mine": {"action": samples.ACTION}}), "lack q01 and q99 of pro"),
    "short proprio": (lambda c: changed(c, norm_stats={"mine": {"action": samples.ACTION, "proprio": samples.ACTION}}),
                      "have 7 numbers of proprio, the checkpoint reads 4"),
}


@pytest.mark.parametrize("how", REFUSED)
def test_what_does_not_fit_is_refused(copy, how):
    spoil, why = REFUSED[how]
    spoil(copy)
    with pytest.raises(VlaError, match=why):
        open_policy(str(copy), SEVEN)


@pytest.mark.parametrize("query,why", [("camera=front", "unknown option of an OpenVLA checkpoint 'camera'.*bounds"),
                                       ("bounds=q99", "value of bounds 'q99'.*extremes, quantiles"),
                                       ("unnorm_key=other", "unknown unnorm_key 'other'.*mine")])
def test_options_that_cannot_be(folder, query, why):
    with pytest.raises(VlaError, match=why):
        open_policy(f"{folder}?{query}", SEVEN)


def test_the_doctor_knows_it(folder, copy):
    found = {f.check: f for f in examine(SEVEN, str(folder))}
    assert not [f for f in found.values() if f.level == ERROR] and found["weights"].level == "ok"
    assert found["description"].what == "vla.yaml: cameras front, wrist; numbers, no words"
    said(copy, images={"full_image": "wrist"})
    assert cameras_read(SEVEN, str(copy)) == ("wrist",)
    (copy / "vla.yaml").unlink()
    assert [f.check for f in examine(SEVEN, str(copy)) if f.level == ERROR] == ["description"]
