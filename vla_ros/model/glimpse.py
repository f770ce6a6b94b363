"""What an answer is made from: what is to be seen where the question made the model look.

Letters: B images, K questions an image, P patches, d width of the language model.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vla_ros.model.configuration import VlaConfig
from vla_ros.model.look import NAMED, SLOPE, coordinates


class Glimpse(nn.Module):
    """Patches and their places, weighted by the looks; and the map of all patches that fit the target's words."""

    def __init__(self, c: VlaConfig):
        super().__init__()
        patches = c.grid**2
        seen = c.vision_width + len(coordinates(c.grid)[0]) + 2
        self.grid = c.grid
        self.look = nn.Sequential(nn.Linear(seen, c.width), nn.GELU(), nn.Linear(c.width, c.width))
        self.kind = nn.Parameter(torch.randn(c.sought, c.width) * 0.02)
        self.every = nn.Sequential(nn.Linear(patches, c.width), nn.GELU(), nn.Linear(c.width, c.width))

    def forward(self, patches: Tensor, looks: Tensor, marks: Tensor) -> Tensor:
        """patches (B, P, vision_width), logits of looks (B, K, 3, P + 2) and landmarks (B, K, 2, P + 2) -> glimpses
        (B, K, G, d)."""
        logits, count = torch.cat([looks[:, :, :len(NAMED)], marks], 2), self.grid**2
        odds = logits.softmax(-1)
        here = odds[..., :count].to(patches.dtype)
        features = torch.einsum("bklp,bpw->bklw", here, patches)
        places = coordinates(self.grid).to(patches) / SLOPE
        seen = torch.cat([features, here @ places, odds[..., count:].to(patches.dtype)], -1)
        fits = torch.sigmoid(logits[:, :, 0, :count] - logits[:, :, 0, count:].amax(-1, keepdim=True))
        return torch.cat([self.look(seen) + self.kind, self.every(fits.to(patches.dtype))[:, :, None]], 2)
