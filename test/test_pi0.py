"""pi0: what its processor would do is done, and what cannot be meant is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import vlm_samples as samples
import yaml
from core_samples import PANDA
from safetensors.torch import load_file, save_file

from vla_ros.bringup import EXECUTE_STEPS as PARAMETER
from vla_ros.doctor.examine import examine
from vla_ros.errors import CheckpointError, ConfigError, VlaError
from vla_ros.evaluation.rollout import EXECUTE_STEPS, run_episode
from vla_ros.nodes.warming import warm_up
from vla_ros.policies import open_policy
from vla_ros.sim.mock import MockWorld
from vla_ros.sim.tasks import get_task
from vla_ros.types import ActionChunk, JointState, Observation, Pose
from vla_ros.vlm import flow, pi0_lerobot
from vla_ros.vlm.description import read_options
from vla_ros.vlm.pi0 import Before

STAMP = 1234


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return samples.write_pi0(tmp_path_factory.mktemp("pi0"))


@pytest.fixture(scope="module")
def policy(checkpoint):
    return open_policy(str(checkpoint), PANDA)


@pytest.fixture
def copy(checkpoint, tmp_path):
    """The checkpoint's files, to be changed."""
    for file in checkpoint.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def seen(words="touch the red cube", stamp=STAMP, shape=(64, 64), ee=(0.4, 0.1, 0.2)):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    hand = Pose(np.array(ee), np.eye(3))
    return Observation({"front": image}, JointState({}, {}, 0), words, {"front": stamp}, hand, 0.05)


def test_a_chunk_is_that_of_the_model_in_units(policy):
    """Every input written out, as the published processor makes it."""
    model, observation = policy.model.model, seen()
    words = policy.model.words.encode("touch the red cube\n").ids
    ids = torch.tensor([[1] * 4 + [policy.model.words.token_to_id("<bos>")] + words])
    state = torch.zeros(1, 8)
    state[0, :4] = (torch.tensor([0.4, 0.1, 0.2, 0.05]) - torch.tensor([0.5, 0.0, 0.3, 0.04])) / torch.tensor(
        [0.1, 0.2, 0.1, 0.03])
    noise = torch.randn(1, 4, 8, generator=torch.Generator().manual_seed(STAMP))
    pixels = policy.model.pixels(observation.images["front"])
    assert pixels.shape == (3, samples.SIZE, samples.SIZE) and -1 <= pixels.min() < pixels.max() <= 1
    with torch.no_grad():
        made = model.sample_actions(state=state, input_ids=ids, pixel_values=pixels[None, None], noise=noise,
                                    pixel_attention_mask=torch.ones(1, 1, dtype=torch.bool),
                                    attention_mask=torch.ones_like(ids))
    wanted = made[0, :, :4].double().numpy() * [0.005, 0.005, 0.005, 0.4] + [0.001, 0.0, 0.0, 0.5]
    chunk = policy.infer(observation)
    assert chunk.values.shape == (4, 4) and chunk.stamp == STAMP and np.allclose(chunk.values, wanted, atol=1e-6)


def test_words_state_image_and_stamp_matter_and_nothing_else_does(policy):
    said = [policy.infer(o).values for o in (seen(), seen("push it"), seen(stamp=5), seen(ee=(0.5, 0.1, 0.2)))]
    assert np.array_equal(said[0], policy.infer(seen()).values)
    assert all(not np.array_equal(said[0], other) for other in said[1:])


def test_an_image_that_is_not_square_gets_black_edges(policy):
    pixels = policy.model.pixels(np.full((32, 64, 3), 255, np.uint8))
    assert (pixels[:, :7] == -1).all() and (pixels[:, 8:20] == 1).all() and (pixels[:, 21:] == -1).all()


@pytest.mark.parametrize("changes,message", [
    ({"state_mean": None}, "lacks state_mean and state_std"), ({"actions_std": [1.0]}, "must be of one length"),
    ({"actions_std": [1.0, 1.0, -1.0, 1.0]}, "not negative"),
    ({"state_mean": [0.0] * 9, "state_std": [1.0] * 9}, "1 to 8"),
    ({"actions_mean": [0.0] * 3, "actions_std": [1.0] * 3}, r"chunks are of shape \(4, 3\), those of its file")])
def test_statistics_that_cannot_be_meant_are_refused(copy, changes, message):
    settings = json.loads((copy / "processor_config.json").read_text()) | changes
    (copy / "processor_config.json").write_text(json.dumps({k: v for k, v in settings.items() if v is not None}))
    with pytest.raises(VlaError, match=message):
        open_policy(str(copy), PANDA)


def test_what_is_missing_or_wrong_is_named(copy):
    said = yaml.safe_load((copy / "vla.yaml").read_text())
    (copy / "vla.yaml").write_text(yaml.safe_dump(said | {"state": {"state": ["position"]}}))
    with pytest.raises(ConfigError, match="state has 3 numbers, that of the checkpoint 4"):
        open_policy(str(copy), PANDA).infer(seen())
    (copy / "vla.yaml").write_text(yaml.safe_dump(said | {"state": {}}))
    with pytest.raises(ConfigError, match="must name one state, names 0"):
        open_policy(str(copy), PANDA)
    (copy / "vla.yaml").write_text(yaml.safe_dump(said))
    assert {f.check: f.level for f in examine(PANDA, str(copy))}["weights"] == "ok"
    (copy / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match="lacks tokenizer.json"):
        open_policy(str(copy), PANDA)


# --- LeRobot's layout -------------------------------------------------------------------------------------------------

FRONT, STATE = "observation.images.front", "observation.state"
RENAMED = (("model.vlm.language_model.embed_tokens", "paligemma_with_expert.paligemma.lm_head"),
           ("model.vlm", "paligemma_with_expert.paligemma.model"),
           ("model.dit.embed_tokens", "paligemma_with_expert.gemma_expert.lm_head"),
           ("model.dit", "paligemma_with_expert.gemma_expert.model"), ("embed_action_time.", ""))
STATISTICS = {f"{STATE}.mean": [0.5, 0.0, 0.3, 0.04], f"{STATE}.std": [0.1, 0.2, 0.1, 0.03],
              "action.mean": [0.001, 0.0, 0.0, 0.5], "action.std": [0.005, 0.005, 0.005, 0.4]}


@pytest.fixture
def theirs(checkpoint, tmp_path, monkeypatch):
    """The same checkpoint as LeRobot would save it."""
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 12, "num_hidden_layers": 2,
             "intermediate_size": 32}
    monkeypatch.setattr(pi0_lerobot, "VARIANTS", {"gemma_2b": heads | {"hidden_size": 24},
                                                  "gemma_300m": heads | {"hidden_size": 16}})
    monkeypatch.setattr(pi0_lerobot, "VISION", {key: value for key, value in samples.VISION.items()
                                                if key != "image_size"})
    monkeypatch.setattr(pi0_lerobot, "WORDS", samples.WORDS)
    folder = tmp_path / "lerobot"
    folder.mkdir()
    weights = {}
    for name, tensor in load_file(checkpoint / "model.safetensors").items():
        for ours, other in RENAMED:
            if name.startswith(ours):
                name = other + name.removeprefix(ours)
                break
        weights[f"model.{name}"] = tensor
    save_file(weights, folder / "model.safetensors")
    feature = {"type": "VISUAL", "shape": [3, 64, 64]}
    (folder / "config.json").write_text(json.dumps({
        "type": "pi0", "n_obs_steps": 1, "input_features": {
            "observation.images.wrist": feature, FRONT: feature, STATE: {"type": "STATE", "shape": [4]}},
        "output_features": {"action": {"type": "ACTION", "shape": [4]}}, "paligemma_variant": "gemma_2b",
        "action_expert_variant": "gemma_300m", "chunk_size": 4, "n_action_steps": 4, "max_state_dim": 8,
        "max_action_dim": 8, "num_inference_steps": 3, "image_resolution": [28, 28]}))
    save_file({name: torch.tensor(values) for name, values in STATISTICS.items()}, folder / "n.safetensors")
    steps = [{"registry_name": "normalizer_processor", "config": {"norm_map": pi0_lerobot.WANTED},
              "state_file": "n.safetensors"}]
    for name in ("policy_preprocessor.json", "policy_postprocessor.json"):
        (folder / name).write_text(json.dumps({"steps": steps}))
    (folder / "tokenizer.json").write_bytes((checkpoint / "tokenizer.json").read_bytes())
    said = yaml.safe_load((checkpoint / "vla.yaml").read_text())
    (folder / "vla.yaml").write_text(yaml.safe_dump(said | {"images": {FRONT: "front"},
                                                            "state": {STATE: ["position", "gap"]}}))
    return folder


def test_lerobots_layout_says_the_same(theirs, policy):
    """An image that has the model's size: no rule of resizing stands between them."""
    other, observation = open_policy(str(theirs), PANDA), seen(shape=(28, 28))
    assert np.allclose(other.infer(observation).values, policy.infer(observation).values, atol=1e-6)
    assert {f.check: f.level for f in examine(PANDA, str(theirs))}["weights"] == "ok"


@pytest.mark.parametrize("shape", [(64, 64), (32, 64), (60, 45)])
def test_an_image_is_brought_to_size_by_lerobots_rule(theirs, shape):
    """Bilinear, without antialiasing, centred; written out for one pixel."""
    model, image = open_policy(str(theirs), PANDA).model, seen(shape=shape).images["front"]
    pixels, ratio = model.pixels(image), max(shape) / 28
    height, width = int(shape[0] / ratio), int(shape[1] / ratio)
    above, beside = (28 - height) // 2, (28 - width) // 2
    assert pixels.shape == (3, 28, 28) and (pixels[:, :above] == -1).all() and (pixels[:, :, :beside] == -1).all()
    y, x = (10 + 0.5) * shape[0] / height - 0.5, (9 + 0.5) * shape[1] / width - 0.5
    (top, left), (down, right) = (int(y), int(x)), (y % 1, x % 1)
    near = image[top:top + 2, left:left + 2].astype(float)
    wanted = ((near[0, 0] * (1 - right) + near[0, 1] * right) * (1 - down)
              + (near[1, 0] * (1 - right) + near[1, 1] * right) * down)
    assert np.allclose(pixels[:, above + 10, beside + 9], wanted / 127.5 - 1, atol=1e-5)


def rewritten(folder, file, change):
    content = json.loads((folder / file).read_text())
    change(content)
    (folder / file).write_text(json.dumps(content))


@pytest.mark.parametrize("file,change,message", [
    ("config.json", lambda c: c.update(use_relative_actions=True), "relative to the state"),
    ("config.json", lambda c: c.update(paligemma_variant="gemma_9b"), "unknown paligemma_variant.*gemma_2b"),
    ("config.json", lambda c: c.update(image_resolution=[28, 14]), "must be square"),
    ("config.json", lambda c: c.update(max_state_dim="many"), "describes no model"),
    ("config.json", lambda c: c.update(chunk_size=5), r"chunks are of shape \(5, 4\)"),
    ("policy_preprocessor.json", lambda c: c["steps"].clear(), "must have one normalizer_processor"),
    ("policy_preprocessor.json", lambda c: c["steps"][0]["config"]["norm_map"].update(STATE="QUANTILES"),
     "norm_map must"),
    ("policy_preprocessor.json", lambda c: c["steps"][0].update(state_file="m.safetensors"), "lacks m.safetensors"),
    ("policy_preprocessor.json", lambda c: c["steps"][0].update(state_file="../n.safetensors"), "beside it")])
def test_what_lerobot_says_and_cannot_be_meant_is_refused(theirs, file, change, message):
    rewritten(theirs, file, change)
    with pytest.raises(VlaError, match=message):
        open_policy(str(theirs), PANDA)


def test_what_lerobot_leaves_out_is_named(theirs):
    said = yaml.safe_load((theirs / "vla.yaml").read_text())
    swapped = {FRONT: "front", "observation.images.wrist": "front"}
    (theirs / "vla.yaml").write_text(yaml.safe_dump(said | {"images": swapped}))
    with pytest.raises(ConfigError, match="of observation.images.wrist, observation.images.front, in this order"):
        open_policy(str(theirs), PANDA)
    (theirs / "vla.yaml").write_text(yaml.safe_dump(said))
    less = {name: torch.tensor(values) for name, values in STATISTICS.items() if name != "action.std"}
    save_file(less, theirs / "n.safetensors")
    with pytest.raises(CheckpointError, match="lacks action.std: without it the model's actions has no units"):
        open_policy(str(theirs), PANDA)
    (theirs / "tokenizer.json").unlink()
    save_file({name: torch.tensor(values) for name, values in STATISTICS.items()}, theirs / "n.safetensors")
    with pytest.raises(CheckpointError, match="lacks tokenizer.json; LeRobot leaves that of google/paligemma"):
        open_policy(str(theirs), PANDA)


# --- real-time chunking -----------------------------------------------------------------------------------------------

def test_weights_are_those_of_the_paper():
    """Equation 5 with d = 2 steps frozen, H = 8 and s = 3 to be executed, so that 5 are left; written out."""
    c = [(8 - 3 - i) / (8 - 3 - 2 + 1) for i in range(8)]
    wanted = [1.0, 1.0, *(c[i] * (np.exp(c[i]) - 1) / (np.e - 1) for i in (2, 3, 4)), 0.0, 0.0, 0.0]
    assert np.allclose(flow.weights(8, 5, 2), wanted)
    assert flow.weights(4, 2, 2).tolist() == [1.0, 1.0, 0.0, 0.0]


@pytest.mark.parametrize("time,wanted", [(1.0, 5.0), (0.9, 5.0), (0.5, 2.0), (0.2, (0.8**2 + 0.2**2) / 0.16)])
def test_guidance_is_bounded_where_all_is_noise(time, wanted):
    assert flow.guidance(time) == pytest.approx(min(5.0, wanted))


def asked_of(policy, observation):
    model = policy.model
    ids = torch.tensor([model.ids(observation.instruction, 1)])
    state = torch.zeros(1, 8)
    noise = torch.randn(1, 4, 8, generator=torch.Generator().manual_seed(STAMP))
    return {"state": state, "input_ids": ids, "attention_mask": torch.ones_like(ids), "noise": noise,
            "pixel_values": model.pixels(observation.images["front"])[None, None],
            "pixel_attention_mask": torch.ones(1, 1, dtype=torch.bool)}


def test_with_nothing_wanted_it_samples_as_transformers_does(policy):
    asked, nothing = asked_of(policy, seen()), flow.Wanted(torch.ones(4, 8), torch.zeros(4, 8))
    made = flow.continued(policy.model.model, nothing, **asked)
    assert torch.allclose(made, policy.model.model.sample_actions(**asked), atol=1e-5) and not made.requires_grad


def test_each_step_is_the_papers(policy):
    """Its equations 2 to 4, with the derivative by the model's whole Jacobian."""
    model, asked = policy.model.model, asked_of(policy, seen())
    wanted = flow.Wanted(torch.rand(4, 8, generator=torch.Generator().manual_seed(1)), torch.rand(4, 1).expand(4, 8))
    inputs = {key: value for key, value in asked.items() if key != "noise"}
    actions = asked["noise"]
    for step in range(3):
        tau = step / 3  # the paper's time, from noise on

        def velocity(x, tau=tau):
            return -model(**inputs, noise=x, timestep=torch.tensor([1 - tau])).logits
        jacobian = torch.autograd.functional.jacobian(lambda x, v=velocity, t=tau: x + (1 - t) * v(x), actions)
        error = (wanted.values - (actions + (1 - tau) * velocity(actions))) * wanted.weights
        pull = torch.einsum("bta,btaxyz->xyz", error, jacobian)
        r2 = (1 - tau)**2 / (tau**2 + (1 - tau)**2)
        gain = min(5.0, (1 - tau) / (tau * r2)) if tau else 5.0
        actions = (actions + (velocity(actions) + gain * pull) / 3).detach()
    assert torch.allclose(flow.continued(model, wanted, **asked), actions, atol=1e-4)


def test_a_chunk_goes_on_from_the_one_before(checkpoint):
    """Nearer to it where it is executed anyway than one that is answered by itself; and a new episode knows nothing."""
    alone, going_on = (open_policy(f"{checkpoint}{options}", PANDA) for options in ("", "?delay=0.15"))
    first = going_on.infer(seen())
    assert np.array_equal(first.values, alone.infer(seen()).values)
    later = seen(stamp=STAMP + 100_000_000)
    committed, by_itself = going_on.committing.at(later), alone.infer(later).values
    assert (committed.left, committed.frozen) == (3, 2)
    goes_on = going_on.infer(later).values
    scale = going_on.model.actions.deviation
    off = [np.abs((values - committed.values)[:2] / scale).mean() for values in (goes_on, by_itself)]
    assert off[0] < 0.5 * off[1]
    going_on.reset()
    assert np.array_equal(going_on.infer(later).values, by_itself)


@pytest.mark.parametrize("options,message", [("delay=-1", "number of seconds"), ("delay=nan", "number of seconds"),
                                             ("delay=soon", "number of seconds"), ("delay=inf", "number of seconds"),
                                             ("delay=0.1&dtype=int8", "not quantised"),
                                             ("delay=0.1&execute_steps=0", "whole number, from 1")])
def test_a_delay_that_cannot_be_meant_is_refused(checkpoint, options, message):
    with pytest.raises(ConfigError, match=message):
        open_policy(f"{checkpoint}?{options}", PANDA)


def test_a_policy_that_would_go_on_from_chunks_that_nobody_executes_is_an_error(checkpoint):
    def levels(options, execute_steps):
        return [f.level for f in examine(PANDA, f"{checkpoint}{options}", execute_steps, weights=False)
                if f.check == "options"]
    assert read_options("").execute_steps == EXECUTE_STEPS == PARAMETER.default
    assert levels("?delay=0.1", 4) == levels("?delay=0.1&execute_steps=2", 2) == levels("", 2) == []
    assert levels("?delay=0.1", 2) == levels("?delay=0.1&execute_steps=2", 4) == levels("?delay=soon", 4) == ["error"]


def test_a_way_is_handed_on_in_the_steps_of_the_policy(copy):
    """The policy's are twice as long as the robot's; and the hand is two centimetres behind the second of them."""
    said = yaml.safe_load((copy / "vla.yaml").read_text())
    (copy / "vla.yaml").write_text(yaml.safe_dump(
        said | {"action": said["action"] | {"horizon": 8}, "adapt": {"period": 0.2}}))
    policy = open_policy(f"{copy}?delay=0.3", PANDA)
    steps = np.zeros((8, 4))
    steps[:, 0] = 0.01
    policy.committing.keep(ActionChunk(steps, policy.spec, STAMP), seen())
    before = policy.before(seen(stamp=STAMP + 200_000_000))
    assert (before.left, before.frozen) == (3, 2)
    assert np.allclose(np.cumsum(before.values[:, 0])[:3] + 0.4, [0.44, 0.46, 0.48])


def test_where_a_turn_can_be_said_in_more_than_one_way_nothing_goes_on(copy):
    said, six = yaml.safe_load((copy / "vla.yaml").read_text()), ["dx", "dy", "dz", "droll", "dpitch", "dyaw"]
    spec = said["action"] | {"names": [*six, "gripper"], "units": ["m"] * 3 + ["rad"] * 3 + ["1"]}
    settings = json.loads((copy / "processor_config.json").read_text())
    settings |= {"actions_mean": [0.0] * 7, "actions_std": [0.01] * 7}
    (copy / "processor_config.json").write_text(json.dumps(settings))
    (copy / "vla.yaml").write_text(yaml.safe_dump(said | {"action": spec, "adapt": {"absolute": True}}))
    turning = replace(PANDA, action=replace(PANDA.action, names=tuple(spec["names"]), units=tuple(spec["units"])))
    open_policy(str(copy), turning)
    with pytest.raises(ConfigError, match="only absolute rotations of rotation_6d"):
        open_policy(f"{copy}?delay=0.1", turning)


def test_both_ways_are_warm_before_a_robot_waits(checkpoint, monkeypatch):
    policy, calls = open_policy(f"{checkpoint}?delay=0.1", PANDA), []
    monkeypatch.setattr(policy.model, "act", lambda *given: calls.append(given[-1]) or np.zeros((4, 4)))
    warm_up(policy, PANDA)
    assert [before is None for before in calls] == [True, False]
    assert policy.before(seen(stamp=50)) is None, "and it has forgotten"


def test_an_evaluation_that_executes_other_steps_is_refused(checkpoint):
    policy = open_policy(f"{checkpoint}?delay=0.1", PANDA)
    with pytest.raises(ConfigError, match="told execute_steps=4, 2 are executed"):
        run_episode(MockWorld(PANDA, get_task("reach")), policy, 0, execute_steps=2)


def test_what_never_changes_or_no_data_has_is_not_wanted(copy):
    """A data set whose third number stands still: what is wanted of it would be a million deviations."""
    settings = json.loads((copy / "processor_config.json").read_text()) | {"actions_std": [0.005, 0.005, 0.0, 0.4]}
    (copy / "processor_config.json").write_text(json.dumps(settings))
    model = open_policy(str(copy), PANDA).model
    wanted = model.wanted(Before(np.full((4, 4), 0.05), left=3, frozen=2))
    assert wanted.weights[:, 2].tolist() == [0] * 4 and wanted.weights[:2, [0, 1, 3]].eq(1).all()
    assert wanted.values[0, 0] == 5.0 and wanted.values[:, 2].eq(0).all()
    assert wanted.values[0, 3] == pytest.approx((0.05 - 0.5) / 0.4)
