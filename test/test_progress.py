"""When a distance that does not become less is too long the same."""

from __future__ import annotations

import pytest

from vla_ros.bringup import NO_PROGRESS_TIME
from vla_ros.nodes.progress import Progress
from vla_ros.sim.tasks import TASKS

S = 10**9


def run(progress, distance, seconds=30):
    """distance: [m] by time [s]. The first moment [s] at which something is wrong."""
    return next((t for t in range(seconds + 1) if progress.add(7 * S + t * S, distance(t))), None)


def test_no_nearer_for_longer_than_the_patience():
    progress = Progress(5.0, 0.01)
    assert run(progress, lambda t: 0.5 - 0.1 * min(t, 3)) == 9
    assert progress.add(17 * S, 0.25) == "no nearer than 0.200 m for 5 s; 0.250 m are left"


@pytest.mark.parametrize("distance, ends", [
    (lambda t: 0.5, 6), (lambda t: 0.5 + 0.1 * t, 6), (lambda t: 0.5 + 0.2 * (t % 2), 6),
    (lambda t: 0.5 - 0.001 * t, 6),  # too slow
    (lambda t: 0.5 - 0.004 * t, None), (lambda t: 0.5 - 0.011 * (t // 5), None),
    (lambda t: 0.009 * (t % 2), None),  # as good as done: only the predicate can tell
    (lambda t: 0.0, None)])
def test_it_is_the_least_distance_that_counts(distance, ends):
    assert run(Progress(5.0, 0.01), distance) == ends


def test_what_was_as_good_as_done_and_is_not_any_more():
    progress = Progress(5.0, 0.01)
    assert run(progress, lambda t: (0.5, 0.001, 0.009)[t] if t < 3 else 0.4) == 8
    assert progress.add(16 * S, 0.4).startswith("no nearer than 0.001 m")


def test_without_patience_it_never_ends():
    assert run(Progress(0.0), lambda t: 0.5) is None


def test_the_share_that_is_done():
    progress = Progress()
    assert progress.share == 0.0
    for distance, share in ((0.8, 0.0), (0.2, 0.75), (1.0, 0.0), (0.0, 1.0)):
        progress.add(S, distance)
        assert progress.share == pytest.approx(share)


def test_the_default_ends_no_episode_of_any_task():
    assert NO_PROGRESS_TIME.default > max(task.time_limit for task in TASKS.values())
