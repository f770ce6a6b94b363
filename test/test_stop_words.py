"""Which instructions stop the robot without a model, and which must not."""

import pytest

from vla_ros.errors import ConfigError
from vla_ros.stop_words import StopWords
from vla_ros.words import HELD_OUT, POLITE, TRAIN, load_refused, load_wordings

STOPS = StopWords.load()
MAX_WORDS = 1000  # characters of an instruction, as in nodes/convert.py
FILLED = (("red cube", "tray", "to the left"), ("cube behind the plate", "black can", "on top of"))


@pytest.mark.parametrize("file", [TRAIN, HELD_OUT])
def test_every_wording_of_family_stop_means_it_and_no_other(file):
    for family, templates in load_wordings(file).items():
        for text in (t.format(o=o, r=r, d=d) for t in templates for o, r, d in FILLED):
            assert STOPS.mean(text) == (family == "stop"), f"{family}: {text}"


@pytest.mark.parametrize("form", POLITE)
def test_courtesies_do_not_matter(form):
    for text in load_wordings(TRAIN)["stop"]:
        assert STOPS.mean(form.format(text.rstrip(" .!?"))), text


@pytest.mark.parametrize("text", [
    "Stop", "STOP!!!", " stop . ", "s t o p", "stop stop stop", "Stop now! Stop now!", "stoooop",
    "hey robot, STOP moving right now, please", "Don\u2019t move!", "no, no, stop", "freezing"])
def test_case_punctuation_and_repetition_do_not_matter(text):
    assert STOPS.mean(text)


@pytest.mark.parametrize("text", [
    "", " ", "don't stop", "do not stop", "never halt", "you must not stop", "stop at the red cube",
    "touch the red cube and stop", "stop, then push the ball", "go on", "please", "move", "wait for the ball",
    "hold the red cube", "keep moving", "cancel the red one"])
def test_what_says_more_or_something_else_is_left_to_the_model(text):
    assert not STOPS.mean(text)


def test_nonsense_and_the_impossible_are_left_to_the_model():
    for parts in load_refused().values():
        for template in (t for templates in parts.values() for t in templates):
            assert not STOPS.mean(template.format(o="red cube", r="tray")), template


@pytest.mark.parametrize("part", ["please ", "stop now ", "can you could you ", "the arm should ", "do not move any "])
def test_the_longest_instruction_is_read_to_its_end(part):
    """Repetitions that a careless expression would try in every combination, for ever."""
    assert not STOPS.mean((part * 1000)[:MAX_WORDS - 5] + " ball")


def written(tmp_path, text):
    file = tmp_path / "own.yaml"
    file.write_text(text)
    return file


def test_a_user_extends_it_or_switches_it_off(tmp_path):
    own = StopWords.load(written(tmp_path, """
around: [bitte]
words: {hand: [arm, hand]}
phrases: [halt an, 'halte ... <hand>']
"""))
    assert own.mean("Halt an, bitte!") and own.mean("halte bitte den Arm") and not own.mean("stop")
    assert not StopWords.load("none").mean("stop")


@pytest.mark.parametrize("text, message", [
    ("around: [please]\nwords: {}\nphrases: []", "at least one; 'none'"),
    ("around: []\nwords: {}\nphrases: [stop]", "around"),
    ("around: [please]\nwords: {}\nphrases: [stop <them>]", "them"),
    ("around: [please]\nwords: {}\nphrases: ['re:(']", "regular expression"),
    ("around: [please]\nwords: {}\nphrases: [don't move]", "letters and digits"),
    ("around: [please]\nwords: {}\nphrase: [stop]", "did you mean 'phrases'"),
    ("around: [no]\nwords: {}\nphrases: [stop]", "must be str")])
def test_a_file_that_cannot_be_used_is_an_error_that_says_where(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message) as error:
        StopWords.load(written(tmp_path, text))
    assert "own.yaml" in str(error.value)
