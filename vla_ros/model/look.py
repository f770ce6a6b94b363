"""Where the model looks: an instruction's words and what was seen for them, against every patch of the image.

Letters: B images, K instructions an image, P patches, G along a side, d width of the language model.
Places 0..P-1 are patches; P is 'not there', P + 1 'nowhere' (the instruction names no such thing).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vla_ros.model import vocabulary as vocab
from vla_ros.model.configuration import VlaConfig

NAMED = ("target", "reference")  # by the instruction
LOOKS = (*NAMED, "hand")  # the hand's place beside what the body feels of it tells how the camera stands
OTHER = 2  # places that are no patch


class Look(nn.Module):
    """Contrastive alignment of regions and words, and the offset inside the chosen patch."""

    def __init__(self, c: VlaConfig):
        super().__init__()
        self.grid, self.patch_size, self.image_size, self.width = c.grid, c.patch_size, c.image_size, c.look_width
        self.patch_key = nn.Linear(c.vision_width, c.look_width)
        self.text_query = nn.Linear(c.width, len(NAMED) * c.look_width)
        self.hand_query = nn.Parameter(torch.randn(c.look_width))
        self.seek_query = nn.Linear(c.width, c.look_width)
        self.other_keys = nn.Parameter(torch.randn(OTHER, c.look_width))
        self.scale = nn.Parameter(torch.tensor(2.5))
        self.offset = nn.Sequential(nn.Linear(c.vision_width + c.look_width, 64), nn.GELU(), nn.Linear(64, 2))

    def forward(self, patches: Tensor, text: Tensor, seek: Tensor) -> tuple[Tensor, Tensor]:
        """patches (B, P, vision_width), text (B, K, d), seek (B, K, 2, d) -> logits (B, K, 3, P + 2), queries.

        The words alone bind within minutes; what was found for them decides among equals ("the leftmost cube").
        """
        keys = F.normalize(self.patch_key(patches), dim=-1)
        others = F.normalize(self.other_keys, dim=-1).expand(len(patches), -1, -1)
        words = self.text_query(text).unflatten(-1, (len(NAMED), self.width)) + self.seek_query(seek)
        hand = self.hand_query.to(words.dtype).expand(*words.shape[:2], 1, -1)
        query = F.normalize(torch.cat([words, hand], 2), dim=-1)
        logits = torch.einsum("bklw,bpw->bklp", query, torch.cat([keys, others.to(keys.dtype)], 1))
        return logits * self.scale.exp().clamp(max=100), query

    def point(self, patches: Tensor, query: Tensor, patch: Tensor) -> Tensor:
        """Pixels (B, K, 3 looks, 2), from the patches (B, K, 3) that hold them."""
        b, k, n = patch.shape
        index = patch.reshape(b, k * n, 1).expand(-1, -1, patches.shape[-1])
        chosen = patches.gather(1, index).unflatten(1, (k, n))
        offset = self.offset(torch.cat([chosen, query.to(chosen.dtype)], -1)).float()
        centre = torch.stack([patch % self.grid, patch // self.grid], -1) + 0.5
        return (centre + offset) * self.patch_size

    def tokens(self, pixels: Tensor, place: Tensor) -> Tensor:
        """Pixels (..., 2) and places (...) -> token ids (..., 2) of x and y; a place that is no patch has its own."""
        bins = (pixels / self.image_size * vocab.LOOK_BINS).floor().long().clamp(0, vocab.LOOK_BINS - 1)
        ids = bins + torch.tensor([vocab.LOOK_X, vocab.LOOK_Y], device=pixels.device)
        other = torch.where(place == self.grid**2, vocab.ABSENT, vocab.NOWHERE)[..., None]
        return torch.where((place < self.grid**2)[..., None], ids, other)
