"""How control periods stand to the chunks that come: in step with them a chunk waits for hardly any time. No ROS."""

from __future__ import annotations

from collections import deque

SAMPLES = 16  # chunks that are looked at
LATE = 0.9  # share of them that is to be commanded soon
SOON = 0.2  # of a period
SLIP = 0.02  # of a period, by which one is made longer at most: a robot is only ever slower for it
PATIENCE = 600  # periods without any, after a whole turn that did not help: the chunks come at another rate


class Phase:
    """Lengthens control periods until chunks come right before one; by one period in all, and then not for a while.

    Never shortens one: a step of the guard's is for a whole period, and would be too fast in less.
    """

    def __init__(self, period: float):
        self.period = period  # [s]
        self._waits: deque[float] = deque(maxlen=SAMPLES)
        self._turned, self._patience = 0.0, 0

    def waited(self, seconds: float) -> None:
        """From a chunk's arrival to its first command. One that waited longer did not wait for the period alone."""
        if seconds < self.period:
            self._waits.append(seconds)

    def slip(self) -> float:
        """[s] by which the next period is to be longer. Ask once a period."""
        if self._patience:
            self._patience -= 1
            return 0.0
        if len(self._waits) < SAMPLES or sorted(self._waits)[int(LATE * SAMPLES)] <= SOON * self.period:
            self._turned = 0.0
            return 0.0
        if self._turned >= self.period:
            self._turned, self._patience = 0.0, PATIENCE
            return 0.0
        slip = SLIP * self.period
        self._turned += slip
        self._waits = deque(((wait + slip) % self.period for wait in self._waits), maxlen=SAMPLES)
        return slip
