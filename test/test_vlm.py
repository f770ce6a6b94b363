"""Vision-language models whose words are actions: from a folder and a file beside it to chunks, or a clear error."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import vlm_samples as samples
from core_samples import PANDA

from vla_ros.doctor.examine import examine
from vla_ros.errors import ActionError, CheckpointError, ConfigError, UnknownNameError, VlaError
from vla_ros.policies import open_policy
from vla_ros.policies.vlm import BinWords
from vla_ros.types import JointState, Observation
from vla_ros.vlm.description import Bins

SAID = "touch the red cube"


@pytest.fixture(scope="module")
def llava(tmp_path_factory):
    return samples.write(tmp_path_factory.mktemp("llava"))


@pytest.fixture(scope="module")
def policy(llava):
    return open_policy(str(llava), PANDA)


def seen(words=SAID, seed=0):
    image = np.random.default_rng(seed).integers(0, 256, (64, 48, 3), dtype=np.uint8)
    return Observation({"front": image}, JointState({}, {}, 0), words, {"front": 7})


@pytest.fixture
def copy(llava, tmp_path):
    """The checkpoint's files, to be changed."""
    for file in llava.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def test_words_are_the_bins_that_the_file_declares(policy):
    chunk = policy.infer(seen())
    assert policy.name == "vlm:llava" and policy.cameras == ("front",)
    assert chunk.values.shape == chunk.tokens.shape == (2, 4) and not chunk.refusal
    bins = chunk.tokens - samples.FIRST
    assert ((bins >= 0) & (bins < samples.COUNT)).all()
    low, high = (np.array(samples.DESCRIPTION[name]) for name in ("low", "high"))
    assert np.allclose(chunk.values, low + (bins + 0.5) / samples.COUNT * (high - low))
    assert 0 < chunk.confidence <= 1 and set(chunk.timings) == {"preprocess", "act"}


def test_they_are_what_the_model_itself_says(policy):
    """Greedily and without a cache, with the prompt written out."""
    model, processor = policy.model.model, policy.model.processor
    from PIL import Image
    text = f"USER: <image>\nWhat action should the robot take to {SAID}? ASSISTANT:"
    inputs = processor(text=text, images=[Image.fromarray(seen().images["front"])], return_tensors="pt")
    ids, said = inputs["input_ids"], []
    for _ in range(8):
        with torch.no_grad():
            logits = model(input_ids=ids, pixel_values=inputs["pixel_values"], use_cache=False).logits[0, -1]
        said.append(int(logits.argmax()))
        ids = torch.cat([ids, torch.tensor([[said[-1]]])], 1)
    assert policy.infer(seen()).tokens.ravel().tolist() == said


def test_image_and_words_matter(policy):
    said = policy.infer(seen()).confidence
    assert said == policy.infer(seen()).confidence
    assert len({said, policy.infer(seen("push the ball")).confidence, policy.infer(seen(seed=3)).confidence}) == 3


def test_ids_may_count_down():
    down = BinWords(Bins(first=500, count=256, step=-1), 1, 4)
    values, tokens = down.values([500, 499, 245, 373])
    assert tokens.tolist() == [[500, 499, 245, 373]] and min(down.ids) == 245
    assert np.allclose(values, [[-1 + 1 / 256, -1 + 3 / 256, 1 - 1 / 256, -1 + 255 / 256]])


def test_a_model_that_says_something_else_refuses(tmp_path):
    folder = samples.write(tmp_path, gain=0.01)
    chunk = open_policy(str(folder), PANDA).infer(seen())
    assert chunk.values.shape == (0, 4) and "the model says no action" in chunk.refusal
    assert "at least 0.5 is asked" in chunk.refusal
    samples.described(folder, least=0.0)
    assert not open_policy(str(folder), PANDA).infer(seen()).refusal


def test_nothing_said_is_refused(policy):
    assert policy.infer(seen(" ?")).refusal == "the instruction is empty"


@pytest.mark.parametrize("word", ["<image>", "</s>"])
def test_no_instruction_holds_words_of_the_models_own(policy, word):
    chunk = policy.infer(seen(f"touch the {word} cube"))
    assert chunk.refusal == f"the instruction holds {word!r}, which is no word for a person to say"


@pytest.mark.parametrize("changes", [{"chat": False}, {"prompt": "<image> {instruction}"}])
def test_a_prompt_without_one_word_for_each_image_is_an_error(copy, changes):
    samples.described(copy, **changes)
    with pytest.raises(ActionError, match="no prompt can be made of .* and 1 images: .*image"):
        open_policy(str(copy), PANDA).infer(seen())


def test_fast_words_become_a_chunk_or_an_error(tmp_path):
    action = dict(samples.DESCRIPTION["action"], horizon=8)
    samples.write_fast(tmp_path / "fast", 8, 4, count=256)
    fast = {"folder": "fast", "first": samples.FIRST, "end": samples.END, "most": 60}
    policy = open_policy(str(samples.write(tmp_path, bins=None, fast=fast, action=action)), PANDA)
    wanted = np.clip(np.random.default_rng(0).normal(0, 0.3, (8, 4)), -1, 1)
    words = [samples.FIRST + i for i in policy.words.fast.encode(wanted)]
    values, _ = policy.words.values(words)
    assert np.abs(values - wanted).max() < 0.15
    with pytest.raises(ActionError):  # random words: no chunk of zeros
        policy.infer(seen())


@pytest.mark.parametrize("write", [samples.write_paligemma, samples.write_idefics3, samples.write_smolvlm])
def test_other_models_of_transformers_act_as_well(write, tmp_path):
    chunk = open_policy(str(write(tmp_path)), PANDA).infer(seen())
    assert chunk.values.shape == (2, 4) and not chunk.refusal


@pytest.mark.parametrize("kind", samples.QWEN)
def test_qwen_acts_without_torchvision(kind, tmp_path):
    """By what the bare model says without a cache, of its inputs written out."""
    policy = open_policy(str(samples.write_qwen(tmp_path, kind)), PANDA)
    model, processor = policy.model.model, policy.model.processor
    images = processor.image_processor(images=[seen().images["front"]], return_tensors="pt")
    assert images["image_grid_thw"].tolist() == [[1, 4, 4]]  # patches; four of them are one place
    text = (f"USER: <|vision_start|>{4 * '<|image_pad|>'}<|vision_end|>\nWhat action should the robot take to {SAID}? "
            "ASSISTANT:")
    ids, said = processor.tokenizer(text, return_tensors="pt")["input_ids"], []
    for _ in range(8):
        with torch.no_grad():
            logits = model(input_ids=ids, mm_token_type_ids=(ids == model.config.image_token_id).int(), **images,
                           use_cache=False).logits[0, -1]
        said.append(samples.FIRST + int(logits[samples.FIRST:samples.FIRST + samples.COUNT].argmax()))
        ids = torch.cat([ids, torch.tensor([[said[-1]]])], 1)
    assert policy.infer(seen()).tokens.ravel().tolist() == said


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes,message", [
    ({"images": ["wrist2"]}, "unknown camera"), ({"images": []}, "at least one camera"),
    ({"low": [0.0]}, "low needs 4 numbers, has 1"), ({"low": [0.0, 0.0, 0.0, 2.0]}, "below that of high"),
    ({"prompt": "act!"}, "prompt must hold {instruction}"), ({"prompt": "{instruction} {x}"}, "nothing else in braces"),
    ({"prompt": "{instruction"}, "prompt"), ({"bins": None}, "either bins or fast"),
    ({"bins": {"first": 10, "step": -1}}, "must not be negative"), ({"bins": {"first": 10, "step": 2}}, "1 or -1"),
    ({"bins": {"first": 500}}, "declares word 600, the model has 600"), ({"least": 2.0}, "0 to 1"),
    ({"prompts": "x"}, "did you mean 'prompt'"),
    ({"fast": {"folder": "x", "first": 3, "end": 2}}, "either bins or fast"),
    ({"bins": None, "fast": {"folder": "x", "first": 3, "end": 2}}, "FAST tokenizer .* lacks tokenizer.json"),
    ({"action": dict(samples.DESCRIPTION["action"], period=0.2)}, "period: policy 0.2, robot 0.1")])
def test_a_file_that_cannot_be_meant_is_refused(copy, changes, message):
    samples.described(copy, **changes)
    with pytest.raises(VlaError, match=message):
        open_policy(str(copy), PANDA)


def test_the_file_may_be_elsewhere(copy, tmp_path_factory):
    file = tmp_path_factory.mktemp("spec") / "mine.yaml"
    (copy / "vla.yaml").rename(file)
    assert open_policy(f"{copy}?spec={file}&dtype=float32", PANDA).name == "vlm:llava"
    with pytest.raises(ConfigError, match="cannot read"):
        open_policy(f"{copy}?spec={file}2", PANDA)
    with pytest.raises(UnknownNameError, match="option of a vision-language model 'devise'.*did you mean 'device'"):
        open_policy(f"{copy}?spec={file}&devise=cpu", PANDA)
    with pytest.raises(UnknownNameError, match="value of dtype"):
        open_policy(f"{copy}?spec={file}&dtype=int3", PANDA)


def test_a_checkpoint_that_cannot_be_trusted_runs_nothing(copy):
    config = json.loads((copy / "config.json").read_text())
    (copy / "evil.py").write_text(f"open({str(copy / 'ran')!r}, 'w')\nclass Evil: pass\n")

    def with_config(**changes):
        (copy / "config.json").write_text(json.dumps(config | changes))

    with_config(model_type="evil", auto_map={"AutoConfig": "evil.Evil"})
    with pytest.raises(CheckpointError, match="is of type 'evil', which transformers has no model for"):
        open_policy(str(copy), PANDA)
    with_config(auto_map={"AutoConfig": "evil.Evil", "AutoModelForImageTextToText": "evil.Evil"})
    open_policy(str(copy), PANDA)  # transformers' own is taken
    assert not (copy / "ran").exists()
    with_config(text_config=config["text_config"] | {"hidden_size": 32})
    with pytest.raises(CheckpointError, match="does not fit its config.json|cannot be opened"):
        open_policy(str(copy), PANDA)
    with_config()
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="pytorch_model.bin is a pickle"):
        open_policy(str(copy), PANDA)
    (copy / "model.safetensors").write_bytes((copy / "pytorch_model.bin").read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="is damaged"):
        open_policy(str(copy), PANDA)
    (copy / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../../x.safetensors"}}))
    with pytest.raises(CheckpointError, match="names '../../x.safetensors'"):
        open_policy(str(copy), PANDA)


def test_the_doctor_examines_it_by_its_file(copy):
    found = {finding.check: finding for finding in examine(PANDA, str(copy), weights=True)}
    assert found["description"].level == "ok" and "cameras front; bins" in found["description"].what
    assert found["weights"].level == "ok"
    samples.described(copy, action=dict(samples.DESCRIPTION["action"], gripper=""))
    found = {finding.check: finding for finding in examine(PANDA, str(copy), weights=False)}
    assert found["description"].level == "error" and "gripper" in found["description"].what
    assert replace(found["description"]).mend
