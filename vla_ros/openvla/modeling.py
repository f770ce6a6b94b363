"""The model: vision towers, projector, Llama. Its parameters have the names that OpenVLA checkpoints store.

P patches, L words of a prompt, D action tokens, W width of the language model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from vla_ros.openvla.configuration import OpenVlaConfig
from vla_ros.openvla.vision import VisionTransformer

TOWERS = ("featurizer", "fused_featurizer")


@dataclass(frozen=True)
class Said:
    """What the model says to a prompt, word by word: tokens (D,) and the probability (D,) that it gave each."""

    tokens: np.ndarray
    probabilities: np.ndarray


class OpenVla(nn.Module):
    def __init__(self, c: OpenVlaConfig):
        super().__init__()
        self.config = c
        names = TOWERS[:len(c.towers)]
        self.vision_backbone = nn.ModuleDict(
            {name: VisionTransformer(tower) for name, tower in zip(names, c.towers, strict=True)})
        llama = LlamaConfig(**c.llama)
        self.projector = Projector(c.width, llama.hidden_size, fused=len(names) > 1)
        self.language_model = LlamaForCausalLM(llama)

    @classmethod
    def empty(cls, config: OpenVlaConfig) -> OpenVla:
        """Without memory for parameters: load_state_dict(..., assign=True) and then complete() give it some."""
        with torch.device("meta"):
            return cls(config).eval()

    def complete(self, device: torch.device | str) -> OpenVla:
        """Adds what no checkpoint stores: the frequencies of the rotary embeddings, in float32."""
        self.language_model.model.rotary_emb = LlamaRotaryEmbedding(self.language_model.config).to(device)
        return self

    @property
    def room(self) -> int:
        """Positions that there are for patches, prompt and actions."""
        return self.language_model.config.max_position_embeddings

    def unread(self, name: str) -> bool:
        """Whether a stored tensor of that name is of a part that never acts."""
        if name.endswith("rotary_emb.inv_freq"):
            return True
        return any(name.startswith(f"vision_backbone.{part}.{prefix}")
                   for part, tower in self.vision_backbone.items() for prefix in tower.unread)

    def look(self, pixels: Sequence[Tensor]) -> Tensor:
        """pixels (1, 3, H, W) a tower: what the language model reads of an image, (1, P, W)."""
        features = [tower(image) for tower, image in zip(self.vision_backbone.values(), pixels, strict=True)]
        return self.projector(torch.cat(features, 2))

    def embed(self, ids: Tensor, pixels: Sequence[Tensor]) -> Tensor:
        """ids (1, L), pixels (1, 3, H, W) a tower: (1, P + L, W), the patches behind the first word."""
        words = self.language_model.get_input_embeddings()(ids)
        return torch.cat([words[:, :1], self.look(pixels), words[:, 1:]], 1)

    @torch.inference_mode()
    def say(self, ids: Sequence[int], pixels: Sequence[Tensor], count: int) -> Said:
        """The `count` words that are likeliest one after the other. pixels: (3, H, W) a tower, float32."""
        where = self.language_model.lm_head.weight
        images = [image[None].to(where.device, where.dtype) for image in pixels]
        embeds = self.embed(torch.tensor([list(ids)], device=where.device), images)
        cache, tokens, probabilities = DynamicCache(config=self.language_model.config), [], []
        for _ in range(count):
            logits = self.language_model(inputs_embeds=embeds, past_key_values=cache, use_cache=True,
                                         logits_to_keep=1).logits[0, -1].float()
            token = logits.argmax()
            tokens.append(int(token))
            probabilities.append(float(logits.softmax(-1)[token]))
            embeds = self.language_model.get_input_embeddings()(token.view(1, 1))
        return Said(np.array(tokens), np.array(probabilities))


class Projector(nn.Module):
    """Features of a patch to one word: two layers, or three of which the first widens, for two towers."""

    def __init__(self, width: int, out: int, fused: bool):
        super().__init__()
        hidden = 4 * width if fused else out
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, out)
        if fused:
            self.fc3 = nn.Linear(out, out)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc2(F.gelu(self.fc1(x)))
        return self.fc3(F.gelu(x)) if hasattr(self, "fc3") else x
