"""The vision towers: vision transformers whose parameters have the names of timm's, in which checkpoints store them.

Written out here rather than taken from timm, which needs torchvision, whose build must be the very one of torch's.
B images, N tokens, C channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vla_ros.openvla.configuration import Tower

TOKENS = ("cls_token", "reg_token")
UNREAD = ("norm.", "fc_norm.", "attn_pool.", "head.")  # parameters behind the features that are taken


class VisionTransformer(nn.Module):
    """All blocks but the last: the features are those of the one before it."""

    def __init__(self, c: Tower):
        super().__init__()
        self.config = c
        self.unread = (*UNREAD, f"blocks.{c.depth - 1}.")
        self.patch_embed = nn.ModuleDict(
            {"proj": nn.Conv2d(3, c.width, c.patch, stride=c.patch, bias=not c.pre_norm)})
        if c.class_token:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, c.width))
        if c.registers:
            self.reg_token = nn.Parameter(torch.zeros(1, c.registers, c.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, c.patches + c.prefix * c.placed, c.width))
        self.norm_pre = nn.LayerNorm(c.width, c.eps) if c.pre_norm else nn.Identity()
        self.blocks = nn.ModuleList(Block(c) for _ in range(c.depth - 1))

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels (B, 3, H, W), normalised, to features of the patches (B, N, C)."""
        x = self.patch_embed["proj"](pixels).flatten(2).transpose(1, 2)
        first = [getattr(self, token).expand(len(x), -1, -1) for token in TOKENS if hasattr(self, token)]
        if self.config.placed:
            x = torch.cat([*first, x], 1) + self.pos_embed
        else:
            x = torch.cat([*first, x + self.pos_embed], 1)
        x = self.norm_pre(x)
        for block in self.blocks:
            x = block(x)
        return x[:, self.config.prefix:]


class Block(nn.Module):
    def __init__(self, c: Tower):
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(c.width, c.eps), Attention(c)
        self.norm2, self.mlp = nn.LayerNorm(c.width, c.eps), Mlp(c)
        self.ls1, self.ls2 = (Scale(c.width), Scale(c.width)) if c.scaled else (nn.Identity(), nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class Attention(nn.Module):
    def __init__(self, c: Tower):
        super().__init__()
        self.heads = c.heads
        self.qkv, self.proj = nn.Linear(c.width, 3 * c.width), nn.Linear(c.width, c.width)

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c))


class Mlp(nn.Module):
    def __init__(self, c: Tower):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(c.width, c.mlp), nn.Linear(c.mlp, c.width)
        self.act = quick_gelu if c.act == "quick_gelu" else F.gelu

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class Scale(nn.Module):
    """A learnt factor a channel; checkpoints call timm's gamma scale_factor."""

    def __init__(self, width: int):
        super().__init__()
        self.scale_factor = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale_factor


def quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)
