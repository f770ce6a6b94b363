"""Words find the task whose wording they are, and a layout with what they name."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros import words
from vla_ros.errors import UnknownNameError
from vla_ros.evaluation.wanted import KEYS, REFERENCES, Wanted, find_seed, goal_in, understand
from vla_ros.sim.tasks import TASKS, get_task
from vla_ros.sim.tasks.held_out import HELD_OUT_PAIRS
from vla_ros.sim.world import CONTAINERS, MOVABLE, OBJECT_COLOURS

TABLES = {file: words.load_wordings(file) for file in (words.TRAIN, words.HELD_OUT)}


def drawn(rng: np.random.Generator, shapes) -> tuple[str, str]:
    shape = str(rng.choice(shapes))
    return shape, "" if shape in CONTAINERS else str(rng.choice(OBJECT_COLOURS))


@given(st.sampled_from(sorted(TASKS)), st.sampled_from(list(TABLES)), st.integers(0, 2**32))
def test_every_shipped_wording_of_every_name_is_understood(task, file, seed):
    rng = np.random.default_rng(seed)
    target = drawn(rng, MOVABLE) if task not in ("home", "stop") else None
    reference = drawn(rng, REFERENCES[task]) if task in REFERENCES else None
    if reference == target is not None:
        return
    key = str(rng.choice(KEYS.get(task, ("",))))
    named = [words.object_words(*kind, rng) if kind else "" for kind in (target, reference)]
    text = words.instruction(task, rng, *named, key, TABLES[file])
    assert understand(text, [task]) == Wanted(task, target, reference, key), text


@pytest.mark.parametrize("text", ["Push the blue cube  to the left.", "PUSH THE BLUE CUBE LEFT!",
                                  "push the royal blue box leftwards"])
def test_case_spaces_punctuation_and_synonyms_do_not_matter(text):
    assert understand(text) == Wanted("push", ("cube", "blue"), None, "left")


@pytest.mark.parametrize("text", ["", "fly to the moon", "push the blue cube", "touch the mauve cube",
                                  "touch the red cube and run", "put the tray on the plate", "touch the tray",
                                  "build a stack from the red cone and the blue cube, the green cube at the bottom",
                                  "stack the red cube on top of the blue ball", "put the red cube on the red cube"])
def test_what_no_task_says_or_does_is_not_understood(text):
    assert understand(text) is None


def test_words_of_two_tasks_belong_to_the_one_that_was_asked_for():
    assert understand("go to the red cylinder").task == "reach"
    assert understand("go to the red cylinder", ["drive"]).task == "drive"


@pytest.mark.parametrize("text, wanted", [
    ("put the red cube on the plate", Wanted("place", ("cube", "red"), ("plate", ""), "in")),
    ("put the red cube on the tray", Wanted("place", ("cube", "red"), ("tray", ""), "in")),
    ("put the red cube on the blue box", Wanted("stack", ("cube", "red"), ("cube", "blue"), "on top of")),
    ("put the red cube beside the blue box", Wanted("next_to", ("cube", "red"), ("cube", "blue"), "next to")),
    ("the plate is where the pink cone goes", Wanted("place", ("cone", "pink"), ("plate", ""), "in"))])
def test_relation_and_reference_decide_between_families(text, wanted):
    assert understand(text) == wanted


@pytest.mark.parametrize("text", ["tap the green cube", "shove the red cylinder backwards", "lift the blue cube",
                                  "put the black ball in the tray", "put the red cone onto the green can",
                                  "set the black ball down to the right of the black cube", "stop",
                                  "drive to the blue cube"])
def test_the_layout_has_the_goal_that_was_named(text):
    wanted = understand(text)
    task = get_task(wanted.task)
    seed = find_seed(task, wanted, 0)
    scene = task.layout(np.random.default_rng(seed))
    assert wanted.fits(scene) and not replace(wanted, target=("ball", "mauve")).fits(scene)
    assert (scene.relation or scene.direction) == wanted.key
    for index, kind in ((scene.target, wanted.target), (scene.reference, wanted.reference)):
        if kind:
            assert scene.objects[index].words == " ".join(filter(None, (kind[1], kind[0])))
    assert find_seed(task, wanted, seed + 1) > seed or wanted.target is None


def test_no_layout_shows_what_is_held_out(monkeypatch):
    monkeypatch.setattr("vla_ros.sim.tasks.pick.Pick.layout", lambda *_: pytest.fail("none needs to be looked at"))
    assert find_seed(get_task("pick"), Wanted("pick", HELD_OUT_PAIRS[0]), 0) is None


def test_a_plan_for_words_that_nobody_knows_still_asks_the_model(capsys):
    from vla_ros.commands.demo import make_plan
    plan = make_plan("fly to the moon", None, 0)
    assert (plan.task, plan.said, plan.judged) == ("pick", "fly to the moon", False)
    assert "nothing can judge" in capsys.readouterr().out
    known = make_plan("touch the red cube", None, 0)
    assert (known.task, known.judged) == ("reach", True)
    with pytest.raises(UnknownNameError, match="did you mean 'drive'"):
        make_plan("", "driv", 0)


def test_a_plan_without_words_is_a_layout_of_pick_and_says_what_that_says():
    from vla_ros.commands.demo import SEED, make_plan
    plan = make_plan("", None, SEED)
    assert (plan.task, plan.seed, plan.said, plan.judged) == ("pick", SEED, "", True)


TABLE = TASKS["reach"].layout(np.random.default_rng(0))  # with one cube, one cylinder, one ball and two cones
PLACES = np.array([thing.position[:2] for thing in TABLE.objects])
ARM = [name for name, task in TASKS.items() if task.robot == "panda"]


def goal(text, positions=PLACES):
    found = goal_in(text, TABLE, positions, ARM)
    if found is None:
        return None
    task, scene = found
    name = {i: thing.words for i, thing in enumerate(TABLE.objects)} | {-1: ""}
    assert scene.instruction == text and scene.objects == TABLE.objects
    return task, name[scene.target], name[scene.reference], scene.direction or scene.relation


@pytest.mark.parametrize("text, wanted", [
    ("touch the purple ball", ("reach", "purple ball", "", "")),
    ("Tap the ball!", ("reach", "purple ball", "", "")),
    ("touch the leftmost object", ("reach", "red cylinder", "", "")),
    ("pick up the cone nearest to you", ("pick", "orange cone", "", "")),
    ("push the pink one to the left", ("push", "pink cube", "", "left")),
    ("put the ball in the tray", ("place", "purple ball", "tray", "in")),
    ("put the red cylinder next to the cube", ("next_to", "red cylinder", "pink cube", "next to")),
    ("go home", ("home", "", "", ""))])
def test_words_for_what_is_there_set_the_scenes_goal(text, wanted):
    assert goal(text) == wanted


@pytest.mark.parametrize("text", ["", "touch the green cube", "touch the cone", "put the ball on the plate",
                                  "push the ball", "touch the tray", "sing a song"])
def test_words_for_what_is_not_there_set_none(text):
    assert goal(text) is None


def test_where_things_are_means_where_they_are_now_and_nothing_to_a_robot_that_goes_about():
    moved = PLACES.copy()
    moved[5] = (0.5, 0.3)
    assert goal("touch the leftmost object", moved) == ("reach", "purple ball", "", "")
    assert goal("touch the leftmost object", PLACES[:0]) is None
    assert goal("touch the ball", PLACES[:0]) == ("reach", "purple ball", "", "")
