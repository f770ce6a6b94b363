"""The picture of where the policy looks: the crosshairs are where they must be, and nothing makes it fail."""

from __future__ import annotations

import numpy as np
import pytest
from core_samples import PANDA, chunk
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.nodes.overlay import ARM, COLOURS, GAP, WARNING, enlargement, look_image, place, wrapped
from vla_ros.types import Look

GREY = np.full((96, 96, 3), 128, np.uint8)


def picture(*looks, image=GREY, instruction="touch the red cube", **more):
    return look_image(image, chunk(PANDA, np.zeros((8, 4)), looks=looks, **more), instruction)


def drawn(picture, colour):
    """(n, 2) x and y of the pixels of a colour."""
    return np.argwhere((picture == colour).all(-1))[:, ::-1]


def test_the_image_is_enlarged_and_a_caption_follows():
    image = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    made = picture(image=image)
    assert made.dtype == np.uint8 and made.shape[1] == 384 and made.shape[0] > 384
    assert (made[:384:4, ::4] == image).all() and (made[3:384:4, 3::4] == image).all()
    assert [enlargement(width) for width in (96, 100, 384, 640)] == [4, 4, 1, 1]


@pytest.mark.parametrize("name", ["target", "reference"])
@pytest.mark.parametrize("u, v", [(33, 44), (60.3, 20.6)])
def test_a_crosshair_surrounds_the_pixel_that_is_looked_at(name, u, v):
    made = picture(Look(name, u, v, 0.9))[:384]
    centre = (np.array([u, v]) + 0.5) * 4 - 0.5
    x, y = np.rint(centre).astype(int)
    for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        for step in (GAP, ARM):
            px, py = x + dx * step, y + dy * step
            found = drawn(made[py - 1:py + 2, px - 1:px + 2], COLOURS[name])
            assert len(found), f"no {name} at ({px}, {py})"
    assert (made[y, x] == 128).all(), "the thing itself stays visible"
    ring = drawn(made[y - ARM:y + ARM + 1, x - ARM:x + ARM + 1], COLOURS[name]) - ARM
    assert np.abs(ring.mean(0)).max() < 0.5
    other = COLOURS["reference" if name == "target" else "target"]
    assert len(drawn(made, other)) == 0


def test_both_looks_are_drawn_each_in_its_colour():
    made = picture(Look("target", 20, 30, 0.9), Look("reference", 70, 80, 0.4))
    assert all(len(drawn(made, colour)) > 10 for colour in COLOURS.values())


def test_a_refusal_is_told_in_the_colour_of_a_warning():
    assert len(drawn(picture(), WARNING)) == 0
    told = look_image(GREY, chunk(PANDA, np.zeros((0, 4)), refusal="I see no moon"), "touch the moon")
    assert len(drawn(told, WARNING)) > 10


def test_the_caption_tells_the_words_and_what_was_said():
    said = {text: picture(text=text)[384:].tobytes() for text in ("I look at (1, 2) px", "I look at (3, 4) px")}
    assert len(set(said.values())) == 2
    assert picture(instruction="a")[384:].tobytes() != picture(instruction="b")[384:].tobytes()
    assert picture(text="word " * 100).shape[0] > picture(text="word").shape[0] + 50, "what is long is wrapped"


@given(st.floats(width=32), st.floats(width=32), st.text(max_size=300))
def test_whatever_a_policy_says_makes_a_picture(u, v, text):
    made = picture(Look(text, u, v, 0.5), instruction=text, text=text)
    assert made.shape[1] == 384 and len(made) > 384


@given(st.text(st.sampled_from("abc "), max_size=200))
def test_wrapping_loses_no_word(text):
    assert " ".join(wrapped(text, 80)).split() == text.split()


def test_the_centre_of_a_pixel_stays_its_centre():
    assert place(Look("target", 0, 0, 1), 1) == (0, 0)
    assert place(Look("target", 10, 20, 1), 3) == (31, 61)
