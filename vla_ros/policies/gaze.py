"""What was seen before: a hidden thing is where it was, nothing jumps, and two things are not one.

A recursive Bayesian filter over the places of each look (a histogram filter, Thrun et al. 2005, Probabilistic Robotics,
4.1). Places are the G x G patches of the image, then 'not there' and 'nowhere'.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

# Of target and reference: how far a thing may move between two decisions [patches, standard deviation], and how likely
# it is to be somewhere else altogether, because the look before was wrong. A target is carried; a reference stays.
DRIFT = (2.0, 0.4)
JUMP = (1e-3, 1e-8)
DOUBT = 0.05  # probability that what is seen now says nothing: spread over all places
FADE = 0.9  # of what was seen of a shape, at each decision
REACH = 5  # patches that a thing moves at most
APART = 2  # patches between target and reference at the beginning
HIDDEN = (3.0, 2.0)  # [patches] to the sides and downwards of the hand: there it, or what it holds, hides things


class Gaze:
    """Where the things of one instruction are believed to be."""

    def __init__(self, grid: int):
        self.grid, self.belief, self._reference, self._shapes = grid, None, None, None
        steps = torch.arange(-REACH, REACH + 1).float()
        square = steps[:, None] ** 2 + steps**2
        kernels = torch.stack([torch.exp(-square / (2 * drift**2)) for drift in DRIFT])
        self.kernels = (kernels / kernels.sum((1, 2), keepdim=True))[:, None]  # (2, 1, k, k)
        self.jump = torch.tensor(JUMP)[:, None]

    def update(self, seen: Tensor) -> Tensor:
        """Probabilities (2, P + 2) of this image alone -> those that all images since the beginning give."""
        if self.belief is None:
            self.belief = self._apart(seen)
            return self.belief
        patches, others = self.belief[:, :self.grid**2], self.belief[:, self.grid**2:]
        moved = F.conv2d(patches.view(1, -1, self.grid, self.grid), self.kernels, padding=REACH, groups=len(DRIFT))
        before = (1 - self.jump) * torch.cat([moved.flatten(2)[0], others], 1) + self.jump / seen.shape[1]
        belief = before * (seen + DOUBT)
        self.belief = belief / belief.sum(1, keepdim=True)
        return self.belief

    def recognise(self, seen: Tensor) -> Tensor:
        """Logits (2, shapes) of this image alone -> those of all, the last ones counting most: a hand hides much."""
        now = seen.log_softmax(-1)
        self._shapes = now if self._shapes is None else FADE * self._shapes + now
        return self._shapes

    def remember(self, reference: Tensor, hand: Tensor) -> Tensor:
        """Points (2,) [patches] of this image alone -> the reference's: what the hand hides is where it was last seen,
        unless it was taken for another thing then."""
        across, down = (reference - hand).tolist()
        hidden = abs(across) < HIDDEN[0] and down < HIDDEN[1]
        if self._reference is None or not hidden or float((self._reference - reference).abs().max()) > 1.0:
            self._reference = reference
        return self._reference

    def _apart(self, seen: Tensor) -> Tensor:
        """The likelier of the two ways in which target and reference are not one thing."""
        place = seen.argmax(1)
        if (place >= self.grid**2).any() or not self._near(place[0])[place[1]]:
            return seen
        ways = []
        for moved in range(2):
            other = seen.clone()
            other[moved, :self.grid**2][self._near(place[1 - moved])] = 0.0
            ways.append(other)
        best = max(ways, key=lambda way: float(way.max(1).values.prod()))
        return best / best.sum(1, keepdim=True)

    def _near(self, place: Tensor) -> Tensor:
        """(P,) which patches are less than APART from one."""
        cells = torch.arange(self.grid**2)
        rows, columns = cells // self.grid - place // self.grid, cells % self.grid - place % self.grid
        return torch.maximum(rows.abs(), columns.abs()) < APART
