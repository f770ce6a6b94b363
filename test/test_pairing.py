"""Pairing by header stamp."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vla_ros.nodes.pairing import MEMORY, Pairing, Part

MS = 1_000_000


def filled(**stamps) -> Pairing:
    """Parts by source, stamps [ms], in the order given; each part's item is its stamp."""
    pairing = Pairing(stamps)
    for source, values in stamps.items():
        for value in values:
            pairing.add(source, Part(value * MS, value))
    return pairing


def chosen(pairing: Pairing) -> dict:
    return {source: part.item for source, part in pairing.newest().items()}


def test_nothing_until_every_source_gave_something():
    pairing = filled(front=[0], wrist=[], joints=[0])
    assert pairing.newest() is None and pairing.missing() == ["wrist"]


def test_the_newest_moment_that_all_have_reached():
    assert chosen(filled(front=[0, 100, 200], joints=[0, 17, 33, 100, 117, 195])) == {"front": 200, "joints": 195}
    assert chosen(filled(front=[0, 100], wrist=[0], joints=[0, 50, 100])) == {"front": 0, "wrist": 0, "joints": 0}


def test_a_source_that_stands_still_shows_by_its_age():
    assert chosen(filled(front=[0], joints=[0, 500, 900]))["front"] == 0


def test_late_and_repeated_parts():
    assert chosen(filled(front=[0, 200, 100, 200], joints=[0, 200])) == {"front": 200, "joints": 200}


def test_time_that_begins_anew_forgets_all():
    pairing = filled(front=[5000, 5100], joints=[5000, 5100])
    pairing.add("front", Part(0, 0))
    assert pairing.newest() is None and pairing.missing() == ["joints"]


def test_a_straggler_is_not_taken_and_nothing_is_forgotten():
    pairing = filled(front=[0, 5000], joints=[0, 5000])
    assert pairing.add("front", Part(5000 * MS - MEMORY - 1, 0, arrival=5010 * MS)) is False
    assert chosen(pairing) == {"front": 5000, "joints": 5000} and len(pairing._parts["front"]) == 1
    assert pairing.add("front", Part(5000 * MS - MEMORY, 0, arrival=5010 * MS)), "late, but in order"


def test_a_stamp_that_repeats_for_ever_is_kept_once():
    assert len(filled(front=[0] * 1000, joints=[0])._parts["front"]) == 1


def test_memory_is_bounded():
    pairing = filled(front=range(0, 60_000, 10), joints=[0])
    assert len(pairing._parts["front"]) == MEMORY // (10 * MS) + 1


@given(st.lists(st.integers(0, 900), min_size=1), st.lists(st.integers(0, 900), min_size=1))
def test_no_better_pair_for_the_moment_exists(front, joints):
    pairing = filled(front=front, joints=joints)
    pivot = min(max(front), max(joints))
    pair = chosen(pairing)
    assert abs(pair["front"] - pivot) == min(abs(s - pivot) for s in front)
    assert abs(pair["joints"] - pivot) == min(abs(s - pivot) for s in joints)
