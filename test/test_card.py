"""The card of a checkpoint says what its files say."""

import json
import re

import pytest
from model_samples import PANDA, TOKENIZER, tiny

from vla_ros import cli
from vla_ros.errors import ConfigError
from vla_ros.evaluation.identity import digest
from vla_ros.evaluation.rollout import Outcome
from vla_ros.evaluation.scores import report
from vla_ros.model.files import save_checkpoint
from vla_ros.profile import load_profile
from vla_ros.training.card import card, command, odd_facts, stage_table
from vla_ros.training.demos import UNLIKE
from vla_ros.training.pipeline import SETTINGS_FILE, load_settings

SEEN = {"retrieval": {"region_to_words@1": 0.5, "words_to_region@5": 0.875}, "look": {"found": 0.9, "median_px": 1.257},
        "verdict": {"act": 0.96, "absent": 0.8}}
MEASURES = {"corrections-2": SEEN, "look": SEEN, "act": SEEN | {"questions": {"count": 0.25, "all": 0.625}}}


def outcomes(conditions=("plain",), tasks=("reach", "stack", "drive")):
    return [Outcome(task, seed, "", seed > 0, "success" if seed else "time", 1.0, 0.0, "", condition)
            for condition in conditions for task in tasks for seed in range(4)]


@pytest.fixture
def checkpoint(tmp_path):
    """A folder and a function that writes the file of its scores."""
    def make(profile=PANDA, settings=None, measures=MEASURES, name="default", **more):
        folder = tmp_path / profile.name
        save_checkpoint(folder, tiny(profile), TOKENIZER)
        settings = settings or load_settings(name)
        (folder / SETTINGS_FILE).write_text(json.dumps(settings | {"measures": measures}))
        made = report(outcomes(**more), ["reach", "stack", "drive"], seeds=[0, 3], clock="paused",
                      checkpoint=f"husky@123456789abc, {profile.name}@{digest(folder)}")
        (tmp_path / "scores.json").write_text(json.dumps(made))
        return folder, tmp_path / "scores.json"
    return make


def rows(text: str, heading: str) -> list[list[str]]:
    """The cells of a heading's tables."""
    part = text.split(f"## {heading}\n")[1].split("\n## ")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines() if line[:1] == "|"]


def test_data_and_command(checkpoint):
    text, settings = card(*checkpoint()), load_settings("default")
    assert f"- {settings['demos']['stills']} still scenes in all" in text
    assert f"- {settings['demos']['episodes']} disturbed episodes a family" in text
    assert f"- {settings['corrections']['rounds']} round(s)" in text and "purple cube" in text
    assert "`vla train --config default`, random seed 0:" in text and "and an instruction or a question." in text
    assert "Families: reach, push, pick, place, next_to, stack, away, home, stop." in text and "drive" not in text


def test_odd_scenes_are_told_where_there_are_any():
    assert odd_facts(0) == ""
    said = odd_facts(8000)
    assert "8000 still scenes of things without whole names (seeds from 301000000)" in said
    assert "at 0.4 to 1.5 times its brightness" in said.replace("\n ", "") and f"least {UNLIKE} (RGB" in said


def test_the_command_says_what_it_began_with():
    assert command(load_settings("further") | {"base": "abc"}) == (
        "`vla train --config further --base CHECKPOINT` (`@abc`, see below)")
    assert command(load_settings("further")) == "`vla train --config further`"


def test_stages_and_their_steps(checkpoint):
    settings = load_settings("default")
    found = {row[0]: row[1] for row in rows(card(*checkpoint()), "Training")[2:]}
    assert found == {name: str(settings[name]["steps"]) for name in ("motor", "look", "align", "act")} | {
        "corrections": f"{settings['corrections']['rounds']} x {settings['corrections']['steps']}"}


def test_each_way_that_a_stage_is_gone_through_in_is_told():
    found = [line.split(" | ")[:3] for line in stage_table(load_settings("again")).splitlines()[2:]]
    assert found[-2:] == [["| polish", "4000", "768"], ["| polish", "2600", "1728"]]
    assert found[-3] == ["| corrections", "1 x 900", "768"]


def test_measures_of_each_stage(checkpoint):
    head, _, *body = rows(card(*checkpoint()), "Measures")
    assert head == ["measure", "look", "act", "corrections-2"]
    found = {name: cells for name, *cells in body}
    assert found["retrieval, region to words@1"] == ["50.0 %"] * 3 and found["look, median px"] == ["1.26"] * 3
    assert found["verdict 'absent'"] == ["80.0 %"] * 3 and found["questions, count"] == ["-", "25.0 %", "-"]


def test_scores_of_the_robots_own_families(checkpoint):
    found = rows(card(*checkpoint()), "Scores")
    assert [row[:3] for row in found[2:]] == [["reach", "4", "75.0 %"], ["stack", "4", "75.0 %"]]
    assert re.fullmatch(r"30\.\d % to 95\.\d %", found[2][3])


def test_conditions_count_the_robots_own_episodes(checkpoint):
    text = card(*checkpoint(conditions=("plain", "camera", "absent")))
    found = {row[0]: row[2:] for row in rows(text, "Scores") if len(row) == 5}
    assert found["camera"] == found["plain"] and found["plain"][:2] == ["8", "75.0 %"]
    assert "the object named is not there: right is to refuse" in text
    assert not [row for row in rows(card(*checkpoint()), "Scores") if len(row) == 5]


def test_a_robot_that_answers_no_questions(checkpoint):
    text = card(*checkpoint(load_profile("husky"), name="husky"))
    assert "`vla train --config husky`" in text and "It was not trained to answer questions" in text
    assert [row[0] for row in rows(text, "Training")[2:]] == ["motor", "look", "act", "corrections"]
    assert [row[0] for row in rows(text, "Scores")[2:]] == ["drive"]


def test_a_recipe_that_does_not_ship_is_not_called_by_a_name(checkpoint):
    assert "--config FILE" in card(*checkpoint(settings=load_settings("default") | {"seed": 7}))


def test_scores_of_another_checkpoint_or_none_are_an_error(checkpoint):
    folder, scores = checkpoint()
    (folder / "README.md").write_text(card(folder, scores))
    card(folder, scores)  # the card itself changes nothing
    (folder / "tokenizer_config.json").write_text("{}")
    with pytest.raises(ConfigError, match="holds the scores of husky@.*evaluate it"):
        card(folder, scores)
    scores.unlink()
    with pytest.raises(ConfigError, match="no .*scores.json"):
        card(folder, scores)


def test_the_command_writes_it(checkpoint):
    folder, scores = checkpoint()
    assert cli.main(["card", str(folder), "--scores", str(scores)]) == 0
    assert (folder / "README.md").read_text() == card(folder, scores)


def test_notes_of_the_training_are_part_of_the_card(checkpoint):
    folder, scores = checkpoint()
    without = card(folder, scores)
    (folder / "notes.md").write_text("Resumed once.\n")
    assert "Resumed once." in card(folder, scores) and "Resumed once." not in without
