"""Instructions for frames, and the labels that the expert gives them; questions and their answers."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from model_samples import WORDS

from vla_ros.evaluation.wanted import name_pattern, names, understand
from vla_ros.model import vocabulary as vocab
from vla_ros.profile import load_profile
from vla_ros.referring import BESIDE, SIDES, by_kind, by_place, sides
from vla_ros.sim.bullet import BulletWorld
from vla_ros.sim.oracle import OraclePolicy
from vla_ros.sim.questions import place_of
from vla_ros.sim.tasks import TASKS, get_task
from vla_ros.sim.tasks.held_out import HELD_OUT_PAIRS
from vla_ros.sim.world import COLOURS, CONTAINERS, MOVABLE
from vla_ros.synonyms import synonyms
from vla_ros.training import batches, instructing, recording
from vla_ros.training.batches import NOWHERE, PATCH, THERE_NOT, UNKNOWN, Labeller
from vla_ros.training.demos import odd
from vla_ros.training.instructing import NONE, Asked, Asker, View, absent_words
from vla_ros.words import known_words, plain

PANDA = load_profile("panda")


@pytest.fixture(scope="module")
def world():
    made = BulletWorld(PANDA, get_task("push"), cameras=("front",))
    yield made
    made.close()


def labeller_of(frames, robot="panda", **more) -> Labeller:
    return Labeller(frames, load_profile(robot), WORDS, Asker(robot, **more))


def still(world) -> dict[str, np.ndarray]:
    return {name: np.asarray(value)[None] for name, value in recording.frame(world, world.observe()).items()}


@pytest.fixture(scope="module")
def views() -> list[View]:
    """Of layouts of every family of the arm."""
    made = []
    for name in Asker("panda").families:
        for seed in range(6):
            scene = get_task(name).layout(np.random.default_rng(seed))
            kinds, positions = zip(*(((o.shape, o.colour), o.position) for o in scene.objects), strict=True)
            made.append(View(list(kinds), np.array(positions), name, scene.target, scene.reference, scene.direction,
                             scene.relation))
    return made


def drawn(views, count=40, focus=0.0, first=False) -> list[tuple[View, Asked]]:
    rng, asker = np.random.default_rng(0), Asker("panda", focus=focus)
    return [(view, asker.ask(rng, view, first)) for view in views for _ in range(count)]


@pytest.fixture
def only(monkeypatch):
    """Sets the shares of instructing.py; those that are not named are 0."""
    def set_shares(**shares):
        for name in ("ABSENT", "REFUSED", "OWN", "ROUGH", "FILLED"):
            monkeypatch.setattr(instructing, name, shares.get(name, 0.0))
    return set_shares


def kinds_in(view: View) -> set[tuple[str, str]]:
    return {(shape, "" if shape in CONTAINERS else colour) for shape, colour in view.kinds}


def named_in(text: str) -> list[tuple[str, str]]:
    return [names()[name] for name in name_pattern().findall(plain(text))]


# --- instructions -------------------------------------------------------------------------------------------------


def test_what_is_to_be_done_is_said_of_what_is_there(views, only):
    only()
    understood = 0
    for view, asked in drawn(views):
        assert asked.verdict == "act" and asked.target_there and asked.reference_there
        wanted = understand(asked.text, [asked.family])
        if wanted is None:
            continue  # named in part, or by its place
        understood += 1
        there = [None if i == NONE else view.kinds[i] for i in (asked.target, asked.reference)]
        there = [kind and (kind[0], "" if kind[0] in CONTAINERS else kind[1]) for kind in there]
        assert (wanted.target, wanted.reference, wanted.key) == (*there, asked.direction or asked.relation), asked.text
        assert wanted.target is None or wanted.target != wanted.reference
    assert understood > 0.4 * len(views) * 40


def test_a_word_that_there_is_not_changes_nothing_where_it_names_nothing(views, only, monkeypatch):
    only(FILLED=1.0)
    made, invent = set(), instructing.words.invented
    monkeypatch.setattr(instructing.words, "invented", lambda rng: made.add(word := invent(rng)) or word)
    filled = [(asked, [w for w in plain(asked.text).split() if w in made or w.removesuffix("ly") in made])
              for _, asked in drawn(views, 5)]
    assert all(asked.verdict == "act" and len(extra) == 1 for asked, extra in filled)
    ends = [plain(asked.text).split()[i] == extra[0] for asked, extra in filled for i in (0, -1)]
    assert sum(ends) == len(filled), "before or after all that is said"


def test_absent_instructions_name_one_thing_that_is_not_there(views, only, monkeypatch):
    only(ABSENT=1.0)
    made, invent = set(), instructing.words.invented
    monkeypatch.setattr(instructing.words, "invented", lambda rng: made.add(word := invent(rng)) or word)
    counts = Counter()
    for view, asked in drawn(views):
        counts[asked.family, asked.verdict, asked.target_there, asked.reference_there] += 1
        if asked.verdict == "act":
            assert asked.family in ("home", "stop")
            continue
        invented = [word for word in plain(asked.text).split() if word in made]
        kinds = set(named_in(asked.text)) - kinds_in(view)
        assert len(kinds) + len(invented) == 1, asked.text
        (shape, _), *others = kinds or {("thing", "")}
        assert asked.verdict == "absent" and not others, asked.text
        assert asked.target_there != asked.reference_there
        assert (shape in CONTAINERS) == (asked.family == "place" and asked.target_there)
    for family in ("place", "next_to", "stack"):
        assert counts[family, "absent", False, True] and counts[family, "absent", True, False]


def test_refused_instructions_are_about_nothing_of_the_scene(views, only):
    only(REFUSED=1.0)
    made = [asked for _, asked in drawn(views)]
    assert set(Counter(a.verdict for a in made)) == {"impossible", "nonsense"}
    assert all((a.family, a.target, a.reference) == ("", NONE, NONE) for a in made)


def test_the_first_instruction_of_an_image_is_often_its_own(views, only):
    only(OWN=1.0)
    for view, asked in drawn(views, 3, first=True):
        assert (asked.family, asked.target, asked.reference, asked.direction, asked.relation) == (
            view.family, view.target, view.reference, view.direction, view.relation)
    assert any(asked.family != view.family for view, asked in drawn(views, 3, first=False))


def test_focus_is_on_what_the_robot_is_at_work_on(views, only):
    only()

    def share(focus: float) -> float:
        about = [asked.target == view.target for view, asked in drawn(views, focus=focus)
                 if view.target >= 0 and asked.target != NONE]
        return float(np.mean(about))

    assert share(0.0) < 0.5 < 0.85 < share(1.0), "but where a family has no use for that object"
    with_reference = [(v, a) for v, a in drawn(views, focus=1.0) if v.reference >= 0 and a.family == v.family]
    assert with_reference and all(a.reference == v.reference for v, a in with_reference)


def test_held_out_pairs_are_never_shown_or_named(views, frames):
    said = [asked.text for _, asked in drawn(views)]
    batch, _ = labeller_of(frames).questions(np.random.default_rng(0), 60, 40)
    said += [WORDS.decode(ids) for ids in batch.text.flatten(0, 1)]
    assert not {kind for text in said for kind in named_in(text)} & set(HELD_OUT_PAIRS)
    assert not {kind for view in views for kind in view.kinds} & set(HELD_OUT_PAIRS)
    shown = {kind for row in range(len(frames["image"])) for kind in View.of(frames, row).kinds}
    assert shown and not shown & set(HELD_OUT_PAIRS)


def test_some_instructions_are_rough(views, only):
    only(ROUGH=1.0)
    rough = {asked.text for _, asked in drawn(views, 5)}
    only()
    assert any(text != text.lower() and text.isupper() for text in rough)
    assert not any(asked.text.isupper() for _, asked in drawn(views, 5))


# --- labels -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", Asker("panda").families)
def test_the_label_of_the_own_instruction_is_the_oracles_answer(world, family, only):
    only(OWN=1.0)
    world.reset(7, get_task(family))
    for _ in range(2):
        f = still(world)
        asked = Asker("panda").ask(np.random.default_rng(0), View.of(f, 0), True)
        answer = OraclePolicy(world).infer(world.observe()).values
        assert np.allclose(labeller_of(f).values(f, [[asked]])[0, 0], answer, atol=1e-6)
        world.instruct(replace(world.scene), get_task(family))  # from here on, as in an episode under way
        for _ in range(20):
            world.step(None)


def test_the_label_of_the_bases_own_instruction_is_the_oracles_answer(only):
    only(OWN=1.0)
    world = BulletWorld(load_profile("husky"), get_task("drive"), cameras=("front",))
    world.reset(3)
    f = still(world)
    asked = Asker("husky").ask(np.random.default_rng(0), View.of(f, 0), True)
    answer = OraclePolicy(world).infer(world.observe()).values
    label = labeller_of(f, "husky").values(f, [[asked]])[0, 0]
    world.close()
    assert np.allclose(label, answer, atol=0.01), "the label knows the twist that is measured, not the true one"


@pytest.mark.parametrize("asked, where", [
    (Asked("", "act", "pick", 1), (PATCH, NOWHERE)), (Asked("", "act", "stack", 1, 2), (PATCH, PATCH)),
    (Asked("", "act", "stop"), (NOWHERE, NOWHERE)), (Asked("", "impossible"), (UNKNOWN, UNKNOWN)),
    (Asked("", "nonsense"), (UNKNOWN, UNKNOWN)),
    (Asked("", "absent", "pick", 1, target_there=False), (THERE_NOT, NOWHERE)),
    (Asked("", "absent", "stack", 1, 2, target_there=False), (THERE_NOT, PATCH)),
    (Asked("", "absent", "stack", 1, 2, reference_there=False), (PATCH, THERE_NOT))])
def test_where_looks_should_end(asked, where):
    assert (batches.place(asked, asked.target, asked.target_there),
            batches.place(asked, asked.reference, asked.reference_there)) == where


@pytest.fixture(scope="module")
def pair(frames):
    return labeller_of(frames).statistics(np.random.default_rng(0))


def test_a_batch_holds_what_was_asked(frames, pair, monkeypatch):
    asked, ask = [], Asker.ask
    monkeypatch.setattr(Asker, "ask", lambda *args: asked.append(ask(*args)) or asked[-1])
    batch = labeller_of(frames).batch(np.random.default_rng(1), 12, 5, *pair)
    assert batch.text.shape[:2] == batch.verdict.shape == (12, 5)
    assert batch.where.shape == (12, 5, 3)
    assert set(batch.where[..., 2].flatten().tolist()) <= {PATCH, THERE_NOT}, "the hand, which may be out of view"
    assert batch.actions.shape == (12, 5, 32) and 0 <= batch.actions.min() < batch.actions.max() <= 255
    texts = [WORDS.decode(ids) for ids in batch.text.flatten(0, 1)]
    assert texts == [vocab.normalised(a.text) for a in asked]
    assert [vocab.VERDICTS[v] for v in batch.verdict.flatten()] == [a.verdict for a in asked]
    for i, a in enumerate(asked):
        row = np.flatnonzero((frames["image"] == batch.image[i // 5].numpy()).all((1, 2, 3)))[0]
        for j, index in enumerate((a.target, a.reference)):
            if batch.where[i // 5, i % 5, j] == PATCH:
                assert np.allclose(batch.point[i // 5, i % 5, j], frames["pixels"][row, index])
        assert np.allclose(batch.point[i // 5, i % 5, 2], frames["hand"][row])
        assert tuple(batch.mark[i // 5, i % 5].tolist()) == a.marks
        assert batch.said[i // 5, i % 5].tolist() == [list(batches.parts_of(kind)) for kind in a.named]
        shapes = batch.shapes[i // 5].tolist()
        assert batch.shape[i // 5, i % 5].tolist() == [shapes[j] if j >= 0 else 6 for j in (a.target, a.reference)]


def test_kinds_are_told_where_they_alone_name_a_thing(views, only):
    only(ABSENT=0.5)
    told, names_of_all = Counter(), names()
    for view, asked in drawn(views):
        for index, there, kind in ((asked.target, asked.target_there, asked.named[0]),
                                   (asked.reference, asked.reference_there, asked.named[1])):
            if there and index != NONE and kind != instructing.NOTHING:
                assert kind == view.kinds[index]
                assert any(plain(name) in plain(asked.text) for group in by_kind(view.kinds, index) for name in group)
            elif there and index != NONE:
                told["by its place"] += 1
                found = [name for group in by_place(view.kinds, view.positions[:, :2], index) for name, *_ in group]
                assert any(plain(name) in plain(asked.text) for name in found)
            elif not there and all(kind):
                assert kind not in kinds_in(view)
                assert any(f" {name}" in f" {plain(asked.text)}" for name, of in names_of_all.items() if of == kind)
                told["not there"] += 1
    assert told["by its place"] > 50 and told["not there"] > 50


def test_landmarks_are_what_the_words_tell_the_place_by(views, monkeypatch):
    """Not rough: a typo would hide the name."""
    monkeypatch.setattr(instructing, "ROUGH", 0.0)
    told = [(view, asked, mark) for view, asked in drawn(views) for mark in asked.marks if mark != NONE]
    assert len(told) > 50
    ways = [*BESIDE, *(text for relation in SIDES for text in sides(relation))]
    for view, asked, mark in told:
        name = next(group for group in by_kind(view.kinds, mark) if group)[0]
        assert any(f"{way} the {name}" in asked.text for way in ways)
        assert mark not in (asked.target if mark == asked.marks[0] else asked.reference,)


def test_what_a_question_is_about_is_to_be_looked_at(frames):
    labeller, about = labeller_of(frames), Counter()
    for seed in range(6):
        batch, kinds = labeller.questions(np.random.default_rng(seed), 8, 6)
        assert batch.where.shape == (8, 6, 3) and batch.mark.shape == (8, 6, 2)
        for i, row in enumerate(kinds):
            for j, kind in enumerate(row):
                about[kind, int(batch.where[i, j, 0])] += 1
                if kind in ("where", "colour"):
                    answer = WORDS.decode(batch.answer[i, j])
                    frame = np.flatnonzero((frames["image"] == batch.image[i].numpy()).all((1, 2, 3)))[0]
                    index = np.linalg.norm(frames["pixels"][frame] - batch.point[i, j, 0].numpy(), axis=1).argmin()
                    said = (place_of(frames["objects"][frame, index][:2]) if kind == "where"
                            else tuple(COLOURS)[frames["colour"][frame, index]])
                    assert said == answer
    assert about["where", PATCH] and about["colour", PATCH] and about["what", PATCH] and about["is there", PATCH]
    assert about["is there", THERE_NOT] and about["what", THERE_NOT], "'nothing'"
    assert about["count", batches.UNKNOWN] and about["count", THERE_NOT] and not about["count", PATCH]


def test_what_has_no_whole_name_is_named_by_its_shape_where_that_is_the_only_one(world, pair):
    rng, asker, seen = np.random.default_rng(0), Asker("panda"), Counter()
    for seed in range(60):
        task = get_task(asker.families[seed % len(asker.families)])
        scene = odd(task.layout(np.random.default_rng(seed)), rng)
        world.lay_out(scene, task)
        view = View.of(f := still(world), 0)
        shapes = [shape for shape, _ in view.kinds]
        assert view.kinds == [(o.shape if o.plain else "", o.colour if o.colour in COLOURS else "")
                              for o in scene.objects]
        for asked in (asker.ask(rng, view, first) for first in (True, False) for _ in range(15)):
            for index in {asked.target, asked.reference} - {NONE}:
                assert shapes[index] in CONTAINERS or shapes.count(shapes[index]) == 1
                seen["named", asked.verdict] += shapes[index] in MOVABLE
            said = [kind for kind in named_in(asked.text) if kind[1]]
            assert not said or asked.verdict in ("impossible", "nonsense"), "no colour is said"
            if asked.verdict == "absent" and asked.reference == NONE:
                seen["said of a shape that is not there"] += any(
                    shape not in shapes and noun in plain(asked.text).split() for shape in MOVABLE for noun in
                    synonyms().nouns(shape))
        for kind, thing in zip(batches.KIND_OF[f["shape"][0], f["colour"][0]].tolist(), scene.objects, strict=False):
            if thing.shape in MOVABLE:
                assert kind[0] == -1 and (kind[1] >= 0) == (not thing.plain) and (kind[2] >= 0) == thing.plain
        labeller = labeller_of(f)
        labeller.batch(rng, 1, 8, *pair)
        assert not len(labeller.clear)
    assert seen["named", "act"] > 50 and seen["said of a shape that is not there"] > 10


def test_no_question_is_about_a_scene_with_a_thing_that_has_no_whole_name(frames):
    colour = frames["colour"].copy()
    colour[1:, 0] = -1
    batch, _ = labeller_of(frames | {"colour": colour}).questions(np.random.default_rng(0), 20, 1)
    assert len(colour) > 1 and (batch.image.numpy() == frames["image"][0]).all()


def test_some_of_what_is_not_there_is_not_anywhere(views):
    rng, known = np.random.default_rng(0), known_words()
    said = [absent_words(rng, view.kinds)[0] for view in views for _ in range(20)]
    invented = [text for text in said if text.split()[-1] not in known]
    assert 0.1 < len(invented) / len(said) < 0.3
    assert any(len(text.split()) == 2 for text in invented) and any(len(text.split()) == 1 for text in invented)


def test_batches_depend_on_the_generator_alone(frames, pair):
    labeller = labeller_of(frames)
    a, b, c = (labeller.batch(np.random.default_rng(seed), 4, 2, *pair) for seed in (5, 5, 6))
    assert all(np.array_equal(value, getattr(b, name)) for name, value in vars(a).items())
    assert not np.array_equal(a.text, c.text)


def test_without_actions_a_batch_has_none(frames, pair):
    assert labeller_of(frames).batch(np.random.default_rng(1), 3, 2, pair[0], None).actions.shape == (3, 2, 0)


def test_statistics_span_what_has_to_be_said(pair):
    proprio, actions = pair
    assert (actions.low[3], actions.high[3]) == (0.0, 1.0), "the gripper is a fraction"
    assert actions.low[2] < -0.02 and actions.high[2] > 0.02, "lifting must be sayable in action tokens"
    assert proprio.low[2] < 0.08, "heights near the table must lie inside the normalised range"


def test_a_text_that_is_too_long_is_cut(frames):
    ids = labeller_of(frames)._encode([["touch " * 99, "stop"]])
    assert ids.shape == (1, 2, WORDS.length) and (ids[0, 0] != vocab.PAD).all() and (ids[0, 1] != vocab.PAD).sum() == 2


def test_answers_are_words_between_answer_and_end(frames):
    labeller, kinds = labeller_of(frames), Counter()
    for seed in range(6):
        batch, asked = labeller.questions(np.random.default_rng(seed), 8, 6)
        kinds.update(kind for row in asked for kind in row)
        for ids in batch.answer.flatten(0, 1).tolist():
            end = ids.index(vocab.END)
            assert ids[0] == vocab.ANSWER and all(i >= vocab.WORDS for i in ids[1:end]) and end > 1
            assert set(ids[end + 1:]) <= {vocab.PAD}
        assert all(WORDS.decode(ids) for ids in batch.text.flatten(0, 1))
    assert {"what", "where", "count", "colour", "is there"} <= set(kinds)


def test_every_answer_fits():
    from vla_ros.referring import whole_names
    from vla_ros.sim import questions
    from vla_ros.synonyms import synonyms
    said = [*(whole_names(kind)[0] for kind in synonyms().kinds()), *questions.PLACES, *questions.NUMBERS, "nothing"]
    assert max(len(WORDS.ids(answer)) for answer in said) + 2 <= 8


def test_the_families_of_a_robot_are_all_asked_for(views, only):
    only()
    assert {asked.family for _, asked in drawn(views)} == {n for n, task in TASKS.items() if task.robot == "panda"}
