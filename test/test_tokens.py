"""Bins and normalisation are exact inverse pairs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vla_ros.errors import CheckpointError
from vla_ros.tokens import UniformBins
from vla_ros.transforms import QuantileNormaliser

BINS = UniformBins(256)
finite = st.floats(-5, 5, allow_nan=False)


def test_every_bin_returns():
    every = np.arange(256)
    assert (BINS.encode(BINS.decode(every)) == every).all()


@given(arrays(float, (4, 3), elements=finite))
def test_values_return_within_half_a_bin(values):
    back = BINS.decode(BINS.encode(values))
    assert np.abs(back - np.clip(values, -1, 1)).max() <= 1 / 256 + 1e-12


def test_edges_of_the_interval_are_the_outermost_bins():
    assert BINS.encode(np.array([-1.0, 1.0, -9.0, 9.0])).tolist() == [0, 255, 0, 255]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_has_no_bin(bad):
    with pytest.raises(ValueError, match="finite"):
        BINS.encode(np.array([0.0, bad]))


@pytest.mark.parametrize("bad", [-1, 256])
def test_bins_out_of_range_have_no_value(bad):
    with pytest.raises(ValueError, match="0..255"):
        BINS.decode(np.array([3, bad]))


@given(arrays(float, (5, 2), elements=finite), arrays(float, 2, elements=finite),
       arrays(float, 2, elements=st.floats(0.01, 3)))
def test_normalisation_returns(values, low, span):
    pair = QuantileNormaliser(low, low + span)
    assert np.allclose(pair.unnormalise(pair.normalise(values)), values, atol=1e-9)
    assert np.allclose(pair.normalise(np.stack([pair.low, pair.high])), [[-1, -1], [1, 1]])


def test_quantiles_are_of_the_samples():
    pair = QuantileNormaliser.of(np.linspace(0, 100, 10001)[:, None])
    assert np.allclose([pair.low, pair.high], [[1.0], [99.0]])


@pytest.mark.parametrize("low, high", [([0.0, 1.0], [1.0, 1.0]), ([0.0], [np.nan]), ([0.0], [1.0, 2.0])])
def test_degenerate_statistics_are_refused(low, high):
    with pytest.raises(CheckpointError):
        QuantileNormaliser(np.array(low), np.array(high))
