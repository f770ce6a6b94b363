"""When a velocity that nobody stands behind any more is ended, and how. No ROS, no clock, no thread.

A controller may hold the last velocity for ever, so whoever commands it has to live. The signs of life are the control
node's heartbeat and its commands themselves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

ZEROS = 5  # times that the end of a stop is said
LONGEST = 0.05  # [s] for which a command of a stop counts as having been in force: a late tick must not stop hard


class Watchdog:
    """Call everything from one thread. Times are [s] on a steady clock.

    limit: [s] of silence after which a velocity is brought to rest.
    decelerations: [/s^2] one for each value of a command; None: at once.
    """

    def __init__(self, limit: float, decelerations: Sequence[float] | None = None):
        self.limit, self.decelerations = limit, decelerations
        self.command: tuple[float, ...] = ()  # the velocities in force, as far as is known
        self.heard: float | None = None  # the last sign of life
        self.stopping, self.stops = False, 0
        self._zeros = 0
        self._ticked: float | None = None
        self._excused = False

    def alive(self, now: float) -> None:
        """A heartbeat. It does not cut a stop short: who lives again need not command."""
        self.heard = now

    def commanded(self, values: Sequence[float], now: float) -> None:
        """A command of somebody else, which takes over at once. One that is not finite is taken by no controller."""
        if all(math.isfinite(value) for value in values):
            self.heard, self.command, self.stopping = now, tuple(values), False

    @property
    def moving(self) -> bool:
        return any(self.command)

    @property
    def busy(self) -> bool:
        """Whether something is in force that may have to be ended."""
        return self.moving or self.stopping

    def silence(self, now: float) -> float:
        """[s] since the last sign of life; 0 before the first."""
        return 0.0 if self.heard is None else now - self.heard

    def tick(self, now: float) -> tuple[float, ...] | None:
        """The velocities to be published now; None: nothing. To be called several times in each `limit`."""
        elapsed = 0.0 if self._ticked is None else now - self._ticked
        self._ticked = now
        if not self.stopping:
            if self._deaf(elapsed) or not self.moving or self.silence(now) <= self.limit:
                return None
            self.stopping, self.stops, self._zeros = True, self.stops + 1, ZEROS
        return self._slower(min(elapsed, LONGEST))

    def _deaf(self, elapsed: float) -> bool:
        """Whether this process itself stood still, so that what was said meanwhile is yet to be heard. Once in a row:
        a machine that is always slow must not excuse everybody for ever."""
        self._excused = elapsed > self.limit / 2 and not self._excused
        return self._excused

    def _slower(self, elapsed: float) -> tuple[float, ...]:
        steps = [math.inf] * len(self.command) if self.decelerations is None else [
            a * elapsed for a in self.decelerations]
        self.command = tuple(math.copysign(max(abs(v) - step, 0.0), v)
                             for v, step in zip(self.command, steps, strict=True))
        if not self.moving:
            self._zeros -= 1
            self.stopping = self._zeros > 0
        return self.command
