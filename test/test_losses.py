"""What is minimised: only what counts does, and it falls where the model is right."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from model_samples import TOKENIZER, WORDS, tiny

from vla_ros.evaluation.wanted import names as known_names
from vla_ros.model import vocabulary as vocab
from vla_ros.profile import load_profile
from vla_ros.sim.world import CONTAINERS, MOVABLE, OBJECT_COLOURS
from vla_ros.synonyms import synonyms
from vla_ros.training import losses
from vla_ros.training.batches import KIND_OF, KINDS, NAMES, Labeller
from vla_ros.training.instructing import Asker
from vla_ros.training.losses import Objective, action_loss, answer_loss, kind_loss, mark_loss, places, sight_loss
from vla_ros.training.practice import Practice

ACT = vocab.VERDICTS.index("act")


@pytest.fixture(scope="module")
def labeller(frames):
    return Labeller(frames, load_profile("panda"), WORDS, Asker("panda"))


@pytest.fixture(scope="module")
def pair(labeller):
    return labeller.statistics(np.random.default_rng(0))


@pytest.fixture(scope="module")
def batch(labeller, pair):
    return labeller.batch(np.random.default_rng(2), 10, 6, *pair)


@pytest.fixture(scope="module")
def drill(labeller, pair):
    return Practice(tiny(), labeller, *pair, texts=4, robots=16).batch(np.random.default_rng(0), 0)


@pytest.fixture(scope="module")
def sight(batch):
    with torch.no_grad():
        return tiny().see(losses.pixels_of(batch.image), batch.text)[0]


def test_places_are_patches_and_the_two_that_are_none(batch):
    point = torch.tensor([[0.0, 0.0], [127.9, 127.9], [17.0, 9.0]]).repeat(2, 1, 1).transpose(0, 1)[:, None]
    where = torch.tensor([[[0, 1]], [[0, 2]], [[0, 3]]])
    made = places(tiny(), replace(batch, point=point, where=where))
    assert made.flatten(0, 1).tolist() == [[0, 256], [255, 257], [16 + 2, 257]]


def test_what_has_no_place_does_not_count_for_the_look(batch, sight):
    unseen = batch.where == losses.PATCH
    unseen[1:] = False  # what the first image is asked for lies outside of it
    point = torch.where(unseen[..., None], -5.0, batch.point)
    batch, uncounted = replace(batch, point=point), unseen | (batch.where == losses.UNKNOWN)
    assert unseen.any() and (batch.where == losses.UNKNOWN).any() and not uncounted.all()
    noise = torch.randn(sight.look_logits.shape, generator=torch.Generator().manual_seed(0))
    logits = torch.where(uncounted[..., None], noise, sight.look_logits)
    loss, figures = sight_loss(tiny(), sight, batch)
    assert torch.equal(loss, sight_loss(tiny(), replace(sight, look_logits=logits), batch)[0])
    assert set(figures) == {"look", "look_right", "look_right_by_mark", "mark_right", "offset_px", "verdict_right",
                            "named_right", "shape_right"}


def test_the_shape_loss_falls_where_each_patch_tells_its_thing(batch, sight):
    model, seen = tiny(shapes=6), losses.inside(tiny(), batch.pixels) & (batch.shapes < 6)
    loss, right = losses.shape_loss(model, sight.patches, batch)
    wanted = torch.nn.functional.one_hot(batch.shapes.clamp(max=5), 6)[:, None] * 30.0
    model.look.shapes = lambda patches, cells: wanted
    best, all_right = losses.shape_loss(model, sight.patches, batch)
    assert best < 1e-6 < loss and all_right == 1 > right
    model.look.shapes = lambda patches, cells: torch.where(seen[:, None, :, None], wanted, -wanted)
    assert losses.shape_loss(model, sight.patches, batch)[0] == best, "what has no name counts for nothing"
    assert losses.shape_loss(tiny(), sight.patches, batch)[0] == 0


def test_the_look_loss_falls_where_it_ends_at_the_right_place(batch, sight):
    model, place = tiny(), places(tiny(), batch)
    logits = torch.nn.functional.one_hot(place, 258) * 30.0
    verdict = torch.nn.functional.one_hot(batch.verdict, 4) * 30.0
    right = replace(sight, look_logits=logits, verdict=verdict)
    _, figures = sight_loss(model, right, batch)
    assert figures["look"] < 1e-6 and figures["look_right"] == figures["verdict_right"] == 1.0
    assert sight_loss(model, sight, batch)[1]["look"] > 1.0


def marked(batch):
    """Where the landmarks are: patches (B, K, 2), 257 without one, and which count."""
    rows = torch.arange(len(batch.mark))[:, None, None]
    cells = losses.cells(tiny(), batch.pixels[rows, batch.mark.clamp(min=0)])
    return torch.where(batch.mark < 0, 257, cells), batch.where[..., :2] != losses.UNKNOWN


def test_the_look_for_a_landmark_is_to_end_there_or_nowhere(batch, sight):
    place, counts = marked(batch)
    assert (batch.mark >= 0).any() and not counts.all()
    right = replace(sight, mark_logits=torch.nn.functional.one_hot(place, 258) * 30.0)
    loss, found = mark_loss(tiny(), right, batch)
    assert loss < 1e-6 and found == 1.0
    noise = torch.where(counts[..., None], right.mark_logits, -right.mark_logits)
    assert torch.equal(mark_loss(tiny(), replace(right, mark_logits=noise), batch)[0], loss), "nonsense does not count"
    wrong = torch.where((batch.mark >= 0)[..., None], right.mark_logits.roll(1, -1), right.mark_logits)
    loss, found = mark_loss(tiny(), replace(right, mark_logits=wrong), batch)
    assert loss > 0.1 and found == 0.0
    assert sight_loss(tiny(), replace(right, mark_logits=wrong), batch)[0] > sight_loss(tiny(), right, batch)[0]


def test_all_that_is_counted_is_to_be_looked_at(labeller):
    asked, kinds = labeller.questions(np.random.default_rng(5), 12, 6)
    patch, counted = losses.cells(tiny(), asked.pixels), asked.counted
    assert {kinds[i][j] for i, j in counted.any(-1).nonzero().tolist()} == {"count"} and counted.sum(-1).max() > 1
    with torch.no_grad():
        sight = tiny().see(losses.pixels_of(asked.image), asked.text)[0]
    logits = torch.full_like(sight.look_logits, -30.0)
    for i, j, m in counted.nonzero().tolist():
        logits[i, j, 0, patch[i, m]] = 0.0
    right = replace(sight, look_logits=logits)
    assert losses.count_loss(tiny(), right, asked) < losses.count_loss(tiny(), sight, asked)
    fewer = replace(asked, counted=counted & (counted.cumsum(-1) == 1))
    assert losses.count_loss(tiny(), right, fewer) > 0.1, "what does not count is not to be looked at"
    assert losses.count_loss(tiny(), sight, replace(asked, counted=torch.zeros_like(counted))) == 0.0


def test_questions_teach_the_look_too(labeller):
    asked, _ = labeller.questions(np.random.default_rng(3), 4, 6)
    with torch.no_grad():
        logits, sight = tiny().answer_logits(losses.pixels_of(asked.image), asked.text, asked.answer[..., :-1])
        place = places(tiny(), asked)
        right = replace(sight, look_logits=torch.nn.functional.one_hot(place, 258) * 30.0)
        assert losses.look_loss(tiny(), right, asked)[0] < losses.look_loss(tiny(), sight, asked)[0]
    model = tiny().train()
    loss, _ = Objective(model, acting=False)(asked, None, torch.Generator().manual_seed(0))
    loss.backward()
    assert model.look.standing.weight.grad.abs().max() > 0 and model.look.offset[0].weight.grad.abs().max() > 0


def test_every_object_that_the_image_shows_is_to_be_named_and_nothing_else(batch, sight):
    none = (batch.kind < 0).all(-1)
    assert none.any() and (~none).sum() > 20
    loss, right = kind_loss(tiny(), sight.patches, batch)
    moved = torch.where(none[..., None], 64.0, batch.pixels)
    assert torch.equal(kind_loss(tiny(), sight.patches, replace(batch, pixels=moved))[0], loss) and 0 <= right <= 1
    outside = torch.where(torch.arange(none.shape[1])[:, None] < 1, 200.0, batch.pixels)  # the first of each image
    without = torch.where((torch.arange(none.shape[1]) < 1)[:, None], -1, batch.kind)
    assert torch.equal(kind_loss(tiny(), sight.patches, replace(batch, pixels=outside))[0],
                       kind_loss(tiny(), sight.patches, replace(batch, kind=without))[0])


def test_kinds_are_those_that_training_shows(frames, batch):
    found = set(batch.kind[..., 0].flatten().tolist()) - {-1}
    names, known = [WORDS.decode(ids).removeprefix("the ") for ids in batch.names], known_names()
    whole, colours, shapes = (names[sum(NAMES[:i]):sum(NAMES[:i + 1])] for i in range(3))
    assert len(whole) == len(KINDS) and not {("ball", "red"), ("cube", "purple")} & set(KINDS)
    there = frames["shape"] >= 0
    assert (KIND_OF[frames["shape"], frames["colour"]][..., 0] >= 0).tolist() == there.tolist()
    assert found and all(known[whole[kind]] == KINDS[kind] for kind in found)
    seen = batch.kind.flatten(0, 1).tolist()
    assert any(part >= 0 for _, part, _ in seen)
    for kind, colour, shape in seen:
        if colour >= 0:
            assert KINDS[kind] == (MOVABLE[shape], OBJECT_COLOURS[colour])
            assert colours[colour].rpartition(" ")[0] in synonyms().colours[OBJECT_COLOURS[colour]]
            assert shapes[shape] in synonyms().nouns(MOVABLE[shape])
        else:
            assert shape == -1 and (kind == -1 or KINDS[kind][0] in CONTAINERS)


def test_a_colour_and_a_shape_are_to_be_named_apart_too(batch, sight):
    alone = replace(batch, kind=torch.where(torch.arange(3) > 0, batch.kind, -1))
    assert (alone.kind[..., 1] >= 0).any()
    loss = kind_loss(tiny(), sight.patches, alone)[0]
    for part in (1, 2):
        without = replace(alone, kind=torch.where(torch.arange(3) == part, -1, alone.kind))
        assert kind_loss(tiny(), sight.patches, without)[0] < loss - 0.1


def test_actions_count_only_where_something_is_to_be_done(batch):
    acts = batch.verdict == ACT
    logits = torch.randn(*batch.actions.shape, 256, generator=torch.Generator().manual_seed(0))
    other = torch.where(acts[..., None], batch.actions, 255 - batch.actions)
    assert not torch.equal(other, batch.actions)
    assert torch.equal(action_loss(logits, batch.actions, acts)[0], action_loss(logits, other, acts)[0])
    nothing, figures = action_loss(logits, batch.actions, torch.zeros_like(acts))
    assert nothing == 0 and figures == {"action": 0.0, "bins_away": 0.0}


def test_an_action_is_the_better_the_nearer_its_bin(batch):
    acts = batch.verdict == ACT

    def loss(away: int):
        bins = torch.where(batch.actions < 128, batch.actions + away, batch.actions - away)
        return action_loss(torch.nn.functional.one_hot(bins, 256) * 30.0, batch.actions, acts)

    (exact, none), (beside, one), (far, many) = loss(0), loss(1), loss(60)
    assert exact < beside < far
    assert [figures["bins_away"] for figures in (none, one, many)] == [0, 1, 60]


def test_the_padding_of_an_answer_does_not_count(labeller):
    made, _ = labeller.questions(np.random.default_rng(0), 4, 3)
    logits = torch.randn(4, 3, 7, len(TOKENIZER), generator=torch.Generator().manual_seed(0))
    other = logits.clone()
    other[made.answer[..., 1:] == vocab.PAD] = 9.0
    assert torch.equal(answer_loss(logits, made.answer)[0], answer_loss(other, made.answer)[0])
    said = torch.nn.functional.one_hot(made.answer[..., 1:], len(TOKENIZER)) * 30.0
    assert answer_loss(said, made.answer)[1] == {"answer": pytest.approx(0, abs=1e-6), "answer_right": 1.0}


def test_pictures_and_a_drill_are_minimised_together(batch, drill):
    objective = Objective(tiny(), acting=True)

    def loss(*parts):
        with torch.no_grad():
            return objective(*parts, torch.Generator().manual_seed(0))

    (both, figures), (one, _), (other, _) = loss(batch, drill), loss(batch, None), loss(None, drill)
    assert both == pytest.approx(float(one + other), rel=1e-5)
    assert {"look", "action", "drill_action", "drill_bins_away"} <= set(figures)


@pytest.mark.parametrize("kind", ["look", "act", "questions", "motor"])
def test_training_lowers_the_loss(labeller, pair, drill, kind):
    model = tiny(layers=1)
    objective = Objective(model, acting=kind == "act")
    made = None
    if kind == "questions":
        made, _ = labeller.questions(np.random.default_rng(0), 4, 3)
    elif kind != "motor":
        made = labeller.batch(np.random.default_rng(0), 4, 4, pair[0], pair[1] if kind == "act" else None)

    def loss():
        return objective(made, drill if kind == "motor" else None, torch.Generator().manual_seed(0))[0]

    optimiser, before = torch.optim.Adam(model.parameters(), 3e-3), loss().item()
    for _ in range(15):
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()
    assert loss().item() < 0.8 * before


# --- what never was shown together ---------------------------------------------------------------------------------

CUBE, CYLINDER, BALL, CONE = range(4)
BLUE, RED = OBJECT_COLOURS.index("blue"), OBJECT_COLOURS.index("red")


def two_things(batch, first, second, said):
    """The batch's first image with two things only, at patches (5, 5) and (5, 10); the first is asked for by `said`."""
    kind = torch.full_like(batch.kind[:1], -1)
    kind[0, 0, 1:], kind[0, 1, 1:] = torch.tensor(first[::-1]), torch.tensor(second[::-1])
    pixels = torch.full_like(batch.pixels[:1], -1.0)
    pixels[0, :2] = torch.tensor([[44.0, 44.0], [84.0, 44.0]])
    shape = batch.said[:1, :1]
    return replace(batch, kind=kind, pixels=pixels, said=torch.tensor([[[said, (-1, -1)]]]).expand_as(shape),
                   point=torch.tensor([44.0, 44.0]).expand(1, 1, 3, 2), where=torch.zeros(1, 1, 3, dtype=torch.long))


@pytest.mark.parametrize("first,second,said,held", [
    ((CUBE, BLUE), (CONE, RED), (CUBE, BLUE), False),  # a cone never is blue
    ((CUBE, BLUE), (CYLINDER, RED), (CUBE, BLUE), True), ((CUBE, BLUE), (CUBE, RED), (CUBE, BLUE), True),
    ((CONE, RED), (CUBE, BLUE), (CONE, RED), False), ((CUBE, BLUE), (CONE, RED), (-1, BLUE), False),
    ((CUBE, RED), (BALL, BLUE), (CUBE, RED), False), ((CUBE, BLUE), (CONE, RED), (CUBE, -1), True),
    ((CUBE, BLUE), (CONE, -1), (CUBE, -1), True), ((CUBE, BLUE), (CONE, RED), (-1, -1), True)])
def test_what_never_was_shown_together_is_not_held_against_a_name(batch, first, second, said, held):
    made = two_things(batch, first, second, said)
    never = losses.never_together(tiny(), made, places(tiny(), made))
    there = torch.zeros(16, 16, dtype=torch.bool)
    there[4:7, 9:12] = not held
    assert torch.equal(never[0, 0, 0, :256].view(16, 16), there)
    assert not never[..., 256:].any() and not never[0, 0, 2].any(), "nor 'not there', nor the hand"


def test_the_place_that_is_right_always_counts(batch):
    made = two_things(batch, (CUBE, BLUE), (CONE, RED), (CUBE, BLUE))
    near = replace(made, pixels=made.pixels.clone())
    near.pixels[0, 1] = torch.tensor([52.0, 44.0])
    place = places(tiny(), near)
    assert not losses.never_together(tiny(), near, place)[0, 0, 0, place[0, 0, 0]]


def test_a_look_is_not_moved_by_what_it_is_not_held_against(batch, sight):
    made = two_things(batch, (CUBE, BLUE), (CONE, RED), (CUBE, BLUE))
    seen = replace(sight.row(0), **{name: getattr(sight, name)[:1, :1] for name in (
        "look_logits", "mark_logits", "query")})
    seen = replace(seen, look_logits=torch.zeros_like(seen.look_logits))
    logits = seen.look_logits.clone()
    logits[0, 0, 0, 5 * 16 + 10] += 5.0  # the cone
    more = replace(seen, look_logits=logits)
    made = replace(made, mark=made.mark[:1, :1])

    @torch.no_grad()
    def loss(sight, batch):
        return float(losses.look_loss(tiny(), sight, batch)[0])
    assert loss(seen, made) == pytest.approx(loss(more, made), abs=1e-6)
    held = replace(made, said=torch.full_like(made.said, -1))
    assert loss(more, held) > loss(seen, held) + 0.01


def test_names_of_what_never_was_shown_together_are_not_held_against_an_object(batch, sight, monkeypatch):
    """The loss does not depend on how well a cone fits 'blue', or a ball 'green'."""
    one, found = tiny(), []

    def name(ids, real=one.name):
        made = real(ids).clone()
        made[[index for index, kind in enumerate(losses.NAMED_KINDS) if kind[1] == "blue"]] = found[-1]
        return made
    monkeypatch.setattr(one, "name", name)
    kind = batch.kind.clone()

    @torch.no_grad()
    def lost(shape, colour, blue):
        kind[:] = -1
        kind[:, 0, 1:] = torch.tensor([colour, shape])
        found.append(blue)
        return float(kind_loss(one, sight.patches, replace(batch, kind=kind))[0])
    some, other = torch.randn(2, one.config.look_width, generator=torch.manual_seed(0))
    some, other = (torch.nn.functional.normalize(vector, dim=0) for vector in (some, other))
    assert lost(CONE, RED, some) == pytest.approx(lost(CONE, RED, other), abs=1e-5)
    assert abs(lost(CUBE, RED, some) - lost(CUBE, RED, other)) > 1e-3
