"""Adapters on vision-language models: what they learn from, that a kill loses nothing, and what comes out."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import vlm_samples as samples
from core_samples import PANDA
from safetensors.torch import load_file

from vla_ros.cli import main
from vla_ros.errors import CheckpointError, ConfigError, UnknownNameError
from vla_ros.policies import open_policy
from vla_ros.profile import load_profile
from vla_ros.sim.bullet import BulletWorld
from vla_ros.sim.tasks import get_task
from vla_ros.training import finetuning, recording
from vla_ros.training.corrections import roll_out
from vla_ros.training.demos import FIRST_SEED, begin, collect_plain
from vla_ros.training.finetuning import Demonstrated, Demos, Settings, load_settings, tune
from vla_ros.vlm.tuning import UNCOUNTED, Lora, Sample, adapt, answer_loss, batch_of

SETTINGS = Settings("panda", 0, Demos(("reach",), 2), steps=6, samples=4, learning_rate=1e-2, lora=Lora(8, 16.0),
                    own=1.0, save_every=3)
KINDS = {"llava": samples.write, "paligemma": samples.write_paligemma, "idefics3": samples.write_idefics3,
         "qwen2_5_vl": lambda folder: samples.write_qwen(folder, "qwen2_5_vl")}


@pytest.fixture(scope="module")
def llava(tmp_path_factory):
    return samples.write(tmp_path_factory.mktemp("llava"), gain=1.0)


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demos")
    collect_plain(folder, ["reach"], 2, 1, 1)
    return folder


@pytest.fixture
def source(llava, demos):
    return Demonstrated(recording.load([demos]), PANDA, open_policy(str(llava), PANDA), 1.0)


def sample(instruction="touch the red cube", said=8, seed=0):
    rng = np.random.default_rng(seed)
    return Sample([rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)],
                  f"What action should the robot take to {instruction}?",
                  (samples.FIRST + rng.integers(0, samples.COUNT, said)).tolist())


def test_plain_demonstrations_are_what_an_evaluation_shows(demos, tmp_path):
    frames = recording.load([demos])
    world = BulletWorld(load_profile("panda"), get_task("reach"), cameras=(recording.CAMERA,))
    world.reset(FIRST_SEED)
    first = world.observe().images[recording.CAMERA]
    world.close()
    np.testing.assert_array_equal(frames["image"][0], first)
    collect_plain(tmp_path, ["reach"], 2, 2, 1)
    twice = recording.load([tmp_path])
    assert len(twice["image"]) > len(frames["image"]) and set(twice["episode"]) == set(frames["episode"])


def test_samples_say_the_words_of_their_episode_and_what_the_expert_does(source):
    made = source.sample(np.random.default_rng(0))
    wanted = {f"What action should the robot take to {get_task('reach').layout(np.random.default_rng(s)).instruction}?"
              for s in (FIRST_SEED, FIRST_SEED + 1)}
    assert made.prompt in wanted and len(made.images) == 1
    values, _ = source.policy.words.values(made.ids)
    assert values.shape == (2, 4) and np.abs(values).max() <= 1
    other = Demonstrated(source.frames, PANDA, source.policy, 0.0)
    drawn = {other.sample(np.random.default_rng(i)).prompt for i in range(20)}
    assert len(drawn) > 15 and not drawn <= wanted


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_reads_as_each_sample_does_alone(kind, tmp_path):
    """Samples of several lengths: what is filled up counts for nothing."""
    model = open_policy(str(KINDS[kind](tmp_path)), PANDA).model
    drawn = [sample(), sample("put the little green ball in the tray over there", seed=1)]
    chat = kind != "paligemma"
    inputs, labels = batch_of(model, drawn, chat)
    together = model.model(**inputs, use_cache=False).logits
    for i, one in enumerate(drawn):
        alone_inputs, alone_labels = batch_of(model, [one], chat)
        alone = model.model(**alone_inputs, use_cache=False).logits
        assert labels[i][labels[i] != UNCOUNTED].tolist() == list(one.ids)
        torch.testing.assert_close(together[i][labels[i] != UNCOUNTED], alone[0][alone_labels[0] != UNCOUNTED],
                                   atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_learnt_is_what_is_said(kind, tmp_path):
    """Trained on one sample until it is right, the model says the words one by one: nothing of it was read ahead."""
    model = open_policy(str(KINDS[kind](tmp_path)), PANDA).model
    one, chat = sample(), kind != "paligemma"
    inputs, labels = batch_of(model, [one], chat)
    adapted = adapt(model, Lora(16, 32.0, whole=("lm_head",)), 0).train()
    optimiser = torch.optim.Adam([p for p in adapted.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(300):
        loss, right = answer_loss(adapted(**inputs, use_cache=False).logits, labels)
        if right == 1 and loss < 0.1:
            break
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert right == 1, float(loss)
    adapted.eval()
    said = model.say(model.read(one.prompt, one.images, chat), range(samples.FIRST, samples.FIRST + samples.COUNT),
                     len(one.ids), None)
    assert said.ids == list(one.ids)


def test_adapters_begin_without_effect_and_are_all_that_is_trained(llava):
    model = open_policy(str(llava), PANDA).model
    inputs, _ = batch_of(model, [sample()], True)
    before = model.model(**inputs, use_cache=False).logits
    adapted = adapt(model, Lora(4, 8.0), 0)
    torch.testing.assert_close(adapted(**inputs, use_cache=False).logits, before)
    assert {name.split(".")[-3] for name, p in adapted.named_parameters() if p.requires_grad} == {"lora_A", "lora_B"}
    with pytest.raises(ConfigError, match="no adapters on nothing_of_this"):
        adapt(open_policy(str(llava), PANDA).model, Lora(modules=("nothing_of_this",)), 0)


def test_a_killed_run_goes_on_as_if_nothing_had_been(llava, demos, tmp_path, monkeypatch):
    whole = tune(SETTINGS, llava, tmp_path / "whole", demos, 1)
    save = finetuning.save

    def killed(*args):
        save(*args)
        raise KeyboardInterrupt
    monkeypatch.setattr(finetuning, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        tune(SETTINGS, llava, tmp_path / "parted", demos, 1)
    assert not (tmp_path / "parted" / "checkpoint").exists()
    monkeypatch.setattr(finetuning, "save", save)
    parted = tune(SETTINGS, llava, tmp_path / "parted", demos, 1)
    for name in ("model.safetensors",):
        a, b = load_file(whole / name), load_file(parted / name)
        assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
    again = tune(SETTINGS, llava, tmp_path / "whole", demos, 1)
    assert all(torch.equal(a[key], value) for key, value in load_file(again / "model.safetensors").items())
    with pytest.raises(ConfigError, match="holds a run with another 'learning_rate'"):
        tune(replace(SETTINGS, learning_rate=1.0), llava, tmp_path / "whole", demos, 1)


def test_a_run_with_rounds_of_its_own_episodes_goes_on_as_if_nothing_had_been_too(llava, demos, tmp_path, monkeypatch):
    """Killed where it is about to act, with nothing of that round on disk."""
    settings = replace(SETTINGS, demos=Demos(("reach",), 1), rounds=1, save_every=100)
    whole = tune(settings, llava, tmp_path / "whole", demos, 1)
    act = finetuning.roll_out

    def killed(world, policy, *rest):
        if policy.name == "led":
            return act(world, policy, *rest)
        raise KeyboardInterrupt
    monkeypatch.setattr(finetuning, "roll_out", killed)
    with pytest.raises(KeyboardInterrupt):
        tune(settings, llava, tmp_path / "parted", demos, 1)
    assert [file.name for file in (tmp_path / "parted").glob("acted*")] == ["acted-0.npz"]
    monkeypatch.setattr(finetuning, "roll_out", act)
    parted = tune(settings, llava, tmp_path / "parted", demos, 1)
    frames = [recording.read(tmp_path / run / "acted-1.npz") for run in ("whole", "parted")]
    assert all((frames[0][name] == frames[1][name]).all() for name in recording.FIELDS)
    assert len(frames[0]["image"]) > 10 and set(frames[0]["episode"]) == {FIRST_SEED}
    a, b = (load_file(folder / "model.safetensors") for folder in (whole, parted))
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_the_expert_does_it_in_the_models_words(source):
    world = BulletWorld(load_profile("panda"), get_task("reach"), cameras=(recording.CAMERA,))
    policy = finetuning.Led(world, source)
    begin(world, FIRST_SEED, plain=True)
    frames = roll_out(world, policy, FIRST_SEED, 2)
    said = policy.infer(world.observe()).values
    assert world.progress.success and len(frames) > 3
    normal = source.policy.normaliser.normalise(said)
    again, _ = source.policy.words.values(source.policy.words.said(normal))
    np.testing.assert_allclose(again, normal, atol=1e-9, err_msg="in its words, which are not any numbers")
    world.close()


def test_half_of_the_samples_are_of_its_own_episodes_once_there_are_some(source):
    mine = {name: values.copy() for name, values in source.frames.items()}
    mine["image"][:] = 7

    def share():
        rng = np.random.default_rng(0)
        return np.mean([bool((source.sample(rng).images[0] == 7).all()) for _ in range(100)])
    assert share() == 0
    source.acted.append(mine)
    assert 0.35 < share() < 0.65


def test_what_comes_out_is_a_checkpoint_like_the_base(llava, demos, tmp_path):
    made = tune(SETTINGS, llava, tmp_path / "run", demos, 1)
    assert {f.name for f in made.iterdir()} == {f.name for f in llava.iterdir()} | {"training.json"}
    before, after = load_file(llava / "model.safetensors"), load_file(made / "model.safetensors")
    assert before.keys() == after.keys() and any(not torch.equal(before[k], after[k]) for k in before)
    written = json.loads((made / "training.json").read_text())
    assert written["base"] and written["steps"] == 6 and 0 <= written["measures"]["words right"] <= 1
    frame = recording.load([demos])
    policy = open_policy(str(made), PANDA)
    inputs, labels = batch_of(policy.model, [Demonstrated(frame, PANDA, policy, 1.0).sample(np.random.default_rng(0))],
                              True)
    merged = answer_loss(policy.model.model(**inputs).logits, labels)[0]
    base = answer_loss(open_policy(str(llava), PANDA).model.model(**inputs).logits, labels)[0]
    assert merged < base


@pytest.mark.parametrize("changes, text", [
    ({"images": ["wrist"]}, "hold the camera 'front' alone"),
    ({"action": samples.DESCRIPTION["action"] | {"horizon": 9}}, "chunks are 8 steps long, the checkpoint's 9")])
def test_checkpoints_that_the_demonstrations_do_not_fit(changes, text, demos, tmp_path):
    with pytest.raises(ConfigError, match=text):
        tune(SETTINGS, samples.write(tmp_path / "c", **changes), tmp_path / "run", demos, 1)


def test_a_base_that_does_not_say_what_its_words_mean(llava, demos, tmp_path):
    shutil.copytree(llava, tmp_path / "c", ignore=shutil.ignore_patterns("vla.yaml"))
    with pytest.raises(CheckpointError, match="has no vla.yaml"):
        tune(SETTINGS, tmp_path / "c", tmp_path / "run", demos, 1)


def test_shipped_recipes_can_be_read_and_others_are_named(tmp_path):
    assert load_settings("overfit").demos.episodes == 20 and load_settings("panda").lora.checkpointing
    with pytest.raises(UnknownNameError, match="overfit"):
        load_settings("overfitt")
    file = tmp_path / "r.yaml"
    text = ("robot: panda\nseed: 0\ndemos: {tasks: [TASK], episodes: 2}\nsteps: 1\nsamples: COUNT\n"
            "learning_rate: 1.0\nlora: {rank: 2}\n")
    file.write_text(text.replace("TASK", "drive").replace("COUNT", "1"))
    with pytest.raises(ConfigError, match="'drive' is no task of panda"):
        load_settings(str(file))
    file.write_text(text.replace("TASK", "reach").replace("COUNT", "1") + "rounds: 1\n")
    with pytest.raises(ConfigError, match="rounds 1 must lie in 0 to below the steps"):
        load_settings(str(file))
    file.write_text(text.replace("TASK", "reach").replace("COUNT", "0"))
    with pytest.raises(ConfigError, match="must be above 0"):
        load_settings(str(file))


def test_the_command_says_what_it_needs(capsys):
    assert main(["train", "--lora"]) == 2 and "--lora needs --base" in capsys.readouterr().err
    assert main(["train"]) == 2 and "--config" in capsys.readouterr().err
