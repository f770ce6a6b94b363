"""Instructions of several parts."""

from __future__ import annotations

import numpy as np
import pytest

from vla_ros.sequence import parts
from vla_ros.words import HELD_OUT, TRAIN, load_refused, load_wordings

TWO = {
    "touch the red cube, then the blue one": ["touch the red cube", "touch the blue cube"],
    "touch the red cube then touch the blue ball": ["touch the red cube", "touch the blue ball"],
    "First touch the red cube, and then push the blue ball to the left.":
        ["touch the red cube", "push the blue ball to the left"],
    "put the red cube in the tray; after that, touch the tray": ["put the red cube in the tray", "touch the tray"],
    "tap the crimson block. Then blue sphere": ["tap the crimson block", "tap the blue sphere"],
    "touch the leftmost cube, then the rightmost one": ["touch the leftmost cube", "touch the rightmost cube"],
    "push the green cone away from you, then go home": ["push the green cone away from you", "go home"],
    "locate the red cube, then touch it, then take the blue ball and hold it up":
        ["locate the red cube, then touch it", "take the blue ball and hold it up"],
    "touch that blue one, then the red one": ["touch that blue one", "touch the red one"],
    "touch the red cube, then the blue ball, then the green cone":
        ["touch the red cube", "touch the blue ball", "touch the green cone"],
}
WHOLE = ["touch the red cube", "", "then", "then touch the red cube", "touch the red cube, then",
         "next, touch the red cube", "grip the red cube, then put it in the tray", "grip on the red cube, then up",
         "first the cube, then it",
         "can your claw push? then push the red cube to the left",
         "sing a song, then the blue one", "touch the red cube, then sing a song",
         "put the red cube on the blue cube, then the green one", "touch the ball left of the cone, then the cube"]


@pytest.mark.parametrize("text", TWO)
def test_parts_are_told_one_after_the_other(text):
    assert parts(text) == TWO[text]


@pytest.mark.parametrize("text", WHOLE)
def test_what_does_not_come_apart_stays_whole(text):
    assert parts(text) == [text]


def test_no_wording_of_one_thing_comes_apart():
    refused = [text for kind in load_refused().values() for group in kind.values() for text in group]
    texts = [text for file in (TRAIN, HELD_OUT) for group in load_wordings(file).values() for text in group] + refused
    filled = [text.format(o="red cube", r="blue ball", d="to the left of") for text in texts]
    assert len(filled) > 1500 and [text for text in filled if parts(text) != [text]] == []


def test_each_part_of_two_wordings_is_what_it_was():
    """Any two things to do, told one after the other, where each names its own object."""
    rng, table = np.random.default_rng(0), load_wordings(TRAIN)
    told = [text.format(o="red cube") for family in ("reach", "pick") for text in table[family] if "then" not in text]
    told = [text.strip(" .") for text in told if not any(f" {word}" in text for word in ("it", "that", "this", "them"))]
    apart = [parts(f"{a}, then {b}") == [a, b] for a, b in rng.choice(told, (200, 2))]
    assert np.mean(apart) > 0.95
