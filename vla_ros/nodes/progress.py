"""How the distance that is left of a task develops. No ROS, no clock of its own."""

from __future__ import annotations


class Progress:
    """patience: [s] ROS time in which the distance is to become less by `least` [m]; 0: it need not.

    Not less than before, but less than ever: a robot that goes to and fro comes no nearer. What is within `least` of
    done has no distance left to make, and waits for the task's own predicate.
    """

    def __init__(self, patience: float = 0.0, least: float = 0.01):
        self.patience, self.least = patience, least
        self.initial: float | None = None  # [m] at the beginning
        self.distance = 0.0  # [m] now
        self._best, self._since = 0.0, 0  # [m] the least that counted, and since when [ns]

    def add(self, stamp: int, distance: float) -> str:
        """The distance left [m] at `stamp` [ns]; returns what is wrong, or nothing."""
        self.distance = distance
        if self.initial is None:
            self.initial, self._best, self._since = distance, distance, stamp
        if distance <= max(self._best - self.least, self.least):
            self._best, self._since = min(self._best, distance), stamp
        if 0 < self.patience < (stamp - self._since) / 1e9:
            return f"no nearer than {self._best:.3f} m for {self.patience:g} s; {distance:.3f} m are left"
        return ""

    @property
    def share(self) -> float:
        """[0, 1] of the initial distance that is done."""
        return min(max(1.0 - self.distance / self.initial, 0.0), 1.0) if self.initial else 0.0
