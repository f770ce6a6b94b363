"""pi0: what its processor would do is done, and what cannot be meant is refused."""

import json

import numpy as np
import pytest
import torch
import vlm_samples as samples
import yaml
from core_samples import PANDA

from vla_ros.doctor.examine import examine
from vla_ros.errors import CheckpointError, ConfigError, VlaError
from vla_ros.policies import open_policy
from vla_ros.types import JointState, Observation, Pose

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
