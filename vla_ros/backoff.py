"""When a process that ended by itself is started again, and when no more. Time is passed in."""

from __future__ import annotations

FIRST, LONGEST = 1.0, 30.0  # [s] until it is started again
MOST, WINDOW = 5, 60.0  # as many ends within as many seconds are too many


class Backoff:
    """The delays of one process: they double with each end, and begin anew after a calm time of WINDOW."""

    def __init__(self):
        self._ends: list[float] = []
        self._delay = 0.0

    def ended(self, now: float) -> float | None:
        """[s] until the process is to be started again; None: it has ended too often. now: [s] on a steady clock."""
        calm = not self._ends or now - self._ends[-1] - self._delay > WINDOW
        self._delay = FIRST if calm else min(2 * self._delay, LONGEST)
        self._ends = [*(end for end in self._ends if now - end < WINDOW), now]
        return self._delay if len(self._ends) < MOST else None
