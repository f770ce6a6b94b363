"""Words find the task whose wording they are, and a layout with what they name."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.errors import UnknownNameError
from vla_ros.evaluation.wanted import Wanted, find_seed, understand
from vla_ros.sim.tasks import TASKS, get_task
from vla_ros.sim.tasks.wordings import DIRECTIONS, TEMPLATES
from vla_ros.sim.world import COLOURS, SHAPES


@given(st.sampled_from(sorted(TASKS)), st.sampled_from(sorted(COLOURS)), st.sampled_from(SHAPES),
       st.sampled_from(sorted(DIRECTIONS)), st.randoms())
def test_every_wording_is_understood(task, colour, shape, direction, random):
    template = random.choice(TEMPLATES[task])
    text = template.format(o=f"{colour} {shape}", d=random.choice(DIRECTIONS[direction]))
    assert understand(text, [task]) == Wanted(task, colour, shape, direction if "{d}" in template else "")


@pytest.mark.parametrize("text", ["Push the blue cube  to the left.", "PUSH THE BLUE CUBE LEFT!",
                                  "push the blue cube left"])
def test_case_spaces_and_full_stops_do_not_matter(text):
    assert understand(text) == Wanted("push", "blue", "cube", "left")


@pytest.mark.parametrize("text", ["", "fly to the moon", "push the blue cube", "touch the pink cube",
                                  "touch the red cube and run"])
def test_what_no_task_says_is_not_understood(text):
    assert understand(text) is None


def test_words_of_two_tasks_belong_to_the_one_that_was_asked_for():
    assert understand("go to the red cylinder").task == "reach"
    assert understand("go to the red cylinder", ["drive"]).task == "drive"


@pytest.mark.parametrize("text", ["tap the green ball", "shove the red cylinder backwards", "lift the blue cube"])
def test_the_layout_has_the_goal_that_was_named(text):
    wanted = understand(text)
    seed = find_seed(get_task(wanted.task), wanted, 0)
    scene = get_task(wanted.task).layout(np.random.default_rng(seed))
    target = scene.objects[scene.target]
    assert (target.colour, target.shape, scene.direction) == (wanted.colour, wanted.shape, wanted.direction)
    later = find_seed(get_task(wanted.task), wanted, seed + 1)
    assert later > seed


def test_a_plan_for_words_that_nobody_knows_still_asks_the_model(capsys):
    from vla_ros.commands.demo import make_plan
    plan = make_plan("fly to the moon", None, 0)
    assert plan.said == "fly to the moon" and not plan.judged and "nothing can judge" in capsys.readouterr().out
    known = make_plan("touch the red cube", None, 0)
    assert (known.task, known.judged) == ("reach", True)
    with pytest.raises(UnknownNameError, match="did you mean 'drive'"):
        make_plan("", "driv", 0)
