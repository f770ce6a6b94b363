"""What an answer is made from: what is to be seen where the question made the model look.

Letters: B images, K questions an image, P patches, d width of the language model.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vla_ros.model.acting import BANDS
from vla_ros.model.configuration import VlaConfig
from vla_ros.model.look import NAMED, SLOPE, coordinates

LEAST = (1.0, 3.0)  # [logits] of a thing that is counted: above 'not there' at least, and at most below the best
STEEP = 4.0  # per logit: how sharp that is
NONE = -1e4  # [logits] of a patch that is no thing of its own


class Glimpse(nn.Module):
    """Patches and their places, weighted by the looks; and the map of all patches that fit the target's words.

    A patch's key is as what its words look for, so it says what is there; the exact point, where. On the map, all that
    fit the words stand out from the places that are no patch, and what fits best from all else. Its peaks are the
    things that fit, one each: those can be counted.
    """

    def __init__(self, c: VlaConfig):
        super().__init__()
        patches = c.grid**2
        seen = c.vision_width + c.look_width + len(coordinates(c.grid)[0]) + 2
        self.grid = c.grid
        self.look = nn.Sequential(nn.Linear(seen, c.width), nn.GELU(), nn.Linear(c.width, c.width))
        self.kind = nn.Parameter(torch.randn(c.sought, c.width) * 0.02)
        self.point = nn.Sequential(nn.Linear(2 * 2 * BANDS, c.width), nn.GELU(), nn.Linear(c.width, c.width))
        self.every = nn.Sequential(nn.Linear(2 * patches, c.width), nn.GELU(), nn.Linear(c.width, c.width))
        self.peaks = c.peaks
        if c.peaks:
            self.least = nn.Parameter(torch.tensor(LEAST))
            self.number = nn.Linear(c.peaks + 1, c.width)

    def forward(self, patches: Tensor, keys: Tensor, looks: Tensor, marks: Tensor, points: Tensor) -> Tensor:
        """patches (B, P, vision_width) and their keys (B, P, look_width), of length 1; logits of looks (B, K, 3, P + 2)
        and landmarks (B, K, 2, P + 2); points (B, K, 2, 2) of target and reference, of the image's side -> glimpses
        (B, K, G, d)."""
        logits, count = torch.cat([looks[:, :, :len(NAMED)], marks], 2), self.grid**2
        odds = logits.softmax(-1)
        here = odds[..., :count].to(patches.dtype)
        said = torch.cat([patches, keys.to(patches.dtype) * keys.shape[-1]**0.5], -1)
        features = torch.einsum("bklp,bpw->bklw", here, said)
        places = coordinates(self.grid).to(patches) / SLOPE
        seen = self.look(torch.cat([features, here @ places, odds[..., count:].to(patches.dtype)], -1)) + self.kind
        angles = points.float()[..., None] * torch.pi * 2.0**torch.arange(BANDS, device=points.device)
        exact = self.point(torch.cat([angles.sin(), angles.cos()], -1).flatten(-2).to(patches.dtype))
        target = logits[:, :, 0]
        fits = torch.sigmoid(target[..., :count] - target[..., count:].amax(-1, keepdim=True))
        best = (target - target.amax(-1, keepdim=True)).exp()[..., :count]
        every = self.every(torch.cat([fits, best], -1).to(patches.dtype))
        return torch.cat([seen[:, :, :len(NAMED)] + exact, seen[:, :, len(NAMED):], every[:, :, None]], 2)

    def counted(self, looks: Tensor) -> Tensor:
        """Logits (B, K, 3, P + 2) of looks -> (B, K, d): how many things fit the target's words, for the first word of
        an answer to be scored with. Told as a glimpse like the others it was never heeded.
        """
        if not self.peaks:
            return self.kind.new_zeros(*looks.shape[:2], self.kind.shape[-1])
        return self.number(self.count(looks[:, :, 0]))

    def count(self, target: Tensor) -> Tensor:
        """Logits (B, K, P + 2) -> (B, K, peaks + 1): how many things fit, as weights of the whole numbers around it.

        A thing is a patch that is the best of the nine around it, above the places that are no patch, and not far below
        the best of all.
        """
        patches, others = target[..., :self.grid**2], target[..., self.grid**2:].amax(-1, keepdim=True)
        around = F.max_pool2d(patches.unflatten(-1, (self.grid, self.grid)), 3, 1, 1).flatten(-2)
        high = patches.masked_fill(patches < around, NONE).topk(self.peaks, -1).values
        above, below = high - others - self.least[0], high - high[..., :1] + self.least[1]
        count = (torch.sigmoid(STEEP * above) * torch.sigmoid(STEEP * below)).sum(-1, keepdim=True)
        return (1 - (count - torch.arange(self.peaks + 1, device=count.device)).abs()).clamp(min=0)
