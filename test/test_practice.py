"""Practice: robots without images are in states that the simulator knows, seen where a camera would see them, and they
do what the model says."""

import numpy as np
import pytest
import torch
from model_samples import WORDS, tiny

from vla_ros.model import vocabulary as vocab
from vla_ros.profile import load_profile
from vla_ros.sim.cameras import project
from vla_ros.sim.experts import FAMILIES
from vla_ros.sim.motion import BUMPER, Solids, grasps
from vla_ros.sim.tasks import drive
from vla_ros.sim.world import RELATIONS, SHAPES
from vla_ros.training import practice, trainer
from vla_ros.training.batches import Labeller
from vla_ros.training.bodies import Arms, Bases, Wanted
from vla_ros.training.instructing import Asker
from vla_ros.training.practice import Practice

PANDA, HUSKY = load_profile("panda"), load_profile("husky")
N = 400


@pytest.fixture(scope="module")
def labeller(frames):
    return Labeller(frames, PANDA, WORDS, Asker("panda"))


@pytest.fixture(scope="module")
def pair(labeller):
    return labeller.statistics(np.random.default_rng(0))


def wanted(family: str, n: int = N, shape="cube", reference="cylinder", relation="", direction=(0.0, 0.0)) -> Wanted:
    return Wanted(np.full(n, FAMILIES.index(family)), np.tile(direction, (n, 1)),
                  np.full(n, RELATIONS.index(relation)), np.full(n, SHAPES.index(shape)),
                  np.full(n, SHAPES.index(reference)))


def arms(*args, seed=0, **kwargs) -> Arms:
    made = Arms(PANDA, N)
    made.renew(np.arange(N), wanted(*args, **kwargs), np.random.default_rng(seed))
    return made


# --- bodies -------------------------------------------------------------------------------------------------------


def test_arms_begin_anywhere_near_their_object_and_with_it_in_hand():
    s = arms("pick").states
    held = grasps(s.ee, s.gap, s.target, Solids.of(s.shape, s.size))
    away = np.linalg.norm(s.ee - s.target, axis=1)
    assert 0.1 < held.mean() < 0.3 and 0.2 < (away < 0.12).mean() < 0.7 and (away > 0.25).any()
    low, high = PANDA.workspace.min, PANDA.workspace.max
    assert (s.ee >= low).all() and (s.ee <= high).all()
    assert (s.target[held, 2] > 0.05).any() and np.allclose(s.target[~held, 2], s.size[~held] / 2)


def test_only_the_rows_that_are_named_begin_anew():
    made = arms("pick")
    before = made.states.ee.copy()
    made.renew(np.arange(10), wanted("push", 10), np.random.default_rng(1))
    assert (made.states.ee[:10] != before[:10]).any(1).all() and (made.states.ee[10:] == before[10:]).all()
    assert made.states.family.tolist() == [FAMILIES.index("push")] * 10 + [FAMILIES.index("pick")] * (N - 10)


def test_the_expert_solves_what_arms_are_told():
    made = arms("pick")
    made.lead(np.full(N, 50))
    assert (made.states.target[:, 2] > 0.08).mean() > 0.97
    made = arms("place", reference="tray", relation="in")
    made.lead(np.full(N, 60))
    apart = np.linalg.norm((made.states.target - made.states.reference)[:, :2], axis=1)
    assert (apart < 0.05).mean() > 0.95


def test_what_is_done_without_end_stays_in_the_workspace():
    made = arms("push", direction=(1.0, 0.0))
    made.lead(np.full(N, 120))
    assert (made.states.ee <= np.array(PANDA.workspace.max) + 1e-9).all() and made.states.target[:, 0].max() < 0.85


def test_an_arm_follows_its_chunk_but_lags_and_stays_in_the_workspace():
    made = arms("reach")
    before, rng = made.states.ee.copy(), np.random.default_rng(0)
    chunks = np.tile([0.02, -0.01, 0.0, 1.0], (N, 8, 1))
    made.follow(chunks, np.arange(N) % 4 + 1, rng)
    moved = (made.states.ee - before) / (np.arange(N) % 4 + 1)[:, None]
    free = before[:, 0] < 0.6
    assert 0.016 < moved[free, 0].mean() < 0.02 and -0.0105 < moved[:, 1].mean() < -0.008
    made.follow(np.tile([0.0, 0.0, -0.5, 1.0], (N, 8, 1)), np.full(N, 1), rng)
    assert np.allclose(made.states.ee[:, 2], PANDA.workspace.min[2])


def test_what_is_let_go_comes_to_lie_a_little_aside():
    made, rng = arms("pick"), np.random.default_rng(0)
    s = made.states
    held = grasps(s.ee, s.gap, s.target, Solids.of(s.shape, s.size))
    before = s.target.copy()
    made.follow(np.tile([0.0, 0.0, 0.0, 1.0], (N, 8, 1)), np.full(N, 1), rng)
    aside = np.linalg.norm((s.target - before)[:, :2], axis=1)
    assert (aside[held] > 0).all() and np.median(aside[held]) < 0.006 and 0.01 < aside.max() < 0.06
    assert aside[~held].max() < 0.001, "and nothing else"


def test_a_base_that_its_expert_leads_comes_to_rest_before_its_object():
    made = Bases(HUSKY, N)
    made.renew(np.arange(N), wanted("reach", shape="ball"), np.random.default_rng(0))
    assert made.labels().shape == (N, 8, 2)
    made.lead(np.full(N, 120))
    gap = np.linalg.norm(made.target[:, :2], axis=1) - made.size / 2 - BUMPER
    facing = np.abs(np.arctan2(made.target[:, 1], made.target[:, 0])) < drive.HEADING
    assert ((gap < drive.GAP) & (gap > 0) & facing & (np.abs(made.twist) < drive.REST).all(1)).mean() > 0.97


# --- practice -----------------------------------------------------------------------------------------------------


def test_what_is_looked_at_is_where_the_camera_sees_it(labeller, pair, monkeypatch):
    monkeypatch.setattr(practice, "DISPLACED", 0.0)
    monkeypatch.setattr(practice, "JITTER", (0.0, 0.0))
    made = Practice(tiny(), labeller, *pair, texts=8, robots=64)
    drill = made.batch(np.random.default_rng(0), 0)
    pixels, _ = project(made.bodies.points(), PANDA.cameras["front"], np.eye(4))
    ids = drill.look.view(64, 3, 2).numpy() - [vocab.LOOK_X, vocab.LOOK_Y]
    for i, asked in enumerate(made.asked):
        rows = slice(8 * i, 8 * i + 8)
        for j, named in enumerate((asked.target >= 0, asked.reference >= 0, True)):
            seen = np.clip(np.floor(2 * pixels[rows, j]), 0, 255)
            if j < 2:
                assert (ids[rows, j] == seen).all() == named, (asked, j)
                continue
            inside = ((pixels[rows, j] >= 0) & (pixels[rows, j] < 128)).all(1)
            assert ((ids[rows, j] == seen).all(1) == inside).all(), "a hand out of view is not there"
    low, high = labeller.statistics(np.random.default_rng(0))[0].low, pair[0].high
    assert np.allclose((drill.proprio.numpy() + 1) / 2 * (high - low) + low, made.bodies.proprio(), atol=1e-5)


def test_shapes_are_those_of_what_is_told_but_for_mistakes(labeller, pair, monkeypatch):
    monkeypatch.setattr(practice, "MISTAKEN", 0.0)
    made = Practice(tiny(), labeller, *pair, texts=16, robots=64)
    shape = made.batch(np.random.default_rng(0), 0).shape.numpy()
    s, asked = made.bodies.states, [made.asked[i] for i in made.owner]
    assert (shape[:, 0] == [s.shape[i] if a.target >= 0 else 6 for i, a in enumerate(asked)]).all()
    assert (shape[:, 1] == [s.reference_shape[i] if a.reference >= 0 else 6 for i, a in enumerate(asked)]).all()
    assert len(set(shape[:, 0])) > 2 and 6 in shape[:, 1]
    monkeypatch.setattr(practice, "MISTAKEN", 0.5)
    mistaken = (made._shapes(np.random.default_rng(1)) != shape).mean()
    assert 0.25 < mistaken < 0.6


def test_labels_are_the_experts_for_the_words_of_each_robot(labeller, pair):
    made = Practice(tiny(), labeller, *pair, texts=8, robots=64)
    drill = made.batch(np.random.default_rng(0), 0)
    assert drill.text.shape[0] == 8 and drill.owner.tolist() == np.repeat(range(8), 8).tolist()
    assert [WORDS.decode(ids) for ids in drill.text] == [vocab.normalised(a.text) for a in made.asked]
    assert all(a.verdict == "act" for a in made.asked)
    assert made.bodies.states.family.tolist() == [FAMILIES.index(made.asked[i].family) for i in drill.owner]
    values = pair[1].unnormalise(labeller.bins.decode(drill.actions.view(64, 8, 4).numpy()))
    clipped = np.clip(made.bodies.labels(), pair[1].low, pair[1].high)
    assert np.abs(values - clipped).max() < 0.005


def test_robots_do_what_the_model_says(labeller, pair, monkeypatch):
    monkeypatch.setattr(practice, "GUIDED", 0.0)
    monkeypatch.setattr(practice, "OVER", 0.0)
    model = tiny()
    up = np.zeros((8, 4, vocab.ACTION_BINS), np.float32)
    up[:, :2, 128], up[:, 2, 255], up[:, 3, 0] = 9, 9, 9  # up, the fingers shut
    model.act = lambda intent, look, proprio, shape: torch.from_numpy(up.reshape(32, -1)).expand(len(look), -1, -1)
    made = Practice(model, labeller, *pair, texts=4, robots=32)
    made.batch(np.random.default_rng(0), 0)
    before = made.bodies.states.ee.copy()
    made.batch(np.random.default_rng(1), 5)
    rise = made.bodies.states.ee[:, 2] - before[:, 2]
    room = made.bodies.box[1][2] - before[:, 2]
    assert (rise > np.minimum(0.01, room - 1e-6)).all() and rise.max() < 0.15


def test_who_is_done_begins_anew(labeller, pair, monkeypatch):
    monkeypatch.setattr(practice, "OVER", 1.0)
    made = Practice(tiny(), labeller, *pair, texts=16, robots=64)
    made.batch(np.random.default_rng(0), 0)
    s = made.bodies.states
    assert made.still[s.family == FAMILIES.index("stop")].all()
    assert not made.still[s.family == FAMILIES.index("push")].any()
    made.still[:] = np.arange(64) % 2
    before, told = s.size.copy(), made.told.take(np.arange(64))
    made._leave_what_is_over(np.random.default_rng(1))
    renewed = (np.arange(64) % 2 == 1) & (s.family != FAMILIES.index("stop"))
    assert ((s.size != before) == renewed).all() and renewed.any()
    assert (s.family == told.family).all() and (s.shape == told.shape).all(), "by the same words"


def test_a_text_gets_new_scenes_in_turn_and_all_of_them_where_a_run_resumes(labeller, pair, monkeypatch):
    made = Practice(tiny(), labeller, *pair, texts=4, robots=8)
    made.batch(np.random.default_rng(0), 0)
    asked = list(made.asked)
    made.batch(np.random.default_rng(1), practice.EPISODE - 2)
    assert [a is b for a, b in zip(asked, made.asked, strict=True)] == [True, True, False, True]
    fresh = Practice(tiny(), labeller, *pair, texts=4, robots=8)
    step = trainer.SAVE_EVERY
    one, other = (p.batch(np.random.default_rng(2), step) for p in (made, fresh))
    assert all(torch.equal(value, getattr(other, name)) for name, value in vars(one).items())


def test_robots_that_are_shared_out_move_together_when_each_had_its_turn(labeller, pair):
    made = Practice(tiny(), labeller, *pair, texts=6, robots=24, parts=3)
    whole = Practice(tiny(), labeller, *pair, texts=6, robots=24)
    for decision in range(2):
        together = whole.batch(np.random.default_rng(decision), decision)
        parts = [made.batch(np.random.default_rng(decision), 3 * decision + i) for i in range(3)]
        for name in ("text", "proprio", "look", "actions"):
            assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(together, name)), name
        assert all(part.owner.tolist() == [0, 0, 0, 0, 1, 1, 1, 1] for part in parts)
