"""What the model sees with: a ViT over the patches of an image, behind a convolutional stem."""

from __future__ import annotations

from torch import Tensor, nn
from transformers import ViTConfig, ViTModel

from vla_ros.model.configuration import VlaConfig


class ConvStem(nn.Sequential):
    """Stride-2 convolutions down to one vector a patch, in place of ViT's one projection.

    With it small objects bind to words within minutes of training (Xiao et al. 2021, arXiv:2106.14881).
    """

    def __init__(self, channels: int, patch: int):
        layers, width, steps = [], 3, patch.bit_length() - 1
        for i in range(steps):
            out = channels // 2 ** (steps - 1 - i)
            layers += [nn.Conv2d(width, out, 3, stride=2, padding=1), nn.GELU()]
            width = out
        super().__init__(*layers, nn.Conv2d(width, channels, 1))

    @property
    def weight(self) -> Tensor:
        """ViTModel asks its projection's weight for the type that images should have."""
        return self[-1].weight


def make_vision(c: VlaConfig) -> ViTModel:
    model = ViTModel(ViTConfig(
        hidden_size=c.vision_width, num_hidden_layers=c.vision_layers, num_attention_heads=c.vision_heads,
        intermediate_size=2 * c.vision_width, image_size=c.image_size, patch_size=c.patch_size,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, attn_implementation="eager"),
        add_pooling_layer=False)
    model.embeddings.patch_embeddings.projection = ConvStem(c.vision_width, c.patch_size)
    return model


class Projector(nn.Sequential):
    """Blocks of pool x pool patches to one token of the language model each."""

    def __init__(self, c: VlaConfig):
        self.grid, self.pool = c.grid, c.pool
        width = c.vision_width * c.pool**2
        super().__init__(nn.Linear(width, c.width), nn.GELU(), nn.Linear(c.width, c.width))

    def forward(self, patches: Tensor) -> Tensor:
        """patches (B, P, vision_width) -> image tokens (B, I, d)."""
        b, _, w = patches.shape
        g, n = self.grid // self.pool, self.pool
        blocks = patches.view(b, g, n, g, n, w).transpose(2, 3).reshape(b, g * g, n * n * w)
        return super().forward(blocks)
