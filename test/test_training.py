"""Training: its measures and curves, and a run that a kill does not change."""

import json
import os
import re
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from model_samples import WORDS, tiny

from vla_ros.errors import ConfigError, UnknownNameError
from vla_ros.model import vocabulary as vocab
from vla_ros.model.files import open_checkpoint
from vla_ros.model.modeling import VlaModel
from vla_ros.policies.native import NativePolicy
from vla_ros.profile import load_profile
from vla_ros.training import demos, measuring, pipeline, trainer
from vla_ros.training.batches import Labeller
from vla_ros.training.card import ways
from vla_ros.training.curves import plot_curves
from vla_ros.training.instructing import Asker
from vla_ros.training.losses import pixels_of
from vla_ros.training.pipeline import BLIND, SETTINGS_FILE, STAGES, Run, load_settings

SMALL = {"images": 6, "instructions": 4, "learning_rate": 1e-3}
SETTINGS = {
    "robot": "panda", "seed": 3, "demos": {"episodes": 1, "stills": 4},
    "model": dict(vision_width=16, vision_layers=1, vision_heads=1, width=16, layers=1, heads=1, mlp=24,
                  expert_width=16, expert_layers=1, expert_token=8, peaks=4, shapes=6),
    "motor": {"steps": 2, "learning_rate": 1e-3, "practice": {"texts": 4, "robots": 8}},
    "look": {"steps": 2, "questions": 0.0} | SMALL, "align": {"steps": 2, "questions": 0.5} | SMALL,
    "act": {"steps": 6, "questions": 0.3, "focus": 0.3, "practice": {"texts": 4, "robots": 8}} | SMALL,
    "corrections": {"rounds": 1, "episodes": 1, "steps": 2, "questions": 0.2, "focus": 0.5} | SMALL,
    "polish": [{"only": ["expert"], "steps": 2, "learning_rate": rate, "practice": {"texts": 4, "robots": 8}}
               for rate in (1e-3, 3e-3)]}


@pytest.fixture(scope="module")
def labeller(frames):
    return Labeller(frames, load_profile("panda"), WORDS, Asker("panda"))


@pytest.fixture(scope="module")
def pair(labeller):
    return labeller.statistics(np.random.default_rng(0))


# --- measures and curves ------------------------------------------------------------------------------------------


@pytest.fixture
def little(monkeypatch):
    """Little to simulate and to measure."""
    monkeypatch.setattr(demos, "HELD_OUT_STILLS", 4)
    for name, value in {"IMAGES": 4, "TEXTS": 8, "BATCHES": 1, "DECISIONS": 2,
                        "PRACTICE": {"texts": 4, "robots": 8}}.items():
        monkeypatch.setattr(measuring, name, value)


def test_measures_are_shares_and_the_same_again(labeller, pair, monkeypatch, little):
    model = tiny(proprio_low=pair[0].low.tolist(), proprio_high=pair[0].high.tolist())
    made = measuring.measure(model, labeller, asks=True)
    assert made == measuring.measure(model, labeller, asks=True)
    assert set(made) == {"retrieval", "look", "verdict", "questions"}
    assert set(made["retrieval"]) == {f"{way}@{n}" for way in ("region_to_words", "words_to_region") for n in (1, 5)}
    shares = [v for part in made.values() for name, v in part.items() if name != "median_px"]
    assert all(0 <= share <= 1 for share in shares)
    assert made["retrieval"]["region_to_words@1"] <= made["retrieval"]["region_to_words@5"]
    assert set(measuring.measure(model, labeller, asks=False)) == {"retrieval", "look", "verdict"}


def test_an_answer_counts_where_all_of_it_is_right(labeller, monkeypatch, little):
    model, wrong = tiny(), []

    def knows(pixels, text, said):
        """Scores of the words of the right answers, but for the first word of those that are `wrong`."""
        logits = torch.nn.functional.one_hot(made["answer"][..., 1:], model.config.vocab_size) * 1.0
        for i, j in wrong:
            logits[i, j, 0] = logits[i, j, 0].roll(1)
        return logits, None

    def noted(*args):
        batch, kinds = questions(*args)
        made["answer"] = batch.answer
        return batch, kinds

    made, questions = {}, labeller.questions
    monkeypatch.setattr(labeller, "questions", noted)
    monkeypatch.setattr(model, "answer_logits", knows)
    assert set(measuring.questions(model, labeller, 0).values()) == {1.0}
    wrong.append((0, 0))
    assert measuring.questions(model, labeller, 0)["all"] == 31 / 32


@torch.no_grad()
def test_the_likeliest_words_one_after_the_other_are_what_is_said(labeller):
    model, (batch, _) = tiny(), labeller.questions(np.random.default_rng(0), 2, 2)
    said, _ = model.reply(pixels_of(batch.image[:1]), batch.text[0, :1])
    answer = torch.tensor([vocab.ANSWER, *said, vocab.END][:batch.answer.shape[-1]])[None, None]
    logits, _ = model.answer_logits(pixels_of(batch.image[:1]), batch.text[:1, :1], answer[..., :-1])
    assert logits.argmax(-1).flatten().tolist() == answer[0, 0, 1:].tolist()


def test_curves_are_drawn_from_the_log(tmp_path):
    rows = [{"stage": stage, "step": step, "look_right": step / 100, "action": 1.0}
            for stage in ("look", "act") for step in (25, 50)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    file = plot_curves(tmp_path)
    assert file == tmp_path / "curves.png" and file.read_bytes().startswith(b"\x89PNG")


def test_the_learning_rate_rises_and_falls():
    rates = [trainer.schedule(step / 1000) for step in range(1000)]
    top = int(np.argmax(rates))
    assert 0 < rates[0] < 0.01 and top == pytest.approx(40, abs=2) and rates[top] == pytest.approx(1, abs=0.01)
    assert all(np.diff(rates[:top]) > 0) and all(np.diff(rates[top:]) < 0) and 0 < rates[-1] < 0.03


# --- runs ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def make_run(tmp_path, demonstrations, monkeypatch):
    """Runs on the demonstrations that are there, without their measures."""
    monkeypatch.setattr(trainer, "SAVE_EVERY", 2)
    monkeypatch.setattr(Run, "_measure", lambda *_: None)
    return lambda name="run": Run(SETTINGS, tmp_path / name, demonstrations, jobs=1)


class Killed(Exception):
    pass


def trained(run, frames, monkeypatch, kill_at=2.0):
    """The weights after the stage 'act'; kill_at: share of it after which the first try ends in a step's middle."""
    real = trainer.schedule

    def failing(progress):
        if progress >= kill_at:
            raise Killed
        return real(progress)

    if kill_at < 1:
        monkeypatch.setattr(trainer, "schedule", failing)
        with pytest.raises(Killed):
            run._stage(run._model(), "act", SETTINGS["act"], [frames])
        monkeypatch.setattr(trainer, "schedule", real)
    model = run._model()
    run._stage(model, "act", SETTINGS["act"], [frames])
    return model.state_dict()


def test_a_killed_run_ends_as_an_unbroken_one(make_run, frames, monkeypatch):
    first = make_run("a")._model().state_dict()
    whole = trained(make_run("a"), frames, monkeypatch)
    broken = trained(make_run("b"), frames, monkeypatch, kill_at=0.5)
    assert any(not torch.equal(first[name], whole[name]) for name in whole)
    assert all(torch.equal(whole[name], broken[name]) for name in whole)


def test_a_kill_between_writing_and_swapping_loses_nothing(make_run, frames, monkeypatch):
    run = make_run()
    weights = trained(run, frames, monkeypatch)
    (run.folder / "act").rename(run.folder / "act.new")
    model = run._model()
    assert trainer.resume(model, torch.optim.AdamW(model.parameters()), run.folder / "act") == SETTINGS["act"]["steps"]
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())


def test_another_seed_is_another_model(make_run):
    one, other = make_run("a"), make_run("b")
    other.seed = 4
    same, different = make_run("a")._model().state_dict(), other._model().state_dict()
    assert all(torch.equal(same[name], value) for name, value in one._model().state_dict().items())
    assert not torch.equal(same["look.other_keys"], different["look.other_keys"])


def test_a_stage_can_keep_a_share_of_the_weights_before_it(make_run, frames, monkeypatch):
    """Also where it was killed, and where it was done already."""
    run, settings = make_run(), SETTINGS["act"] | {"kept": 0.25}
    before, after = run._model().state_dict(), trained(run, frames, monkeypatch)
    assert any(not torch.equal(before[name], after[name]) for name in after)
    for measured in (False, True):
        if measured:
            (run.folder / "act/measures.json").write_text("{}")
        model = run._model()
        run._stage(model, "act", settings, [frames])
        assert all(torch.allclose(value, 0.25 * before[name] + 0.75 * after[name], atol=1e-7)
                   for name, value in model.state_dict().items())


def test_a_stage_can_begin_some_modules_anew(make_run):
    model = make_run()._model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    pipeline.begin_anew(model, ["look.patch_key"], seed=5)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"look.patch_key.weight"}, "its bias is 0 as at first"
    with pytest.raises(ConfigError, match="no module 'look.key'"):
        pipeline.begin_anew(model, ["look.key"], seed=5)


def test_what_begins_anew_does_before_it_is_trained(make_run, frames, monkeypatch):
    begun = []
    monkeypatch.setattr(pipeline, "begin_anew", lambda model, names, seed: begun.append(names))
    monkeypatch.setattr(pipeline, "train_stage", lambda *given: begun.append("trained"))
    run = make_run()
    run._train(run._model(), "look", SETTINGS["look"] | {"anew": ["look.patch_key"]}, [frames])
    assert begun == [["look.patch_key"], "trained"]


def test_a_run_begins_with_the_weights_and_words_of_its_base(make_run, tmp_path, demonstrations, monkeypatch):
    base = make_run("base")
    base.train("motor")
    checkpoint = base.folder / "checkpoint"
    run = Run(SETTINGS | {"seed": 9}, tmp_path / "run", demonstrations, 1, checkpoint)
    weights = open_checkpoint(checkpoint)[0].state_dict()
    assert all(torch.equal(weights[name], value) for name, value in run._model().state_dict().items())
    assert run.tokenizer.get_vocab() == base.tokenizer.get_vocab()
    run.profile = replace(run.profile, name="other")
    with pytest.raises(ConfigError, match="was trained on a panda, these settings are for a other"):
        run._model()


def test_a_base_can_be_given_what_it_had_not(make_run):
    run = make_run()
    run.settings = SETTINGS | {"model": SETTINGS["model"] | {"peaks": 0, "shapes": 0}}
    base = run._model()
    more = pipeline.grown(base, {"peaks": 4, "shapes": 6}, seed=5)
    added = more.state_dict().keys() - base.state_dict().keys()
    assert added == {"glimpse.least", "glimpse.number.weight", "glimpse.number.bias", "look.shape.weight",
                     "look.shape.bias", "expert.shape"}
    assert all(torch.equal(value, more.state_dict()[name]) for name, value in base.state_dict().items())
    assert pipeline.grown(base, {}, seed=5) is base
    with pytest.raises(ConfigError, match="model: 4 shapes; there are 6, or 0 for none"):
        Run(SETTINGS | {"model": {"shapes": 4}}, Path("nowhere"), Path("nowhere"), jobs=1)
    for changes, said in (({"width": 24}, "do not fit that"), ({"expert_layers": 0}, "have no place in that")):
        with pytest.raises(ConfigError, match=said):
            pipeline.grown(base, changes, seed=5)


def test_a_stage_can_train_some_modules_only(make_run, frames):
    run = make_run()
    model = run._model()
    for names, settings in ((["glimpse"], SETTINGS["align"] | {"questions": 1.0}), (["expert"], SETTINGS["act"])):
        before = {name: value.clone() for name, value in model.state_dict().items()}
        run._train(model, "align" if names == ["glimpse"] else "act", settings | {"only": names}, [frames])
        changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
        assert changed and all(name.startswith(f"{names[0]}.") for name in changed)
    pipeline.only(model, [])
    assert all(parameter.requires_grad for parameter in model.parameters())
    with pytest.raises(ConfigError, match="no module 'eyes'; it has vision, projector, look"):
        pipeline.only(model, ["eyes"])


def test_polish_is_the_mean_of_practice_in_several_ways(make_run):
    run = make_run()
    model = run._model()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    run._polish(model)
    after = model.state_dict()
    one, other = (VlaModel.from_pretrained(run.folder / f"polish-{n}").state_dict() for n in (1, 2))
    assert all(torch.allclose(after[key], (one[key] + other[key]) / 2, atol=1e-7) for key in after)
    for made in (one, other):
        changed = {key for key in made if not torch.equal(made[key], before[key])}
        assert changed and all(key.startswith("expert.") for key in changed)
    assert not torch.equal(one["expert.queries"], other["expert.queries"])
    run.settings = {key: value for key, value in SETTINGS.items() if key != "polish"}
    unpolished = run._model()
    run._polish(unpolished)
    assert all(torch.equal(value, before[key]) for key, value in unpolished.state_dict().items())


TOGETHER = """
import sys
from pathlib import Path
from test_training import SETTINGS
from vla_ros.training import pipeline
pipeline.collect_held_out = pipeline.Run._measure = lambda *_: None
run = pipeline.Run(SETTINGS, Path(sys.argv[1]), Path(sys.argv[2]), jobs=1)
run.tasks, stage = ["stack", "push"], pipeline.Run._stage
def noted(self, model, *rest):
    stage(self, model, *rest)
    weights = sum(float(p.detach().abs().sum()) for p in model.parameters())
    print(f"{run.accelerator.num_processes} processes, weights {weights:.6f}", flush=True)
pipeline.Run._stage = noted
run.train("align")
"""


def test_two_processes_train_one_model(tmp_path, demonstrations):
    (tmp_path / "together.py").write_text(TOGETHER)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1])])
    shared = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true",
                           "GLOO_SOCKET_IFNAME": "lo", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
                           "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}  # as torchrun sets them
    command = [sys.executable, str(tmp_path / "together.py"), str(tmp_path / "run"), str(demonstrations)]
    ran = [subprocess.Popen(command, env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE) for rank in range(2)]
    try:
        said = [process.communicate(timeout=200) for process in ran]
    finally:
        for process in ran:
            process.kill()
    (one, error), (other, _) = said
    assert all(process.returncode == 0 for process in ran), error
    weights = re.findall(r"2 processes, weights ([\d.]+)", one)
    assert weights == re.findall(r"2 processes, weights ([\d.]+)", other) and len(set(weights)) == 3, "after each stage"


def test_processes_that_do_not_train_together_are_an_error(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")  # of torchrun, where there is no GPU
    with pytest.raises(ConfigError, match="started 2 processes.*set ACCELERATE_USE_CPU=true"):
        trainer.make_accelerator()


def test_the_whole_run_makes_a_checkpoint_that_opens_and_is_not_made_twice(tmp_path, little):
    def run(last=STAGES[-1]):
        made = Run(SETTINGS, tmp_path / "run", tmp_path / "demos", jobs=1)
        made.tasks = ["pick", "home"]
        return made.train(last)

    assert run("look") == run() == tmp_path / "run" / "checkpoint"
    settings = json.loads((tmp_path / "run" / "checkpoint" / SETTINGS_FILE).read_text())
    trained = {"motor", "look", "align", "act", "corrections-1", "polish-1", "polish-2"}
    assert set(settings["measures"]) == trained | {"polish"}
    seen = {"retrieval", "look", "verdict", "questions"}
    assert settings["seed"] == 3
    assert set(settings["measures"]["act"]) == set(settings["measures"]["polish"]) == seen | {"actions"}
    assert set(settings["measures"]["polish-2"]) == {"actions"}
    assert set(settings["measures"]["look"]) == seen and set(settings["measures"]["motor"]) == {"actions"}
    assert (tmp_path / "run" / "curves.png").is_file()
    policy = NativePolicy.load(tmp_path / "run" / "checkpoint", load_profile("panda"))
    up = policy.spec.names.index("dz")
    assert policy.actions.low[up] < -0.02 and policy.actions.high[up] > 0.02
    weights = tmp_path / "run" / "checkpoint" / "model.safetensors"
    before, log = weights.read_bytes(), (tmp_path / "run" / "log.jsonl").read_text()
    run()
    assert weights.read_bytes() == before and (tmp_path / "run" / "log.jsonl").read_text() == log
    assert {json.loads(line)["stage"] for line in log.splitlines()} == trained
    assert open_checkpoint(weights.parent)[0].config.robot == "panda"


def test_stages_and_settings_are_read_strictly(tmp_path, make_run):
    with pytest.raises(UnknownNameError, match="did you mean 'look'"):
        make_run().train("lok")
    with pytest.raises(UnknownNameError, match="husky"):
        load_settings("huskyy")
    file = tmp_path / "mine.yaml"
    file.write_text("robot: panda\nseeed: 3\n")
    with pytest.raises(UnknownNameError, match="did you mean 'seed'"):
        load_settings(str(file))
    file.write_text("robot: panda\nseed: 3\n")
    with pytest.raises(ConfigError, match="lacks demos, model, motor, look, align, act, corrections"):
        load_settings(str(file))
    with pytest.raises(ConfigError, match="no training configuration"):
        load_settings(str(tmp_path / "nowhere.yaml"))


@pytest.mark.parametrize("name", ["default", "further", "gpu", "apart", "again", "husky"])
def test_shipped_settings_are_whole(name):
    settings = load_settings(name)
    for stage in STAGES:
        for way in ways(settings, stage):
            needed = {"practice"} if stage in BLIND else {"images", "instructions", "questions"}
            assert not way["steps"] or needed | {"learning_rate"} <= set(way), stage
    assert {"rounds", "episodes"} <= set(settings["corrections"])
