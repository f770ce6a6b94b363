"""The native VLA: a ViT, an MLP projector, and a decoder-only language model over one vocabulary.

Letters: B images, K instructions an image, G patches along a side (P = G*G patches), I image tokens of the
language model, L text tokens, Q action tokens (horizon x dim), S tokens of one instruction, d width.

    [image: I] [text: L] [look x, look y] [proprioception] [action queries: Q]

Image tokens see each other; text sees the text before it; look, proprioception and queries see everything of
their instruction. So an image is encoded once for any number of instructions, the text alone says what to look
for, and all action tokens are decoded in one pass.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import DynamicCache, LlamaConfig, LlamaModel, PreTrainedModel, ViTConfig, ViTModel

from vla_ros.model import vocabulary as vocab
from vla_ros.model.configuration import VlaConfig

LOOK_TOKENS, PROPRIO_TOKENS = 2, 1
BANDS = 6  # octaves of the Fourier features of proprioception


@dataclass(frozen=True)
class Output:
    """look_logits (B, K, P + 1), the last for 'not there'; query (B, K, look_width); actions (B, K, Q, bins);
    patches (B, P, vision_width)."""

    look_logits: Tensor
    query: Tensor
    actions: Tensor
    patches: Tensor


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


class VlaModel(PreTrainedModel):
    """See the module. Weights are saved and opened by save_pretrained and from_pretrained, in safetensors."""

    config_class = VlaConfig
    base_model_prefix = "vla"

    def __init__(self, config: VlaConfig):
        super().__init__(config)
        c, d = config, config.width
        self.vision = ViTModel(ViTConfig(
            hidden_size=c.vision_width, num_hidden_layers=c.vision_layers, num_attention_heads=c.vision_heads,
            intermediate_size=2 * c.vision_width, image_size=c.image_size, patch_size=c.patch_size,
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
            attn_implementation="eager"), add_pooling_layer=False)
        self.vision.embeddings.patch_embeddings.projection = ConvStem(c.vision_width, c.patch_size)
        self.projector = nn.Sequential(nn.Linear(c.vision_width * c.pool**2, d), nn.GELU(), nn.Linear(d, d))
        self.language = LlamaModel(LlamaConfig(
            vocab_size=c.vocab_size, hidden_size=d, num_hidden_layers=c.layers, num_attention_heads=c.heads,
            num_key_value_heads=c.heads, intermediate_size=c.mlp, max_position_embeddings=512,
            pad_token_id=vocab.PAD, attn_implementation="eager"))
        proprio = len(c.proprio_names or [""])
        self.proprio = nn.Sequential(nn.Linear(proprio * (1 + 2 * BANDS), d), nn.GELU(), nn.Linear(d, d))
        self.action_queries = nn.Parameter(torch.randn(c.queries, d) * 0.02)
        self.patch_key = nn.Linear(c.vision_width, c.look_width)
        self.text_query = nn.Linear(d, c.look_width)
        self.absent_key = nn.Parameter(torch.randn(c.look_width))
        self.look_scale = nn.Parameter(torch.tensor(2.5))
        self.offset = nn.Sequential(nn.Linear(c.vision_width + c.look_width, 64), nn.GELU(), nn.Linear(64, 2))
        self.post_init()
        self._smooth_positions()

    def _init_weights(self, module):
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.trunc_normal_(module.weight, std=0.02 if isinstance(module, nn.Linear) else 0.1)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    @torch.no_grad()
    def _smooth_positions(self) -> None:
        """Neighbouring positions and neighbouring action bins begin with like embeddings, as their values are alike."""
        table = self.language.embed_tokens.weight
        for start, count in ((vocab.LOOK_X, vocab.LOOK_BINS), (vocab.LOOK_Y, vocab.LOOK_BINS),
                             (vocab.ACTIONS, vocab.ACTION_BINS)):
            if table.is_meta:
                return
            x = torch.linspace(-1, 1, count)[:, None]
            waves = torch.cat([f(x * torch.pi * 2.0**k) for k in range(-1, BANDS) for f in (torch.sin, torch.cos)], 1)
            mix = torch.randn(waves.shape[1], table.shape[1]) / waves.shape[1] ** 0.5
            table[start:start + count] = waves @ mix * 0.05

    # --- parts -------------------------------------------------------------------------------------------------

    def encode_image(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """pixels (B, 3, H, W) in [-1, 1] -> patches (B, P, vision_width), image tokens (B, I, d)."""
        patches = self.vision(pixels).last_hidden_state[:, 1:]
        b, p, w = patches.shape
        g, n = self.config.grid, self.config.pool
        blocks = patches.view(b, g // n, n, g // n, n, w).transpose(2, 3).reshape(b, (g // n) ** 2, n * n * w)
        return patches, self.projector(blocks)

    def encode_proprio(self, proprio: Tensor) -> Tensor:
        """proprio (..., D) normalised to [-1, 1] -> (..., 1, d)."""
        waves = [f(proprio * torch.pi * 2.0**k) for k in range(-1, BANDS - 1) for f in (torch.sin, torch.cos)]
        return self.proprio(torch.cat([proprio, *waves], -1)).unsqueeze(-2)

    def look(self, patches: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """patches (B, P, vision_width), text (B, K, d) -> logits (B, K, P + 1), queries (B, K, look_width)."""
        keys = F.normalize(self.patch_key(patches), dim=-1)
        absent = F.normalize(self.absent_key, dim=-1).expand(len(patches), 1, -1)
        query = F.normalize(self.text_query(text), dim=-1)
        logits = query @ torch.cat([keys, absent.to(keys.dtype)], 1).transpose(1, 2)
        return logits * self.look_scale.exp().clamp(max=100), query

    def point(self, patches: Tensor, query: Tensor, patch: Tensor) -> Tensor:
        """Where in the image the named thing is: pixels (B, K, 2), from the patch (B, K) that holds it."""
        chosen = patches.gather(1, patch[..., None].expand(-1, -1, patches.shape[-1]))
        offset = self.offset(torch.cat([chosen, query.to(chosen.dtype)], -1)).float()
        g, size = self.config.grid, self.config.patch_size
        centre = torch.stack([patch % g, patch // g], -1) + 0.5
        return (centre + offset) * size

    def look_tokens(self, pixels: Tensor) -> Tensor:
        """Pixels (..., 2) -> token ids (..., 2) of x and y."""
        bins = (pixels / self.config.image_size * vocab.LOOK_BINS).floor().long().clamp(0, vocab.LOOK_BINS - 1)
        return bins + torch.tensor([vocab.LOOK_X, vocab.LOOK_Y], device=pixels.device)

    def action_logits(self, hidden: Tensor) -> Tensor:
        """hidden (..., d) -> (..., bins): scores of the action tokens, against their own embeddings."""
        table = self.language.embed_tokens.weight[vocab.ACTIONS:vocab.WORDS]
        return F.linear(hidden, table)

    # --- passes ------------------------------------------------------------------------------------------------

    def forward(self, pixels: Tensor, text_ids: Tensor, proprio: Tensor, look_ids: Tensor) -> Output:
        """K instructions on each image, in one pass, for training.

        pixels (B, 3, H, W); text_ids (B, K, L); proprio (B, D); look_ids (B, K, 2) token ids to act on.
        """
        b, k, length = text_ids.shape
        patches, memory = self.remember(pixels)
        memory.batch_repeat_interleave(k)
        embed = self.language.embed_tokens
        body = self.encode_proprio(proprio)[:, None].expand(-1, k, -1, -1)
        queries = self.action_queries.expand(b, k, -1, -1)
        parts = [embed(text_ids), embed(look_ids), body, queries]
        tokens = torch.cat([part.to(patches.dtype) for part in parts], 2).flatten(0, 1)  # (B*K, S, d)
        text_mask = (text_ids != vocab.PAD).flatten(0, 1)
        hidden = self._run(tokens, self.segment_mask(text_mask), memory).unflatten(0, (b, k))
        text = self._mean(hidden[:, :, :length], text_ids != vocab.PAD)
        logits, query = self.look(patches, text)
        return Output(logits, query, self.action_logits(hidden[:, :, -self.config.queries:]), patches)

    def remember(self, pixels: Tensor) -> tuple[Tensor, DynamicCache]:
        """Reads images: patches (B, P, vision_width), and the language model's memory of their image tokens."""
        patches, image = self.encode_image(pixels)
        memory = DynamicCache(config=self.language.config)
        self._run(image, torch.ones(1, image.shape[1], image.shape[1], dtype=torch.bool, device=image.device), memory)
        return patches, memory

    def find(self, pixels: Tensor, text_ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The look alone: the text is read without any image. For contrastive pre-training.

        Returns logits (B, K, P + 1), queries (B, K, look_width), patches (B, P, vision_width).
        """
        patches, _ = self.encode_image(pixels)
        mask = (text_ids != vocab.PAD).flatten(0, 1)
        causal = torch.ones(mask.shape[1], mask.shape[1], dtype=torch.bool, device=mask.device).tril()
        memory = DynamicCache(config=self.language.config)
        tokens = self.language.embed_tokens(text_ids.flatten(0, 1))
        start = (self.config.grid // self.config.pool) ** 2
        hidden = self._run(tokens, causal[None] & mask[:, None, :], memory, start)
        return *self.look(patches, self._mean(hidden, mask).unflatten(0, text_ids.shape[:2])), patches

    @torch.no_grad()
    def see(self, pixels: Tensor, text_ids: Tensor) -> tuple[Tensor, Tensor, DynamicCache]:
        """First half of inference, one image, one instruction text_ids (1, L).

        Returns look probabilities (P + 1,), the point in the image (2,) [px], and the memory for act().
        """
        patches, memory = self.remember(pixels)
        text_mask = text_ids != vocab.PAD
        tokens = self.language.embed_tokens(text_ids)
        hidden = self._run(tokens, self.segment_mask(text_mask)[:, :text_ids.shape[1]], memory)
        logits, query = self.look(patches, self._mean(hidden, text_mask)[:, None])
        probabilities = logits[0, 0].float().softmax(-1)
        patch = probabilities[:-1].argmax()
        return probabilities, self.point(patches, query, patch.view(1, 1))[0, 0], memory

    @torch.no_grad()
    def act(self, memory: DynamicCache, text_ids: Tensor, look_ids: Tensor, proprio: Tensor) -> Tensor:
        """Second half: look_ids (1, 2), proprio (1, D) -> action logits (Q, bins)."""
        tokens = torch.cat([self.language.embed_tokens(look_ids), self.encode_proprio(proprio),
                            self.action_queries[None]], 1)
        mask = self.segment_mask(text_ids != vocab.PAD)[:, text_ids.shape[1]:]
        return self.action_logits(self._run(tokens, mask, memory)[0, -self.config.queries:])

    def segment_mask(self, text_mask: Tensor) -> Tensor:
        """Which token of an instruction sees which: text_mask (N, L) -> bool (N, S, I + S)."""
        n, length = text_mask.shape
        images = (self.config.grid // self.config.pool) ** 2
        size = length + LOOK_TOKENS + PROPRIO_TOKENS + self.config.queries
        seen = torch.zeros(size, images + size, dtype=torch.bool, device=text_mask.device)
        seen[:length, images:images + length] = torch.ones_like(seen[:length, :length]).tril()
        seen[length:] = True
        visible = torch.ones(n, images + size, dtype=torch.bool, device=text_mask.device)
        visible[:, images:images + length] = text_mask
        return seen[None] & visible[:, None, :]

    def _run(self, tokens: Tensor, mask: Tensor, memory: DynamicCache, start: int = 0) -> Tensor:
        """tokens (N, S, d) after what `memory` holds; mask bool (N, S, before + S or more), True where seen.

        start: position of the first token when nothing is before it.
        """
        before, count = memory.get_seq_length(), tokens.shape[1]
        mask = mask[:, :, :before + count]
        added = torch.zeros(mask.shape, dtype=tokens.dtype, device=tokens.device).masked_fill(~mask, -1e4)[:, None]
        positions = torch.arange(count, device=tokens.device)[None] + (before or start)
        return self.language(inputs_embeds=tokens, attention_mask=added, position_ids=positions,
                             past_key_values=memory, use_cache=True).last_hidden_state

    @staticmethod
    def _mean(hidden: Tensor, mask: Tensor) -> Tensor:
        """Mean of hidden (..., L, d) over the tokens in mask (..., L)."""
        weight = mask.to(hidden.dtype).unsqueeze(-1)
        return (hidden * weight).sum(-2) / weight.sum(-2).clamp(min=1)
