"""Wordings, what fills them in, and phrases that name one object."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros import words
from vla_ros.errors import ConfigError, UnknownNameError
from vla_ros.referring import MARGIN
from vla_ros.synonyms import synonyms

TRAIN, HELD_OUT = words.load_wordings(words.TRAIN), words.load_wordings(words.HELD_OUT)
REFUSED = words.load_refused()
DIRECTIONS = {"push": ("left", "right", "forward", "back"), "place": ("in",), "stack": ("on top of",),
              "next_to": ("next to", "left of", "right of", "in front of", "behind")}
SEEDS = st.integers(0, 2**32 - 1)


def generator(seed=0):
    return np.random.default_rng(seed)


def said(family, rng, templates=None):
    d = DIRECTIONS.get(family, ("",))
    r = {"place": "tray", "next_to": "blue ball", "stack": "blue cube"}.get(family, "")
    return words.instruction(family, rng, "red cube", r, d[rng.integers(len(d))], templates)


# --- the corpus ---------------------------------------------------------------------------------------------------


def test_the_corpus_is_large_and_some_of_it_is_held_out():
    train, held = ({words.plain(t) for group in table.values() for t in group} for table in (TRAIN, HELD_OUT))
    assert len(train | held) >= 1500 and not train & held
    assert len(held) > 350
    assert set(TRAIN) == set(HELD_OUT) == set(words.FAMILIES)


@pytest.mark.parametrize("family", words.FAMILIES)
def test_every_family_has_many_wordings(family):
    assert len(TRAIN[family]) + len(HELD_OUT[family]) >= 150 and len(HELD_OUT[family]) >= 35


def test_wordings_of_different_families_are_told_apart():
    shared = {frozenset(("place", "next_to")), frozenset(("place", "stack")), frozenset(("next_to", "stack")),
              frozenset(("reach", "drive"))}  # by what the object goes to; by the robot
    every = [(f, words.plain(t)) for table in (TRAIN, HELD_OUT) for f, group in table.items() for t in group]
    for family, text in every:
        others = {other for other, same in every if same == text} - {family}
        assert all(frozenset((family, other)) in shared for other in others), text


@pytest.mark.parametrize("kind, count, apart", [("impossible", 800, 60), ("nonsense", 450, 45)])
def test_refused_texts_are_many_held_out_and_no_instructions(kind, count, apart):
    train, held = ({words.plain(t) or t for t in REFUSED[kind][part]} for part in ("train", "held_out"))
    assert len(train | held) >= count and not train & held and len(held) >= apart
    assert not (train | held) & {words.plain(t) for table in (TRAIN, HELD_OUT) for g in table.values() for t in g}


def test_wordings_for_later_are_valid_and_none_of_those_that_there_are():
    later = words.load_wordings(words.FOLDER / "next_train.yaml")
    assert not {words.plain(t) for g in later.values() for t in g} & {
        words.plain(t) for table in (TRAIN, HELD_OUT) for g in table.values() for t in g}


# --- strict reading -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text, message", [
    ("reech: ['touch the {o}']", "reach"), ("reach: [touch it]", "must hold {o}"),
    ("reach: ['touch {o} {d}']", "may hold {o}"), ("home: ['go to {o}']", "nothing"),
    ("push: ['push the {o}']", "{o} {d}"), ("reach: ['touch {o']", "expected"),
    ("reach: ['touch {o!r}']", "placeholders"), ("reach: ['touch {o:>9}']", "placeholders"),
    ("reach: ['touch {}']", "placeholders"), ("reach: []", "no templates"), ("reach: touch", "list"),
    ("reach: ['tap the {o}', 'Tap, the {o}!']", "twice"), ("- a", "mapping"), ("reach: [", "YAML")])
def test_a_file_of_wordings_that_is_wrong_is_an_error_that_says_where(tmp_path, text, message):
    file = tmp_path / "own.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match="own.yaml") as error:
        words.load_wordings(file)
    assert message in str(error.value)


@pytest.mark.parametrize("text, message", [
    ("silly: {train: [a], held_out: [b]}", "impossible"), ("nonsense: {train: [a]}", "held_out"),
    ("nonsense: {train: ['{d}'], held_out: [b]}", "may hold")])
def test_a_file_of_refused_texts_is_read_as_strictly(tmp_path, text, message):
    file = tmp_path / "own.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        words.load_refused(file)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match="none.yaml"):
        words.load_wordings(tmp_path / "none.yaml")


# --- instructions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", words.FAMILIES)
@pytest.mark.parametrize("templates", [None, HELD_OUT])
def test_an_instruction_is_a_filled_in_wording(family, templates):
    rng = generator()
    for _ in range(100):
        text = said(family, rng, templates)
        assert "{" not in text and "  " not in text and text == text.strip()
        assert family in ("home", "stop") or "red cube" in text
        assert family not in ("place", "next_to", "stack") or {"tray", "ball", "cube"} & set(words.plain(text).split())


def test_directions_come_as_synonyms_and_the_seed_decides():
    texts = {words.instruction("push", generator(i), "red cube", d="left", templates={"push": ("{o} {d}",)})
             for i in range(60)}
    assert texts == {f"red cube {d}" for d in synonyms().directions["left"]}
    assert said("stack", generator(3)) == said("stack", generator(3))


@pytest.mark.parametrize("reference, allowed", [
    ("tray", {"in", "into", "inside"}), ("tray near the plate", {"in", "into", "inside"}), ("plate", {"on", "onto"}),
    ("dish", {"on", "onto"})])
def test_things_go_into_trays_and_onto_plates(reference, allowed):
    rng = generator()
    texts = {words.instruction("place", rng, "cube", reference, "in", {"place": ("{d}|{o}{r}",)}) for _ in range(60)}
    assert {text.split("|")[0] for text in texts} == allowed


def test_what_is_missing_or_unknown_is_an_error_with_the_choices():
    with pytest.raises(ConfigError, match="needs o, d"):
        words.instruction("push", generator())
    with pytest.raises(UnknownNameError, match="left"):
        words.instruction("push", generator(), "cube", d="lefft")
    with pytest.raises(UnknownNameError, match="reach"):
        words.instruction("reech", generator())
    with pytest.raises(UnknownNameError, match="cube"):
        words.object_words("cuube", "red", generator())
    with pytest.raises(UnknownNameError, match="red"):
        words.object_words("cube", "redd", generator())
    with pytest.raises(UnknownNameError, match="nonsense"):
        words.refused_instruction("silly", generator())


def test_object_words_are_canonical_half_of_the_time():
    rng = generator()
    texts = [words.object_words("cube", "red", rng) for _ in range(600)]
    assert set(texts) == {f"{c} {n}" for c in ("red", "crimson", "scarlet") for n in ("cube", "block", "box")}
    assert 0.35 < texts.count("red cube") / 600 < 0.6
    assert {words.object_words("plate", "white", rng) for _ in range(30)} == {"plate", "dish"}


@pytest.mark.parametrize("kind", words.KINDS)
def test_refused_instructions(kind):
    rng = generator()
    texts = {words.refused_instruction(kind, rng) for _ in range(300)}
    assert len(texts) > (5 if kind == "empty" else 80) and not any("{" in text for text in texts)
    assert all(not words.plain(text) for text in texts) == (kind == "empty")
    if kind != "empty":
        own = {kind: ("paint the {o}",)}
        assert words.refused_instruction(kind, rng, own).startswith("paint the ")


# --- perturbations ------------------------------------------------------------------------------------------------


def edits(a: str, b: str) -> int:
    """Length of what differs between two words, beyond what they share at both ends."""
    while a and b and a[0] == b[0]:
        a, b = a[1:], b[1:]
    while a and b and a[-1] == b[-1]:
        a, b = a[:-1], b[:-1]
    return max(len(a), len(b))


@given(SEEDS, st.sampled_from(list(words.FAMILIES)))
def test_perturbations_leave_short_words_alone_and_long_ones_nearly(seed, family):
    rng = generator(seed)
    text = said(family, rng)
    before, after = words.plain(text).split(), words.plain(words.perturb(text, rng)).split()
    for word in before:
        if word not in ("the", "a", "an"):
            assert word in after or len(word) >= 5 and any(edits(word, other) <= 2 for other in after), (text, after)


@given(SEEDS)
def test_a_typo_never_makes_another_word(seed):
    for word in ("black", "block", "touch", "leftwards", "cylinder"):
        wrong = words.typo(word, generator(seed))
        assert wrong == word or wrong not in words.known_words()


def test_perturbations_are_various_and_often_none():
    rng = generator()
    texts = [words.perturb("push the red cylinder to the left", rng) for _ in range(400)]
    assert len(set(texts)) > 100 and texts.count("push the red cylinder to the left") > 50
    assert any("please" in t for t in texts) and any(t.isupper() for t in texts) and any("the" not in t for t in texts)
    assert any("cylinder" not in t.lower() for t in texts)
    assert words.perturb("", rng) == ""


# --- referring ----------------------------------------------------------------------------------------------------

KIND = st.tuples(st.sampled_from(list(synonyms().shapes)), st.sampled_from(list(synonyms().colours)))


def phrases(kinds, positions, index, count=300, **options):
    rng = generator()
    return {words.refer(rng, kinds, np.array(positions), index, **options) for _ in range(count)}


ENDS = {"leftmost": (1, 1), "rightmost": (1, -1), "nearest": (0, -1), "farthest": (0, 1)}  # axis, sign


def fits(words_of_it: str, kind) -> bool:
    """Whether the plain phrase 'crimson block', 'red one' or 'cube' can mean a kind."""
    shape, colour = kind
    nouns, colours = synonyms().nouns(shape), synonyms().colours[colour]
    return words_of_it in {f"{c} {n}" for c in colours for n in (*nouns, "one", "thing", "object")} | set(nouns)


@given(st.lists(KIND, min_size=1, max_size=5, unique=True), SEEDS)
def test_a_kind_is_named_so_that_no_other_is(kinds, seed):
    index = seed % len(kinds)
    text = words.refer(generator(seed), kinds, np.zeros((len(kinds), 2)), index)
    assert [fits(text, kind) for kind in kinds] == [i == index for i in range(len(kinds))]


@given(st.lists(KIND, min_size=2, max_size=5, unique=True), SEEDS)
def test_extremes_are_true_by_a_margin(kinds, seed):
    rng = generator(seed)
    positions, index = rng.uniform(-0.2, 0.2, (len(kinds), 2)), seed % len(kinds)
    for text in (words.refer(rng, kinds, positions, index) for _ in range(20)):
        end, _, noun = text.partition(" ")
        if end in ENDS and " the " not in text:
            axis, sign = ENDS[end]
            same = [i for i, kind in enumerate(kinds) if noun in ("object", "thing") or fits(noun, kind)]
            rivals = [sign * positions[i, axis] for i in same if i != index]
            assert index in same and rivals and sign * positions[index, axis] - max(rivals) >= MARGIN


def test_half_of_the_phrases_are_canonical_and_lone_kinds_go_by_less():
    kinds = [("cube", "red"), ("ball", "red"), ("ball", "blue")]
    rng = generator()
    texts = [words.refer(rng, kinds, np.zeros((3, 2)), 0) for _ in range(600)]
    assert 0.45 < texts.count("red cube") / 600 < 0.65
    assert {"cube", "block", "crimson cube"} <= set(texts) and "red one" not in texts
    assert "blue one" in phrases(kinds, np.zeros((3, 2)), 2)


def test_places_are_the_robots_own():
    kinds = [("cube", "red"), ("cube", "blue"), ("cube", "green")]
    left = phrases(kinds, [[0.5, 0.1], [0.4, 0.0], [0.6, -0.1]], 0)
    assert {"leftmost cube", "cube on the far left"} <= left and not any("right" in t or "near" in t for t in left)
    near = phrases(kinds, [[0.5, 0.1], [0.4, 0.0], [0.6, -0.1]], 1)
    assert {"nearest cube", "closest cube", "cube nearest to you"} <= near and not any("left" in t for t in near)
    far = phrases(kinds, [[0.5, 0.1], [0.4, 0.0], [0.6, -0.1]], 2, count=1500)
    assert {"farthest cube", "rightmost block"} <= far


def test_what_is_not_clear_is_not_said():
    kinds = [("cube", "red"), ("cube", "blue")]
    close = phrases(kinds, [[0.5, 0.03], [0.5, 0.0]], 0)
    assert close == {f"{c} {n}" for c in ("red", "crimson", "scarlet")
                     for n in ("cube", "block", "box", "one", "thing", "object")}
    assert phrases(kinds, [[0.5, 0.1], [0.5, 0.0]], 0, spatial=False) == close


def test_relations_to_other_objects():
    kinds = [("cube", "red"), ("cube", "blue"), ("ball", "red"), ("tray", "grey")]
    texts = phrases(kinds, [[0.6, 0.1], [0.4, -0.1], [0.5, 0.1], [0.4, -0.22]], 0, count=1500)
    assert "cube behind the red ball" in texts and not any("in front of the red ball" in t for t in texts)
    assert "cube near the tray" in phrases(kinds, [[0.6, 0.1], [0.4, -0.1], [0.5, 0.1], [0.4, -0.22]], 1, count=1500)
    assert not any("tray" in t and "near" in t for t in texts)


def test_a_relation_that_two_have_names_neither():
    kinds, behind = [("cube", "red"), ("cube", "blue"), ("ball", "green")], [[0.6, 0.0], [0.62, 0.05], [0.5, 0.0]]
    assert not any(" the green ball" in text for text in phrases(kinds, behind, 0, count=1500))
    alone = phrases(kinds, [[0.6, 0.0], [0.42, 0.05], [0.5, 0.0]], 0, count=1500)
    assert "cube behind the green ball" in alone


def test_containers_go_by_their_names_alone_and_twins_by_their_places():
    assert phrases([("tray", "grey"), ("cube", "red")], [[0.5, 0.1], [0.5, 0.0]], 0) == {"tray"}
    twins = [("cube", "red"), ("cube", "red")]
    assert not any(t == "red cube" for t in phrases(twins, [[0.5, 0.1], [0.5, 0.0]], 0))
    with pytest.raises(ConfigError, match="sets the red cube apart"):
        words.refer(generator(), twins, np.zeros((2, 2)), 0)
