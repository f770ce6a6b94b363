"""Whether vla/stop is latched, also for a control node that was started again. No ROS."""

from __future__ import annotations

STOP, RESET = "vla/stop", "vla/reset_stop"  # what is said: true stops, and false says nothing; only a reset releases
KEPT = "vla/stop_kept"  # the newest of both, kept by the task node for who joins late


class Latch:
    """The newest word counts; before the first that was heard, what the task node has kept of those before.

    What is kept comes on a topic of its own, and may come late: it must not undo what was heard meanwhile.
    """

    def __init__(self):
        self._said: bool | None = None
        self._kept = False

    def say(self, latch: bool) -> None:
        """Said now: stop, or a reset."""
        self._said = latch

    def keep(self, latch: bool) -> None:
        """Said before, as it was kept."""
        self._kept = latch

    @property
    def latched(self) -> bool:
        return self._kept if self._said is None else self._said
