"""pi0's chunk out of noise, going on from steps that are committed (real-time chunking, Black et al. 2025,
arXiv:2506.07339).

B batch (1), T steps of a chunk, A the model's action dimensions. Time runs from 1, noise, to 0, as in the model.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PI0ForConditionalGeneration

GUIDANCE = 5.0  # the most that it is weighed with: the paper's beta, there found for 5 denoising steps


@dataclass(frozen=True)
class Wanted:
    """values (T, A): steps to go on from; weights (T, A): 0 where there are none, 1 where they are executed anyway."""

    values: Tensor
    weights: Tensor


def weights(horizon: int, left: int, frozen: int) -> Tensor:
    """(T,): 1 for what is frozen, then ever less, 0 from `left` on (the paper's equation 5)."""
    places = torch.arange(horizon)
    share = ((left - places) / (left - frozen + 1)).clamp(0, 1)
    soft = share * torch.expm1(share) / torch.expm1(torch.ones(()))
    return torch.where(places < frozen, 1.0, soft)


def continued(model: PI0ForConditionalGeneration, wanted: Wanted, noise: Tensor, state: Tensor, input_ids: Tensor,
              attention_mask: Tensor, pixel_values: Tensor, pixel_attention_mask: Tensor) -> Tensor:
    """The chunk (B, T, A), as sample_actions() makes it of these inputs, but drawn to what is wanted in each step."""
    seen = prefix(model, input_ids, attention_mask, pixel_values, pixel_attention_mask)
    steps = model.config.num_inference_steps
    actions = noise
    for step in range(steps):
        time = 1 - step / steps
        with torch.enable_grad():
            actions = actions.detach().requires_grad_()
            velocity = model(state=state, noise=actions, timestep=actions.new_full((1,), time, dtype=torch.float32),
                             attention_mask=attention_mask, pixel_attention_mask=pixel_attention_mask,
                             past_key_values=copy.deepcopy(seen)).logits
            made = actions - time * velocity  # where this leads
            pull, = torch.autograd.grad(made, actions, (wanted.values - made).detach() * wanted.weights)
        actions = actions.detach() + (guidance(time) * pull - velocity.detach()) / steps
    return actions


def guidance(time: float) -> float:
    """The paper's min(beta, (1 - t) / (t r^2)) with its t = 1 - time, r^2 = (1 - t)^2 / (t^2 + (1 - t)^2)."""
    t = 1 - time
    return min(GUIDANCE, (t**2 + time**2) / (t * time)) if t > 0 else GUIDANCE


@torch.no_grad()
def prefix(model: PI0ForConditionalGeneration, input_ids: Tensor, attention_mask: Tensor, pixel_values: Tensor,
           pixel_attention_mask: Tensor):
    """Keys and values of images and words, which all steps read."""
    embeds = model.model.embed_prefix(input_ids, pixel_values, pixel_attention_mask)
    return model.model.vlm(inputs_embeds=embeds, attention_mask=attention_mask,
                           position_ids=attention_mask.cumsum(-1) - 1, token_type_ids=torch.zeros_like(input_ids),
                           use_cache=True).past_key_values
