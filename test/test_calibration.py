"""Calibration: what the definitions imply, on any data."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.evaluation.calibration import calibration, calibration_error, reliability, risk_area, risk_coverage

DATA = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=200).map(
    lambda rows: (np.array([p for p, _ in rows]), np.array([r for _, r in rows])))


@given(DATA)
def test_bins_hold_everything_once_and_the_error_lies_between_the_overall_gap_and_one(data):
    p, right = data
    bins = reliability(p, right)
    assert sum(b["n"] for b in bins) == len(p)
    assert sum(b["n"] * b["rate"] for b in bins) == pytest.approx(right.sum())
    assert abs(p.mean() - right.mean()) - 1e-9 <= calibration_error(p, right) <= 1 + 1e-9


@given(DATA)
def test_turned_outcomes_and_confidences_have_the_same_error(data):
    """Mirrored bins, but for confidences on their edges."""
    p, right = data
    p = np.clip(np.floor(p * 100) / 100 + 0.005, 0, 1 - 0.005)
    assert calibration_error(1 - p, ~right) == pytest.approx(calibration_error(p, right))


def test_known_errors():
    assert calibration_error([1.0] * 4, [True] * 4) == 0
    assert calibration_error([1.0] * 4, [False] * 4) == 1
    assert calibration_error([0.75] * 4, [True, True, True, False]) == 0
    assert calibration_error([0.9, 0.9, 0.1, 0.1], [True, False, False, False]) == pytest.approx(0.25)


def test_drawn_from_its_own_confidence_the_error_is_small():
    rng = np.random.default_rng(0)
    p, draw = rng.uniform(size=(2, 20000))
    assert calibration_error(p, draw < p) < 0.02 < calibration_error(p, draw < p / 2)


@given(DATA)
def test_the_curve_ends_with_everything_answered_and_counts_the_wrong_ones(data):
    p, right = data
    coverage, risk = risk_coverage(p, right)
    assert coverage[-1] == 1 and risk[-1] == pytest.approx(1 - right.mean())
    assert (np.diff(coverage) > 0).all() and len(coverage) == len(np.unique(p))
    for c, r in zip(coverage, risk, strict=True):  # by the definition: all from the k-th confidence on
        threshold = np.sort(p)[::-1][round(c * len(p)) - 1]
        assert r == pytest.approx(1 - right[p >= threshold].mean())


@given(DATA, st.randoms())
def test_the_order_of_the_outcomes_does_not_matter(data, random):
    p, right = data
    order = list(range(len(p)))
    random.shuffle(order)
    assert risk_area(p[order], right[order]) == pytest.approx(risk_area(p, right))


@given(st.integers(1, 50), st.integers(1, 50))
def test_a_perfect_ranking_is_better_than_none_which_is_better_than_the_worst(good, bad):
    right = np.array([True] * good + [False] * bad)
    n = good + bad
    best, worst = risk_area(np.linspace(1, 0, n), right), risk_area(np.linspace(0, 1, n), right)
    flat = risk_area(np.full(n, 0.5), right)
    assert best <= flat + 1e-12 and flat <= worst + 1e-12 and flat == pytest.approx(bad / n)


@pytest.mark.parametrize("p,right", [([], []), ([0.5], [True, False]), ([1.1], [True]), ([float("nan")], [True])])
def test_what_is_no_confidence_is_an_error(p, right):
    with pytest.raises(ValueError):
        calibration(p, right)
