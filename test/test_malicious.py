"""Checkpoints that mean harm, of every kind that is opened: nothing of theirs runs, each is refused with a reason.

A case changes the files of a whole checkpoint, and gives what the error must say.
"""

import json
import pickle
import resource
import shutil
import struct

import lerobot_folder
import model_samples
import numpy as np
import openvla_samples
import pytest
import torch
import vlm_samples
import yaml
from core_samples import PANDA
from safetensors.torch import load_file, save_file

from vla_ros.errors import VlaError
from vla_ros.model.files import save_checkpoint
from vla_ros.policies import open_policy
from vla_ros.untrusted import LARGEST_TEXT, require_modest, require_sides

WEIGHTS, CONFIG, TOKENIZER = "model.safetensors", "config.json", "tokenizer.json"
KINDS = ("native", "openvla", "llava", "pi0")
OPTIONS = {"openvla": "?unnorm_key=bridge_orig&rotation=hold"}
ROOM = 4 << 30  # [bytes] of addresses that opening may take beyond what is taken already


def made(kind, folder):
    if kind == "native":
        save_checkpoint(folder, model_samples.tiny(), model_samples.TOKENIZER)
    else:
        {"openvla": openvla_samples.write, "llava": vlm_samples.write, "pi0": vlm_samples.write_pi0}[kind](folder)
    return folder


@pytest.fixture(scope="module", params=KINDS)
def whole(request, tmp_path_factory):
    return request.param, made(request.param, tmp_path_factory.mktemp(request.param) / "whole")


@pytest.fixture
def kind(whole):
    return whole[0]


@pytest.fixture
def folder(whole, tmp_path):
    return shutil.copytree(whole[1], tmp_path / "checkpoint")


def opened(kind, folder):
    return open_policy(f"{folder}{OPTIONS.get(kind, '')}", PANDA)


def refused(kind, folder, why):
    """Says why, and took no memory for what was asked for."""
    with limited(), pytest.raises(VlaError, match=why or None) as error:
        opened(kind, folder)
    return str(error.value)


class limited:
    """Within it, memory beyond ROOM is not given: what tries to take it fails, and not the machine."""

    def __enter__(self):
        self.before = resource.getrlimit(resource.RLIMIT_AS)
        with open("/proc/self/statm") as statm:
            taken = int(statm.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + ROOM, self.before[1]))

    def __exit__(self, *_):
        resource.setrlimit(resource.RLIMIT_AS, self.before)


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def every(content, change, key=""):
    """change(mapping, key) for each key of a JSON file, however deep."""
    for name, value in list(content.items()):
        if isinstance(value, dict):
            every(value, change)
        change(content, name)


def tensors(folder, change):
    content = load_file(folder / WEIGHTS)
    change(content)
    save_file(content, folder / WEIGHTS, metadata={"format": "pt"})


class Touch:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def test_as_it_was_it_opens(kind, folder):
    with limited():
        opened(kind, folder)


# What could run

def test_a_pickle_in_the_place_of_weights(kind, folder, tmp_path):
    for name in ("pytorch_model.bin", "model.pt", "consolidated.00.pth", "last.ckpt", "policy.pkl"):
        (folder / name).write_bytes(pickle.dumps(Touch(tmp_path / "touched")))
    opened(kind, folder)
    (folder / WEIGHTS).unlink()
    refused(kind, folder, "is a pickle, which runs code.*never opened.*weights_only=True")
    assert not (tmp_path / "touched").exists()


def test_a_pickle_that_is_called_safetensors(kind, folder, tmp_path):
    (folder / WEIGHTS).write_bytes(pickle.dumps(Touch(tmp_path / "touched")))
    refused(kind, folder, "damaged")
    assert not (tmp_path / "touched").exists()


def test_code_that_is_named(kind, folder, tmp_path):
    for name in ("evil", "modeling_evil", "__init__"):
        (folder / f"{name}.py").write_text(f"open({str(tmp_path / 'touched')!r}, 'w')\n")
    autos = ("AutoConfig", "AutoModel", "AutoModelForImageTextToText", "AutoModelForVision2Seq", "AutoProcessor",
             "AutoTokenizer", "AutoImageProcessor")
    for file in folder.glob("*.json"):
        if file.name not in (TOKENIZER, "model.safetensors.index.json"):
            edit(file, lambda c: c.update(auto_map=dict.fromkeys(autos, "evil.Evil"), custom_pipelines={
                "x": {"impl": "evil.Evil"}}))
    opened(kind, folder)
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("key", ["_attn_implementation", "attn_implementation", "_experts_implementation"])
def test_a_program_from_a_hub_that_is_named(kind, folder, key):
    edit(folder / CONFIG, lambda c: c.update({key: "someone/kernel"}))
    refused(kind, folder, f"{key} names 'someone/kernel', a program from elsewhere")


def test_a_checkpoint_that_names_another(folder, kind):
    said = {"base_model_name_or_path": "/elsewhere", "peft_type": "LORA"}
    (folder / "adapter_config.json").write_text(json.dumps(said))
    refused(kind, folder, "is an adapter")


# Weights

def first_matrix(content):
    return max(content, key=lambda name: (content[name].ndim == 2, content[name].numel()))


@pytest.mark.parametrize("shape", [(3, 5), (0,), ()], ids=str)
def test_a_tensor_of_another_shape(kind, folder, shape):
    tensors(folder, lambda c: c.update({first_matrix(c): torch.zeros(shape)}))
    refused(kind, folder, "shape|mismatched|config.json describes|cannot be opened")


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool], ids=str)
def test_a_tensor_of_another_dtype(kind, folder, dtype):
    tensors(folder, lambda c: c.update({(name := first_matrix(c)): c[name].to(dtype)}))
    refused(kind, folder, "not of floats|not floats")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_numbers(kind, folder, value):
    tensors(folder, lambda c: c[first_matrix(c)].view(-1).__setitem__(-1, value))
    refused(kind, folder, "weights are not finite: .*1\\)")


def test_a_tensor_that_is_missing(kind, folder):
    tensors(folder, lambda c: c.pop(first_matrix(c)))
    refused(kind, folder, "missing|config.json describes")


def header(path, change):
    """The file with another header, changed as JSON."""
    content = path.read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    said = json.loads(content[8:8 + size])
    changed = change(said)
    text = json.dumps(said if changed is None else changed).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + size:])


def entry(said, offsets=None, shape=None):
    name = max((n for n in said if n != "__metadata__"), key=lambda n: said[n]["data_offsets"][1])
    said[name] |= {"data_offsets": offsets} if offsets else {"shape": shape}


@pytest.mark.parametrize("change", [
    lambda said: entry(said, offsets=[0, 4]), lambda said: entry(said, offsets=[0, 1 << 60]),
    lambda said: entry(said, offsets=[8, 4]), lambda said: entry(said, shape=[1 << 40, 1 << 40]),
    lambda said: entry(said, shape=[1 << 62]), lambda said: {}, lambda said: [], lambda said: {"a": 1},
    lambda said: said | {"twice": said[first_name(said)]}],
    ids=["overlap", "beyond", "backwards", "overflow", "huge", "empty", "list", "number", "shared"])
def test_a_header_that_lies(kind, folder, change):
    header(folder / WEIGHTS, change)
    refused(kind, folder, "damaged|missing|cannot be opened|config.json describes")


def first_name(said):
    return next(name for name in said if name != "__metadata__")


@pytest.mark.parametrize("content", [
    b"", b"\0" * 7, struct.pack("<Q", 1 << 62) + b"{}", struct.pack("<Q", 200 << 20) + b"{}",
    struct.pack("<Q", 2) + b"{}", struct.pack("<Q", 200_000) + b"[" * 200_000],
    ids=["empty", "short", "longer than any", "longer than the file", "nothing inside", "deep"])
def test_a_file_that_is_no_safetensors(kind, folder, content):
    (folder / WEIGHTS).write_bytes(content)
    refused(kind, folder, "damaged|missing|cannot be opened|config.json describes")


# Names and links that lead elsewhere

@pytest.mark.parametrize("place", ["../elsewhere/model.safetensors", "/etc/passwd", "..", "sub/../../x.safetensors",
                                   "https://a/model.safetensors", "file:///etc/passwd", "model.bin"])
def test_an_index_that_leads_elsewhere(kind, folder, place, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    shutil.move(folder / WEIGHTS, tmp_path / "elsewhere" / WEIGHTS)
    places = dict.fromkeys(load_file(tmp_path / "elsewhere" / WEIGHTS), place)
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    refused(kind, folder, "expected .safetensors files in its folder|lacks model.safetensors")


@pytest.mark.parametrize("file", [WEIGHTS, TOKENIZER, CONFIG, "extra/notes.txt"])
def test_a_link_that_leads_out(kind, folder, file, tmp_path):
    place = folder / file
    place.parent.mkdir(exist_ok=True)
    if place.exists():
        shutil.move(place, tmp_path / "outside")
    else:
        (tmp_path / "outside").write_text("secret")
    place.symlink_to(tmp_path / "outside")
    refused(kind, folder, f"{file} is a link that leads out of it")


def test_a_link_within_it_is_followed(kind, folder):
    (folder / "blob").write_bytes((folder / WEIGHTS).read_bytes())
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).symlink_to("blob")
    opened(kind, folder)


def test_files_that_are_named_elsewhere_are_not_read(kind, folder, tmp_path):
    """Those of tokenizers, whose places transformers once took from this file."""
    (tmp_path / "other.json").write_text("no tokenizer")
    for name in ("tokenizer_config.json", CONFIG):
        if (folder / name).is_file():
            edit(folder / name, lambda c: c.update(dict.fromkeys(
                ("tokenizer_file", "vocab_file", "merges_file", "name_or_path", "_name_or_path"),
                str(tmp_path / "other.json"))))
    opened(kind, folder)


def test_fast_words_from_elsewhere(tmp_path):
    folder = made("llava", tmp_path / "checkpoint")
    vlm_samples.write_fast(tmp_path / "fast", 2, 4)
    for place in ("../fast", str(tmp_path / "fast")):
        vlm_samples.described(folder, bins=None, fast={"folder": place, "first": vlm_samples.FIRST, "end": 2})
        refused("llava", folder, "leads out of the checkpoint")


# Sizes beyond all that there is

SIZES = ("hidden_size", "vocab_size", "intermediate_size", "width", "image_size", "mlp", "projection_dim",
         "max_action_dim", "num_hidden_layers", "num_attention_heads", "layers", "depth", "heads", "vision_layers",
         "expert_width", "image_sizes", "text_length", "answer_length", "horizon", "num_inference_steps", "patch_size",
         "vision_width", "num_channels")
UNREAD = {("llava", "projection_dim"), ("openvla", "image_size")}  # of which nothing is made


def holds(content, key):
    return isinstance(content, dict) and (key in content or any(holds(v, key) for v in content.values())) \
        or isinstance(content, list) and any(holds(v, key) for v in content)


def put(content, key, value):
    for name, inner in (content.items() if isinstance(content, dict) else enumerate(content)):
        if name == key:
            content[name] = [value] * len(inner) if isinstance(inner, list) else value
        elif isinstance(inner, dict | list):
            put(inner, key, value)


@pytest.mark.parametrize("size", [1 << 24, 1 << 40, 1 << 64], ids=["2^24", "2^40", "2^64"])
def test_an_enormous_size(kind, folder, size):
    content = (folder / CONFIG).read_text()
    tried = [key for key in SIZES if holds(json.loads(content), key)]
    assert len(tried) > 5
    for key in tried:
        changed = json.loads(content)
        put(changed, key, size)
        (folder / CONFIG).write_text(json.dumps(changed))
        if (kind, key) in UNREAD:
            opened(kind, folder)
        else:
            assert refused(kind, folder, "config.json|action|tower"), key


@pytest.mark.parametrize("file", [CONFIG, TOKENIZER])
def test_a_text_that_is_larger_than_any(kind, folder, file):
    with (folder / file).open("r+b") as sparse:
        sparse.truncate(LARGEST_TEXT + 1)
    refused(kind, folder, f"{file} has {LARGEST_TEXT + 1} bytes, at most")


@pytest.mark.parametrize("content", ["[" * 200_000, "{" * 200_000, "\ud800".encode("utf-8", "surrogatepass"), "NaN",
                                     "[]", '"text"', "", "{}"], ids=lambda c: str(c[:8]))
@pytest.mark.parametrize("file", [CONFIG, TOKENIZER])
def test_a_text_that_is_something_else(kind, folder, file, content):
    (folder / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(kind, folder, "")


def test_a_tokenizer_with_more_words_than_the_model(kind, folder):
    def change(content):
        content["model"]["vocab"]["beyond"] = 4_000_000_000
    edit(folder / TOKENIZER, change)
    refused(kind, folder, "has a word 4000000000, the model has|no tokenizer|damaged|cannot be opened")


def test_a_tokenizer_with_added_words_without_end(kind, folder):
    def change(content):
        extra = {"special": False, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
        content["added_tokens"] += [extra | {"id": 100_000 + i, "content": f"<w{i}>"} for i in range(40_000)]
    edit(folder / TOKENIZER, change)
    refused(kind, folder, "the tokenizer has a word")


def test_a_chunk_that_is_longer_than_any(tmp_path):
    folder = made("llava", tmp_path / "checkpoint")
    vlm_samples.described(folder, action=vlm_samples.DESCRIPTION["action"] | {"horizon": 1 << 40})
    refused("llava", folder, "horizon")
    vlm_samples.described(folder, bins=None, fast={"folder": "fast", "first": 300, "end": 2, "most": 1 << 40})
    refused("llava", folder, "most")


def test_images_of_an_enormous_size(tmp_path):
    folder = made("llava", tmp_path / "checkpoint")
    for file in folder.glob("*processor_config.json"):
        edit(file, lambda c: put(c, "shortest_edge", 1 << 30))
    refused("llava", folder, "shortest_edge 1073741824, at most")


def test_images_in_pixels_are_told_from_sides(tmp_path):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"size": {"longest_edge": 12845056}}))
    require_sides(tmp_path, "qwen2_vl")
    with pytest.raises(VlaError, match="longest_edge"):
        require_sides(tmp_path, "llava")


def test_what_published_configurations_say_is_modest():
    require_modest({"max_position_embeddings": 1 << 20, "rope_theta": 1e6, "image_token_index": 257152,
                    "text_config": {"num_hidden_layers": 126, "vocab_size": 257216, "num_experts": 512},
                    "scheduler_decay_steps": 30_000, "scheduler_warmup_steps": 10_000,  # SmolVLA and pi0 in LeRobot
                    "depths": [2, 2, 18, 2], "_attn_implementation": "sdpa"}, "")


# Recordings

@pytest.mark.parametrize("change", ["pickle", "object", "zeros", "another shape"])
def test_a_recording(tmp_path, change):
    file = tmp_path / "a.npz"
    if change == "pickle":
        file.write_bytes(pickle.dumps(Touch(tmp_path / "touched")))
    elif change == "object":
        np.savez(file, chunks=np.array([Touch(tmp_path / "touched")], object), names=np.array(["dx"]))
    elif change == "zeros":
        np.savez_compressed(file, chunks=np.zeros((1 << 16, 520, 4)), names=np.array(PANDA.action.names))
    else:
        np.savez_compressed(file, chunks=np.zeros((1, 1, 4)), names=np.array(PANDA.action.names))
        rewritten(file, {"shape": (1 << 40, 1, 4)})
    with limited(), pytest.raises(VlaError, match="a.npz"):
        open_policy(f"replay:{file}", PANDA)
    assert not (tmp_path / "touched").exists()


def rewritten(file, changes):
    """The recording, whose array says another shape than it has."""
    import io
    import zipfile
    with zipfile.ZipFile(file) as packed:
        contents = {name: packed.read(name) for name in packed.namelist()}
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f8", "fortran_order": False} | changes)
    contents["chunks.npy"] = head.getvalue() + b"\0" * 32
    with zipfile.ZipFile(file, "w") as packed:
        for name, content in contents.items():
            packed.writestr(name, content)


# LeRobot's, of which this process reads all but the weights' content

@pytest.mark.parametrize("harm, why", [
    (lambda f: (f / WEIGHTS).write_bytes(struct.pack("<Q", 1 << 62) + b"{}"), "damaged"),
    (lambda f: save_file({"a": torch.zeros(2, dtype=torch.int8)}, f / WEIGHTS), "not floats"),
    (lambda f: edit(f / CONFIG, lambda c: c.update(n_obs_steps=1 << 40)), "n_obs_steps is 1099511627776, at most"),
    (lambda f: (f / "notes.txt").symlink_to("/etc/passwd"), "notes.txt is a link that leads out"),
    (lambda f: (f / WEIGHTS).rename(f / "model.bin"), "model.bin is a pickle")],
    ids=["header", "dtype", "size", "link", "pickle"])
def test_a_checkpoint_of_lerobot(tmp_path, harm, why):
    folder = lerobot_folder.wrote(tmp_path / "checkpoint")
    harm(folder)
    with limited(), pytest.raises(VlaError, match=why):
        open_policy(f"lerobot:{folder}?python=python3", PANDA)


def test_a_description_full_of_references(tmp_path):
    """YAML whose aliases would unfold to billions of values."""
    folder = made("llava", tmp_path / "checkpoint")
    lines = ["a0: &a0 [0, 0, 0, 0, 0, 0, 0, 0, 0]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 20)]
    (folder / "vla.yaml").write_text("\n".join([*lines, "low: *a19", ""]) + yaml.safe_dump(vlm_samples.DESCRIPTION))
    refused("llava", folder, "unknown key")
