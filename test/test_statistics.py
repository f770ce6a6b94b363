"""Figures over the newest samples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.nodes.statistics import Stages, Window, budget

seconds = st.floats(0, 10)


@given(st.lists(seconds, min_size=1, max_size=40))
def test_percentiles_are_those_of_the_newest_samples(samples):
    window = Window(20)
    for sample in samples:
        window.add(sample)
    newest = samples[-20:]
    assert len(window) == len(newest)
    assert [window.p50, window.p95, window.p99] == pytest.approx(np.percentile(newest, [50, 95, 99]).tolist())
    assert min(newest) <= window.p50 <= window.p95 <= window.p99 <= max(newest)


def test_without_a_sample_every_figure_is_zero():
    assert (Window(5).p50, Window(5).p95, Window(5).p99) == (0.0, 0.0, 0.0)


def test_stages_keep_their_order_and_each_its_own_samples():
    stages = Stages(3)
    for sample in (1.0, 2.0, 3.0, 4.0):
        stages.add({"b": sample, "a": 10 * sample})
    stages.add({"c": 0.5})
    assert list(stages.windows) == ["b", "a", "c"]
    assert stages.figures()["b"][0] == 3.0 and stages.figures()["a"][0] == 30.0 and stages.figures()["c"] == (0.5, 0.5)


@given(st.dictionaries(st.sampled_from(["age", "wait", "convert", "preprocess", "look", "act", "infer", "decode"]),
                       seconds))
def test_the_budget_loses_nothing(timings):
    spent = budget(timings | {"total": 11.0})
    assert spent.pop("total") == 11.0 and sum(spent.values()) == pytest.approx(sum(timings.values()))
    assert set(spent) <= {"camera age", "queue", "preprocess", "inference", "decode"}
    assert spent.get("preprocess", 0.0) == pytest.approx(timings.get("convert", 0.0) + timings.get("preprocess", 0.0))
