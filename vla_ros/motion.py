"""Motion within limits of position, velocity, acceleration and jerk, whatever is asked for.

What is kept is a plan: the positions of the periods to come, within every limit and at rest at its end. A newer plan
takes its place only if that holds of it too; otherwise the one in force goes on. So there is a way to rest at all
times, and nothing that a solver says is trusted: each plan is checked before anything of it is sent.

Plans follow the targets to come as closely as the limits allow (least squares, one quadratic program a joint), so that
a corner is begun before it is reached: a generator that knows only the target of now lags behind it and bends the way.
Dimension letters: N joints, H periods of a plan.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import daqp
import numpy as np

from vla_ros.errors import ConfigError

BRAKING = 0.5  # [s] that a joint may need to rest: longer plans take too long to make
SPARE = 4  # periods of a plan beyond that, or the fastest motion would always have to brake
SHARE = 0.999  # of each limit is planned with: what a solver rounds stays inside it
STILL = 1e-9  # [rad] a period: rounding of rest
EXACT = 1e-10  # [rad] to which the solver keeps the limits
OPEN = 1e-6  # [rad^2] added to the diagonal: of plans that are as good, that with less motion

Accept = Callable[[np.ndarray], bool]


class Motion:
    """N joints. low, high: (N,) [rad]; velocity, acceleration, jerk: (N,) the most, either way [/s, /s^2, /s^3].

    Differences of the positions of successive periods keep the limits. Raises ConfigError for joints that need too long
    to brake.
    """

    def __init__(self, period: float, low, high, velocity, acceleration, jerk):
        velocity, acceleration, jerk = (np.array(limit, float) for limit in (velocity, acceleration, jerk))
        self.low, self.high = np.array(low, float), np.array(high, float)
        self.limits = velocity * period, acceleration * period**2, jerk * period**3  # [rad] differences, 1st to 3rd
        self.braking = float(np.max(velocity / acceleration + acceleration / jerk))  # [s] from full speed, at most
        if self.braking > BRAKING:
            raise ConfigError(f"braking from full speed takes {self.braking:.2f} s, at most {BRAKING} s can be "
                              f"planned: raise motion.acceleration or motion.jerk, or lower velocity_scale")
        self.horizon = H = math.ceil(self.braking / period) + SPARE
        # Unknown are the steps of all periods but the last, which is one of rest.
        steps = np.tril(np.ones((H, H - 1)))  # to positions
        change = np.eye(H, H - 1) - np.eye(H, H - 1, -1)
        bend = np.vstack([change, np.zeros(H - 1)]) - np.vstack([np.zeros(H - 1), change])
        self._steps, self._rows = steps, np.vstack([change, bend, steps[:-1]])
        self._follow = steps.T @ steps + OPEN * np.eye(H - 1)
        self._rest = np.eye(H - 1)
        self._sense = np.zeros(H - 1 + len(self._rows), np.int32)
        self.begin(np.zeros(len(velocity)))

    def begin(self, position: np.ndarray) -> None:
        """At rest at `position` (N,), which may lie outside the limits: then nothing leads further out."""
        self._past = np.repeat(np.array(position, float)[None], 3, axis=0)  # of the last three periods
        self._plan = self._past[:1]

    @property
    def position(self) -> np.ndarray:
        """(N,) what went out last."""
        return self._past[-1]

    @property
    def resting(self) -> bool:
        """Whether nothing moved and nothing is about to."""
        return bool(np.abs(np.diff(self._past, axis=0)).max() < STILL
                    and np.abs(self._plan - self.position).max() < STILL)

    def follow(self, targets: np.ndarray, accept: Accept = lambda plan: True) -> bool:
        """One period on. targets: (any, N) wanted now and in the periods to come; the last one stays. accept: whether a
        plan (any, N) may be taken: if not on the way ahead, then on the way to the target of now. False: neither could
        be taken, and the motion brakes."""
        for known in (targets, targets[:1]) if len(targets) > 1 else (targets,):
            plan = self._solve(self._follow, -(self._whole(known) - self.position).T @ self._steps)
            if plan is not None and self._keeps_limits(plan) and accept(plan):
                self._go(plan)
                return True
        self.brake(accept)
        return False

    def _whole(self, targets: np.ndarray) -> np.ndarray:
        """Targets (H, N) inside the limits of position."""
        targets = np.concatenate([targets, np.repeat(targets[-1:], self.horizon, axis=0)])[:self.horizon]
        return np.clip(targets, self.low, self.high)

    def brake(self, accept: Accept = lambda plan: True) -> None:
        """One period on the quickest way to rest; where that cannot be taken, on the plan in force."""
        plan = None
        if not self.resting:
            plan = self._solve(self._rest, np.zeros((len(self.position), self.horizon - 1)))
        self._go(plan if plan is not None and self._keeps_limits(plan) and accept(plan) else self._plan)

    def _go(self, plan: np.ndarray) -> None:
        self._past = np.vstack([self._past[1:], plan[:1]])
        self._plan = plan[1:] if len(plan) > 1 else plan

    def _bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Of positions, (N,): one outside comes back, and does not go further."""
        return np.minimum(self.low, self.position), np.maximum(self.high, self.position)

    def _solve(self, cost: np.ndarray, slopes: np.ndarray) -> np.ndarray | None:
        """The plan (H, N) of the least cost. slopes: (N, H - 1). None where a joint has none."""
        H, found = self.horizon, []
        now, step = self.position, self._past[-1] - self._past[-2]
        turn = step - (self._past[-2] - self._past[-3])
        low, high = self._bounds()
        for i, (most, more, most_bent) in enumerate(zip(*self.limits, strict=True)):
            size = SHARE * np.concatenate([np.full(H - 1, most), np.full(H, more), np.full(H + 1, most_bent)])
            shift = np.zeros(len(size))  # what the periods before add to the first differences
            shift[H - 1], shift[2 * H - 1], shift[2 * H] = step[i], step[i] + turn[i], -step[i]
            upper = np.concatenate([shift + size, np.full(H - 1, high[i] - now[i])])
            lower = np.concatenate([shift - size, np.full(H - 1, low[i] - now[i])])
            steps, _, flag, _ = daqp.solve(cost, slopes[i], self._rows, upper, lower, self._sense,
                                           primal_tol=EXACT)
            if flag < 1 or not np.isfinite(steps).all():
                return None
            found.append(now[i] + self._steps @ steps)
        return np.array(found).T

    def _keeps_limits(self, plan: np.ndarray) -> bool:
        """Whether the way from here through `plan`, and rest after it, keeps every limit."""
        way = np.concatenate([self._past, plan, np.repeat(plan[-1:], 3, axis=0)])
        low, high = self._bounds()
        differences = (np.diff(way, order, axis=0)[3 - order:] for order in (1, 2, 3))
        return bool(all((np.abs(d) <= limit).all() for d, limit in zip(differences, self.limits, strict=True))
                    and (low - STILL <= plan).all() and (plan <= high + STILL).all())
