"""The action expert: from what an instruction intends, where its things are and what the body feels, to action tokens.

It reads no image, so it can be trained on states that were never rendered, by the thousand a second. What the image
has to say reaches it as looks and as the shape of what they end at, no more: given features of the patches that it
looks at, it did worse, see docs/default_model.md.

Letters: N instructions, D proprioception, Q action tokens, d width of the language model.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vla_ros.model import vocabulary as vocab
from vla_ros.model.configuration import VlaConfig
from vla_ros.model.look import LOOKS, NAMED

LOOK_TOKENS = 2 * len(LOOKS)
BANDS = 6  # octaves of the Fourier features of proprioception and looks


class Block(nn.Module):
    """A residual layer whose inner units the intent scales and shifts (FiLM, Perez et al. 2018, arXiv:1709.07871):
    which motion follows from a place is another function for every family."""

    def __init__(self, width: int, intent: int):
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, width), nn.Linear(width, width)
        self.film = nn.Linear(intent, 2 * width)

    def forward(self, hidden: Tensor, intent: Tensor) -> Tensor:
        gain, shift = self.film(intent).chunk(2, -1)
        return hidden + self.down(nn.functional.gelu(self.up(self.norm(hidden)) * (1 + gain) + shift))


class ActionExpert(nn.Module):
    """Hidden states of all action tokens at once; the model scores them against its vocabulary."""

    def __init__(self, c: VlaConfig):
        super().__init__()
        known = (len(c.proprio_names or [""]) + LOOK_TOKENS) * (1 + 2 * BANDS) + LOOK_TOKENS
        width = c.expert_width
        self.known, self.intent = nn.Linear(known, width), nn.Linear(c.intent_width, width)
        # Of target and reference; the last is none, or one that is not known.
        self.shape = nn.Parameter(torch.zeros(len(NAMED), c.shapes + 1, width)) if c.shapes else None
        self.blocks = nn.ModuleList(Block(width, c.intent_width) for _ in range(c.expert_layers))
        self.queries = nn.Parameter(torch.randn(c.queries, c.width) * 0.02)
        self.out, self.lift = nn.Linear(width, c.queries * c.expert_token), nn.Linear(c.expert_token, c.width)
        self.norm = nn.RMSNorm(c.width)

    def forward(self, intent: Tensor, look_ids: Tensor, proprio: Tensor, shape: Tensor | None = None) -> Tensor:
        """intent (N, intent_width); look_ids (N, 6); proprio (N, D) normalised to [-1, 1]; shape (N, 2) of what is
        looked at as target and reference, None: not known -> (N, Q, d).

        Words alone do not always say how high a thing is: "the blue one".
        """
        hidden = self.known(self.features(look_ids, proprio)) + self.intent(intent)
        if self.shape is not None:
            named = torch.arange(len(NAMED), device=intent.device)
            hidden = hidden + self.shape[named, -1 if shape is None else shape].sum(-2)
        for block in self.blocks:
            hidden = block(hidden, intent)
        tokens = self.out(hidden).unflatten(-1, (len(self.queries), -1))
        return self.norm((self.lift(tokens) + self.queries).float())

    @staticmethod
    def features(look_ids: Tensor, proprio: Tensor) -> Tensor:
        """Places in [-1, 1] and proprioception with their Fourier features, and which looks point at something."""
        first = torch.tensor([vocab.LOOK_X, vocab.LOOK_Y] * len(LOOKS), device=look_ids.device)
        there = (look_ids >= vocab.LOOK_X) & (look_ids < vocab.ACTIONS)
        places = torch.where(there, (look_ids - first + 0.5) / vocab.LOOK_BINS * 2 - 1, 0.0)
        known = torch.cat([proprio.float(), places.float()], -1)
        waves = [f(known * torch.pi * 2.0**k) for k in range(-1, BANDS - 1) for f in (torch.sin, torch.cos)]
        return torch.cat([known, *waves, there.float()], -1)
