"""A stop that is latched stays so, whoever was started again meanwhile, until somebody releases it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vla_ros.nodes.latching import Latch


@given(words=st.lists(st.tuples(st.sampled_from(["say", "keep"]), st.booleans())))
def test_the_newest_word_counts_and_before_any_what_was_kept(words):
    latch = Latch()
    for kind, value in words:
        getattr(latch, kind)(value)
    said = [value for kind, value in words if kind == "say"]
    kept = [value for kind, value in words if kind == "keep"]
    assert latch.latched == (said or kept or [False])[-1]
