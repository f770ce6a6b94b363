"""Demonstrations, labels, and a training that a kill does not change."""

import numpy as np
import pytest
import torch

from vla_ros.errors import ConfigError, UnknownNameError
from vla_ros.policies.native import NativePolicy
from vla_ros.profile import load_profile
from vla_ros.sim.bullet import BulletWorld
from vla_ros.sim.oracle import OraclePolicy
from vla_ros.sim.tasks import get_task
from vla_ros.sim.world import COLOURS, SHAPES
from vla_ros.training import demos, recording, trainer
from vla_ros.training.batches import Labeller, absent_kind
from vla_ros.training.losses import batch_loss, patch_targets
from vla_ros.training.pipeline import Run, load_settings

TINY = dict(vision_width=16, vision_layers=1, vision_heads=1, width=16, layers=1, heads=1, mlp=24)
SETTINGS = {"robot": "panda", "seed": 3, "model": TINY, "demos": {"episodes": 1, "stills": 2},
            "look": {"steps": 4, "images": 4, "instructions": 2, "learning_rate": 1e-3},
            "act": {"steps": 6, "images": 4, "instructions": 2, "learning_rate": 1e-3},
            "corrections": {"rounds": 1, "episodes": 1, "steps": 2, "images": 4, "instructions": 2,
                            "learning_rate": 1e-3}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("demos")
    demos.collect(out, ["push"], 1, 3, jobs=1)
    return out


@pytest.fixture(scope="module")
def frames(folder):
    return recording.load([folder])


@pytest.fixture
def run(tmp_path, folder):
    return Run(SETTINGS, tmp_path / "run", folder, jobs=1)


def test_demonstrations_are_not_made_twice(folder):
    assert demos.collect(folder, ["push"], 1, 3, jobs=1) == 0


def test_demonstrations_end_in_success():
    task = get_task("reach")
    world = BulletWorld(load_profile("panda"), task, cameras=("front",))
    world.reset(demos.FIRST_SEED)
    seen = demos.demonstrate(world, demos.FIRST_SEED)
    assert world.progress.success and len(seen) >= 3
    world.close()


def test_no_demonstrations_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="vla demos"):
        recording.load([tmp_path])


def test_label_of_the_own_instruction_is_the_oracles_answer(run):
    world = BulletWorld(load_profile("panda"), get_task("push"), cameras=("front",))
    world.reset(7)
    frame = {name: np.asarray(value)[None] for name, value in recording.frame(world, world.observe()).items()}
    labeller = run._labeller(frame)
    direction = frame["direction"].astype(int)
    values = labeller.values(frame, frame["target"].astype(int)[:, None],
                             np.array([[labeller.tasks.index("push")]]), direction[:, None])
    assert np.allclose(values[0, 0], OraclePolicy(world).infer(world.observe()).values, atol=1e-6)
    world.close()


def test_batches_name_what_is_there_and_what_is_not(run, frames):
    labeller: Labeller = run._labeller(frames)
    proprio, actions = labeller.statistics(np.random.default_rng(0))
    batch = labeller.batch(np.random.default_rng(1), 16, 4, proprio, actions)
    words = {i: word for word, i in labeller.words.ids.items()}
    known = {(s, c) for s, c in zip(frames["shape"].ravel(), frames["colour"].ravel(), strict=True) if s >= 0}
    kinds = {f"{tuple(COLOURS)[c]} {SHAPES[s]}" for s, c in known}
    assert (~batch.there).any() and batch.actions.min() >= 0 and batch.actions.max() <= 255
    for ids, there in zip(batch.text.reshape(-1, batch.text.shape[-1]), batch.there.ravel(), strict=True):
        text = " ".join(words[i] for i in ids[1:] if i)
        assert not there or any(kind in text for kind in kinds), text


def test_batches_depend_on_the_generator_alone(run, frames):
    labeller = run._labeller(frames)
    pair = labeller.statistics(np.random.default_rng(0))
    a, b = (labeller.batch(np.random.default_rng(5), 4, 2, *pair) for _ in range(2))
    assert all(np.array_equal(getattr(a, n), getattr(b, n)) for n in ("image", "text", "point", "actions"))


def test_absent_kinds_are_absent():
    rng, kinds = np.random.default_rng(0), [(0, 1), (2, 3), (1, 1)]
    assert all(absent_kind(rng, kinds) not in kinds for _ in range(500))


def test_patch_of_a_point(run, frames):
    model = run._model(frames)
    point = torch.tensor([[[0.0, 0.0], [95.0, 95.0], [17.0, 9.0], [500.0, 3.0]]])
    patch, usable = patch_targets(model, point, torch.tensor([[True, True, True, True]]))
    assert patch[0, :3].tolist() == [0, 143, 14] and usable.tolist() == [[True, True, True, False]]
    assert patch_targets(model, point, torch.zeros(1, 4, dtype=torch.bool))[0].tolist() == [[144] * 4]


class Killed(Exception):
    pass


def trained(run, frames, monkeypatch, kill_at=None):
    """The weights after the 'act' stage; kill_at raises in the middle of a step and starts anew."""
    monkeypatch.setattr(trainer, "SAVE_EVERY", 2)
    real = trainer.schedule
    if kill_at is not None:
        def failing(progress):
            if progress >= kill_at:
                raise Killed
            return real(progress)
        monkeypatch.setattr(trainer, "schedule", failing)
        with pytest.raises(Killed):
            run._stage(run._model(frames), "act", SETTINGS["act"], frames, acting=True)
        monkeypatch.setattr(trainer, "schedule", real)
    model = run._model(frames)
    run._stage(model, "act", SETTINGS["act"], frames, acting=True)
    return model.state_dict()


def test_a_killed_run_ends_as_an_unbroken_one(tmp_path, folder, frames, monkeypatch):
    whole = trained(Run(SETTINGS, tmp_path / "a", folder, 1), frames, monkeypatch)
    broken = trained(Run(SETTINGS, tmp_path / "b", folder, 1), frames, monkeypatch, kill_at=0.5)
    assert all(torch.equal(whole[name], broken[name]) for name in whole)


def test_a_kill_between_writing_and_swapping_loses_nothing(run, frames, monkeypatch):
    weights = trained(run, frames, monkeypatch)
    (run.folder / "act").rename(run.folder / "act.new")
    model = run._model(frames)
    assert trainer.resume(model, torch.optim.AdamW(model.parameters()), run.folder / "act") == 6
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())


def test_training_lowers_the_loss(run, frames):
    model = run._model(frames)
    labeller = run._labeller(frames)
    pair = labeller.statistics(np.random.default_rng(0))
    batch = labeller.batch(np.random.default_rng(0), 8, 2, *pair)

    def loss():
        return batch_loss(model, batch, torch.Generator().manual_seed(0), acting=True)[0]

    optimiser, before = torch.optim.Adam(model.parameters(), 3e-3), loss().item()
    for _ in range(20):
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()
    assert loss().item() < 0.8 * before


def test_settings_are_read_strictly(tmp_path):
    with pytest.raises(UnknownNameError, match="panda"):
        load_settings("pandaa")
    file = tmp_path / "mine.yaml"
    file.write_text("robot: panda\nseeed: 3\n")
    with pytest.raises(UnknownNameError, match="did you mean 'seed'"):
        load_settings(str(file))


def test_the_whole_pipeline_makes_a_checkpoint_that_opens(tmp_path):
    folder = Run(SETTINGS, tmp_path / "run", tmp_path / "demos", jobs=1).train()
    policy = NativePolicy.load(folder, load_profile("panda"))
    up = policy.spec.names.index("dz")
    assert policy.actions.low[up] < -0.02 and policy.actions.high[up] > 0.02, "lifting must be sayable in action tokens"
    assert policy.proprio.low[2] < 0.05, "heights near the table must lie inside the normalised range"
    before = (folder / "model.safetensors").read_bytes()
    Run(SETTINGS, tmp_path / "run", tmp_path / "demos", jobs=1).train()
    assert (folder / "model.safetensors").read_bytes() == before
