"""Questions about hand-made scenes, whose answers are known."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.sim import questions
from vla_ros.sim.questions import PLACES, ask, place_of, templates
from vla_ros.sim.tasks.layout import TABLE_BOX
from vla_ros.synonyms import synonyms

KINDS = [("cube", "red"), ("cube", "blue"), ("ball", "orange"), ("tray", "grey"), ("plate", "white")]
PLACED = np.array([[0.40, 0.12], [0.62, -0.13], [0.60, 0.12], [0.61, 0.13], [0.44, -0.08]])  # the ball is in the tray
REACHABLE = np.array([True, False, True, True, True])


def asked(kinds=KINDS, positions=PLACED, reachable=None, count=3000):
    rng = np.random.default_rng(0)
    return [ask(rng, kinds, positions, reachable) for _ in range(count)]


ASKED = asked(reachable=REACHABLE, count=8000)


def answers(*parts: str, among=ASKED) -> set[str]:
    """Of the questions that hold all the parts."""
    return {q.answer for q in among if all(part in q.question for part in parts)}


def test_every_kind_is_asked_in_many_wordings():
    assert {q.kind for q in ASKED} == {"what", "where", "count", "colour", "is there", "reach"}
    assert min(Counter(q.kind for q in ASKED).values()) > 200
    assert all(len(set(group)) >= 10 for group in templates().values())
    assert not any("{" in q.question for q in ASKED)


@pytest.mark.parametrize("parts, answer", [
    (("in the tray",), "orange ball"), (("inside the tray",), "orange ball"), (("on the plate",), "nothing"),
    (("where is the red cube",), "near left"), (("where is the blue cube",), "far right"),
    (("where is the tray",), "far left"), (("how many cubes are there",), "two"), (("how many balls do",), "one"),
    (("how many cones",), "zero"), (("how many red cubes",), "one"), (("how many green",), "zero"),
    (("colour is the ball",), "orange"), (("colour", "leftmost cube"), "red"), (("is there a red cube",), "yes"),
    (("is there an orange ball",), "yes"), (("is there a blue ball",), "no"), (("is there a tray",), "yes"),
    (("reach the blue cube",), "no"), (("reach the red cube",), "yes"), (("nearest to the orange ball",), "tray"),
    (("what is in front of the red cube",), "nothing"), (("to the right of the blue cube",), "nothing")])
def test_answers_are_true(parts, answer):
    assert answers(*parts) == {answer}


def test_a_relation_that_two_objects_have_is_not_asked():
    kinds, row = [("cube", "red"), ("ball", "blue"), ("cone", "pink")], [[0.5, 0.12], [0.5, 0.0], [0.5, -0.12]]
    found = asked(kinds, row)
    assert answers("to the left of the pink cone", among=found) == set()
    assert answers("to the left of the blue ball", among=found) == {"red cube"}
    assert answers("to the left of the red cube", among=found) == {"nothing"}


def test_what_is_not_clear_is_not_asked():
    kinds = [("cube", "red"), ("ball", "blue")]
    close = asked(kinds, [[0.50, 0.015], [0.50, 0.0]])
    assert not any("left of the" in q.question or "right of the" in q.question for q in close)
    half = asked([("tray", "grey"), ("ball", "blue")], [[0.50, 0.0], [0.50, 0.07]])
    assert not answers("in the tray", among=half) | answers("inside the tray", among=half)
    twins = asked([("cube", "red"), ("cube", "red")], [[0.5, 0.1], [0.5, -0.1]])
    assert not any(q.kind == "where" for q in twins) and answers("how many red cubes", among=twins) == {"two"}


def test_no_colour_is_asked_that_the_question_tells():
    kinds = [("cube", "red"), ("ball", "red"), ("cube", "blue"), ("cone", "red")]
    found = [q for q in asked(kinds, [[0.4, 0.1], [0.5, 0.0], [0.6, -0.1], [0.4, -0.1]]) if q.kind == "colour"]
    told = [q for q in found for word in synonyms().colours[q.answer] if f" {word} " in q.question]
    assert len(found) > 100 and not told


def test_places_are_thirds_of_the_table_with_margins():
    low, high = np.array(TABLE_BOX)
    middle = (low + high) / 2
    assert place_of(middle) == "middle" and place_of(low) == "near right" and place_of(high) == "far left"
    assert place_of(np.array([low[0], high[1]])) == "near left" and place_of(low + (high - low) / 3) == ""
    assert len(set(PLACES)) == 9


def test_yes_and_no_are_balanced():
    for kind in ("is there", "reach"):
        counted = Counter(q.answer for q in ASKED if q.kind == kind)
        assert 0.4 < counted["yes"] / (counted["yes"] + counted["no"]) < 0.65
    counts = Counter(q.answer for q in ASKED if q.kind == "count")
    assert set(counts) == {"zero", "one", "two"} and max(counts.values()) < 1.5 * min(counts.values())


def test_what_is_counted_is_told_and_none_of_it_is_not_there():
    for question in ASKED:
        if question.kind == "count":
            assert questions.NUMBERS[len(question.counted)] == question.answer
            assert question.absent == (question.answer == "zero")
        else:
            assert question.counted == ()


def test_without_knowledge_of_reach_it_is_not_asked():
    assert not any(q.kind == "reach" for q in asked(count=500))


@given(st.lists(st.tuples(st.sampled_from(list(synonyms().shapes)), st.sampled_from(list(synonyms().colours))),
                max_size=6), st.integers(0, 2**32 - 1))
def test_any_scene_can_be_asked_about_and_answers_are_from_closed_sets(kinds, seed):
    rng = np.random.default_rng(seed)
    positions = rng.uniform(*TABLE_BOX, (len(kinds), 2))
    names = {f"{c} {s}" for s in synonyms().shapes for c in synonyms().colours}
    allowed = {"what": names | {"nothing"}, "where": set(PLACES), "count": set(questions.NUMBERS),
               "colour": set(synonyms().colours), "is there": {"yes", "no"}, "reach": {"yes", "no"}}
    question = ask(rng, kinds, positions, rng.random(len(kinds)) < 0.5)
    assert question.answer in allowed[question.kind]


@given(st.lists(st.tuples(st.sampled_from(list(synonyms().shapes)), st.sampled_from(list(synonyms().colours))),
                min_size=1, max_size=5, unique=True), st.integers(0, 2**32 - 1))
def test_the_same_seed_asks_the_same(kinds, seed):
    positions = np.random.default_rng(seed).uniform(*TABLE_BOX, (len(kinds), 2))
    first, second = (ask(np.random.default_rng(seed), kinds, positions) for _ in range(2))
    assert first == second
