"""The report: one file that needs nothing beside it, and holds what was measured."""

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser

import imageio_ffmpeg
import numpy as np
import pytest

from vla_ros.evaluation import page
from vla_ros.evaluation.evaluate import Episode
from vla_ros.evaluation.filming import Film, encoded, failures, film
from vla_ros.evaluation.rollout import Outcome
from vla_ros.evaluation.scores import report

WORDS = 'touch the <b>red</b> "cube"'


def outcome(seed=0, condition="plain", success=True, confidence=0.9, task="reach") -> Outcome:
    return Outcome(task, seed, WORDS, success, "success" if success else "time", 2.0, 0.01, "", condition, confidence)


def made(conditions=("plain", "latency-0", "latency-100", "black")):
    outcomes = [outcome(seed, name, seed % 3 > 0, 0.5 + seed / 20) for name in conditions for seed in range(9)]
    return report(outcomes, ["reach"], checkpoint="panda@1", clock="paused", seeds=[0, 8])


class Tags(HTMLParser):
    """Every tag with its attributes, checked to be closed in order."""

    VOID = {"meta", "br", "path", "use", "rect"}

    def __init__(self, text):
        super().__init__()
        self.found, self.open = [], []
        self.feed(text)
        assert not self.open, self.open

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def count(self, tag):
        return sum(name == tag for name, _ in self.found)


@pytest.fixture(scope="module")
def films():
    shot = encoded([np.full((48, 64, 3), 20 * i, np.uint8) for i in range(5)])
    return [Film(outcome(success=False), shot), Film(replace(outcome(success=False), ending="refused"), b"")]


def test_the_page_holds_tables_plots_and_videos_and_refers_to_nothing_outside(films):
    text = page.page(made(), films)
    tags = Tags(text)
    assert tags.count("table") == 2 and tags.count("svg") == 5 and tags.count("video") == 1
    assert all(word in text for word in ("panda@1", "latency-100", "66.7 %", "calibration error"))
    for tag, attributes in tags.found:
        for name in ("src", "href", "xlink:href"):
            assert re.match(r"data:|#", attributes.get(name) or "#"), (tag, attributes)
        assert tag not in ("script", "link", "img")
    assert "<b>red</b>" not in text and "&lt;b&gt;red&lt;/b&gt;" in text


def test_the_video_in_the_page_plays(films, tmp_path):
    data = re.search(r'src="data:video/mp4;base64,([^"]+)"', page.page(made(), films)).group(1)
    file = tmp_path / "film.mp4"
    file.write_bytes(base64.b64decode(data))
    reader = imageio_ffmpeg.read_frames(str(file))
    assert next(reader)["size"] == (64, 48) and len(list(reader)) == 5


def test_bars_are_as_long_as_the_rates():
    text = page.page(made(["plain"]))
    assert 'class="rate" style="width:66.7%"' in text
    low, high = made(["plain"])["families"]["reach"]["ci95"]
    assert f'style="left:{100 * low:.1f}%;width:{100 * (high - low):.1f}%"' in text


def test_without_confidence_and_latency_there_are_no_such_plots_and_the_same_scores_give_the_same_page():
    plain = report([outcome(confidence=None)], ["reach"])
    assert plain["calibration"] is None and Tags(page.page(plain)).count("svg") == 2
    assert page.page(made()) == page.page(made())


def test_failures_are_taken_in_turn_from_each_cell():
    outcomes = [outcome(s, "plain", False) for s in range(5)] + [outcome(7, "light", False), outcome(8, "black", True)]
    assert failures(outcomes, 3) == [Episode("reach", 0), Episode("reach", 7, "light"), Episode("reach", 1)]
    outcomes.append(replace(outcome(9, "pairs", False), seconds=0.0))  # nothing to see
    assert failures(outcomes[-2:], 3) == [] and len(failures(outcomes, 99)) == 6


def test_a_film_shows_the_episode_again(tmp_path):
    shot = film("oracle", Episode("reach", 1, "black"))
    assert shot.outcome.condition == "black" and shot.outcome.ending == "moved"
    (tmp_path / "a.mp4").write_bytes(shot.mp4)
    reader = imageio_ffmpeg.read_frames(str(tmp_path / "a.mp4"))
    facts = next(reader)
    assert facts["size"][1] == 240 and facts["fps"] == 10
    assert len(list(reader)) == pytest.approx(10 * shot.outcome.seconds, abs=1)
