"""Where the model looks: an instruction's words and what was seen for them, against every patch of the image.

What is said of a thing comes in three parts, each scored by a module of its own (as in MAttNet, Yu et al. 2018,
arXiv:1801.08186): what it is, where in the image it stands ("the leftmost"), and how it stands to another thing, its
landmark ("left of the cone"). What it is, each word says by itself: it is heeded more or less, as the other words have
it, but means the same beside any of them. So "blue cone" is what is blue and a cone, be it the first one ever seen.

Letters: B images, K instructions an image, N of both, P patches, G along a side, L words, S things that are sought, d
width of the language model, R relations.
Places 0..P-1 are patches; P is 'not there', P + 1 'nowhere' (the instruction names no such thing).
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vla_ros.model import vocabulary as vocab
from vla_ros.model.configuration import VlaConfig

NAMED = ("target", "reference")  # by the instruction
LOOKS = (*NAMED, "hand")  # the hand's place beside what the body feels of it tells how the camera stands
OTHER = 2  # places that are no patch
RELATIONS = 16  # ways in which a thing can stand to its landmark, to be mixed
SLOPE = 8.0  # half the image's side, in the coordinates that a place is scored by: gentle slopes are soon learnt steep


class Look(nn.Module):
    """Contrastive alignment of regions and words, and the offset inside the chosen patch."""

    def __init__(self, c: VlaConfig):
        super().__init__()
        self.grid, self.patch_size, self.image_size, self.width = c.grid, c.patch_size, c.image_size, c.look_width
        self.spatial = c.spatial
        self.patch_key = nn.Linear(c.vision_width, c.look_width)
        self.hand_query = nn.Parameter(torch.randn(c.look_width))
        self.other_keys = nn.Parameter(torch.randn(OTHER, c.look_width))
        self.scale = nn.Parameter(torch.tensor(2.5))
        self.shape = nn.Linear(c.vision_width, c.shapes) if c.shapes else None
        self.offset = nn.Sequential(nn.Linear(c.vision_width + c.look_width, 64), nn.GELU(), nn.Linear(64, 2))
        if not c.spatial:
            self.text_query = nn.Linear(c.width, c.sought * c.look_width)
            self.seek_query = nn.Linear(c.width, c.look_width)
            return
        self.heed = nn.Linear(c.width, c.sought)
        self.word_query = nn.Sequential(nn.Linear(c.width, c.width), nn.GELU(), nn.Linear(c.width, c.look_width))
        self.coordinates = len(coordinates(c.grid)[0])
        self.standing = nn.Linear(2 * c.width, self.coordinates + RELATIONS)
        self.relation = nn.Sequential(nn.Linear(4, 64), nn.GELU(), nn.Linear(64, RELATIONS))

    def ask(self, embedded: Tensor, hidden: Tensor, mask: Tensor) -> Tensor:
        """What words look for: embedded, hidden (N, L, d), mask (N, L) -> (N, S, look_width), of target, reference and
        their landmarks."""
        if not self.spatial:
            return self.text_query(mean(hidden, mask)).unflatten(-1, (-1, self.width))
        heed = self.heed(hidden).float().masked_fill(~mask[..., None], float("-inf")).softmax(-2)
        return torch.einsum("nls,nlw->nsw", heed.to(hidden.dtype), self.word_query(embedded))

    def forward(self, patches: Tensor, words: Tensor, text: Tensor, seek: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """patches (B, P, vision_width), words (B, K, S, look_width) of ask(), text (B, K, d), seek (B, K, 2, d) ->
        logits (B, K, 3, P + 2) of the looks, and (B, K, S - 2, P + 2) of the landmarks; queries (B, K, 3, look_width).
        """
        named = len(NAMED)
        keys = F.normalize(self.patch_key(patches), dim=-1)
        others = F.normalize(self.other_keys, dim=-1).expand(len(patches), -1, -1)
        if not self.spatial:
            words = words + self.seek_query(seek)
        hand = self.hand_query.to(words.dtype).expand(*words.shape[:2], 1, -1)
        query = F.normalize(torch.cat([words, hand], 2), dim=-1)
        logits = torch.einsum("bklw,bpw->bklp", query, torch.cat([keys, others.to(keys.dtype)], 1))
        logits = (logits * self.scale.exp().clamp(max=100)).float()
        looks, marks, hand = logits.split([named, logits.shape[2] - named - 1, 1], 2)
        if self.spatial:
            standing = self._standing(text, seek, marks.softmax(-1)[..., :self.grid**2])
            looks = looks + F.pad(standing, (0, OTHER))
        return torch.cat([looks, hand], 2), marks, torch.cat([query[:, :, :named], query[:, :, -1:]], 2)

    def _standing(self, text: Tensor, seek: Tensor, marks: Tensor) -> Tensor:
        """How well each patch's place fits what was said of it, (B, K, 2, P); marks (B, K, 2, P) where the landmarks
        are."""
        told = self.standing(torch.cat([text[:, :, None].expand_as(seek), seek], -1)).float()
        place, relation = told[..., :self.coordinates], told[..., self.coordinates:]
        places = coordinates(self.grid).to(text.device)
        by_place = (place[..., None, :] * places).sum(-1)  # not matmul: bfloat16 would round neighbours together
        offsets, index = (tensor.to(text.device) for tensor in ways(self.grid))
        table = SLOPE * self.relation(torch.cat([offsets / 2, torch.tanh(offsets)], -1))[index]  # (P, P, R)
        beside = torch.einsum("bklm,mpr->bklpr", marks.to(table.dtype), table).float()
        return by_place + (beside * relation[..., None, :]).sum(-1)

    def point(self, patches: Tensor, query: Tensor, patch: Tensor) -> Tensor:
        """Pixels (B, K, 3 looks, 2), from the patches (B, K, 3) that hold them."""
        chosen = at(patches, patch)
        offset = self.offset(torch.cat([chosen, query.to(chosen.dtype)], -1)).float()
        centre = torch.stack([patch % self.grid, patch // self.grid], -1) + 0.5
        return (centre + offset) * self.patch_size

    def shapes(self, patches: Tensor, patch: Tensor) -> Tensor:
        """Logits (B, K, n, shapes) of what stands at the patches (B, K, n)."""
        return self.shape(at(patches, patch)).float()

    def tokens(self, pixels: Tensor, place: Tensor) -> Tensor:
        """Pixels (..., 2) and places (...) -> token ids (..., 2) of x and y; a place that is no patch has its own."""
        bins = (pixels / self.image_size * vocab.LOOK_BINS).floor().long().clamp(0, vocab.LOOK_BINS - 1)
        ids = bins + torch.tensor([vocab.LOOK_X, vocab.LOOK_Y], device=pixels.device)
        other = torch.where(place == self.grid**2, vocab.ABSENT, vocab.NOWHERE)[..., None]
        return torch.where((place < self.grid**2)[..., None], ids, other)


def at(patches: Tensor, patch: Tensor) -> Tensor:
    """(B, K, n, w): those of patches (B, P, w) whose indices are patch (B, K, n)."""
    index = patch.flatten(1)[..., None].expand(-1, -1, patches.shape[-1])
    return patches.gather(1, index).unflatten(1, patch.shape[1:])


def mean(hidden: Tensor, mask: Tensor) -> Tensor:
    """Mean of hidden (..., L, d) over the tokens in mask (..., L)."""
    weight = mask.to(hidden.dtype).unsqueeze(-1)
    return (hidden * weight).sum(-2) / weight.sum(-2).clamp(min=1)


@cache
@torch.inference_mode(False)  # what is kept serves training too
def ways(grid: int) -> tuple[Tensor, Tensor]:
    """All ways from a patch to another, ((2 G - 1)^2, 2) in the units of coordinates(), and which it is from each patch
    to each landmark, (P landmarks, P patches): as few as there are, they are scored in no time."""
    line = torch.arange(1 - grid, grid)
    rows, columns = (axis.flatten() for axis in torch.meshgrid(line, line, indexing="ij"))
    cells = torch.arange(grid**2)
    down, right = ((part[:, None] - part) + grid - 1 for part in (cells // grid, cells % grid))
    return SLOPE * 2 / grid * torch.stack([columns, rows], -1).float(), down * (2 * grid - 1) + right


def coordinates(grid: int) -> Tensor:
    """(P, 7) of every patch: x to the right and y down, from the image's middle, and products of them: the camera looks
    from the side, so the table's axes are curves to it."""
    line = (torch.arange(grid) + 0.5) / grid * 2 - 1
    y, x = (axis.flatten() for axis in torch.meshgrid(line, line, indexing="ij"))
    return SLOPE * torch.stack([x, y, x * x, y * y, x * y, x * y * y, y * y * y], -1)
