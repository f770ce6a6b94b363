"""What is minimised in each stage, and the figures that tell how far it is."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vla_ros.model.modeling import VlaModel
from vla_ros.training.batches import Batch

SMOOTHING = 2.0  # [bins] a neighbouring bin is nearly right: standard deviation of the target distribution
AUGMENT_BRIGHTNESS, AUGMENT_CHANNEL = 0.2, 0.08
LOOK_JITTER = 1.0  # [px] of the point that the actions are trained to follow


def pixels_of(image: Tensor) -> Tensor:
    """uint8 (B, H, W, 3) -> float (B, 3, H, W) in [-1, 1]."""
    return image.permute(0, 3, 1, 2).float() / 127.5 - 1


def augment(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Another light: brightness and colour balance. The geometry stays, since the camera is fixed."""
    b = len(pixels)
    gain = 1 + AUGMENT_BRIGHTNESS * (2 * torch.rand(b, 1, 1, 1, generator=generator) - 1)
    gain = gain * (1 + AUGMENT_CHANNEL * (2 * torch.rand(b, 3, 1, 1, generator=generator) - 1))
    return ((pixels + 1) * gain.to(pixels) - 1).clamp(-1, 1)


def patch_targets(model: VlaModel, point: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
    """The patch (B, K) that holds each point, P for 'not there', and whether the point lies in the image (B, K)."""
    c = model.config
    seen = ((point >= 0) & (point < c.image_size)).all(-1)
    cell = (point / c.patch_size).floor().long().clamp(0, c.grid - 1)
    patch = cell[..., 1] * c.grid + cell[..., 0]
    return torch.where(there, patch, c.grid**2), seen | ~there


def look_loss(model: VlaModel, logits: Tensor, query: Tensor, patches: Tensor, point: Tensor,
              there: Tensor) -> tuple[Tensor, dict[str, float]]:
    """Contrastive: each instruction against every patch and 'not there'; and the offset inside the patch."""
    patch, usable = patch_targets(model, point, there)
    loss = F.cross_entropy(logits.float()[usable], patch[usable])
    boxed = patch.clamp(max=model.config.grid**2 - 1)
    guess = model.point(patches, query, boxed)
    error = (guess - point).abs().sum(-1)[there & usable]
    with torch.no_grad():
        right = (logits.argmax(-1) == patch)[usable].float().mean()
    figures = {"look": loss.item(), "look_right": right.item(), "offset_px": error.mean().item()}
    return loss + 0.1 * error.mean(), figures


def action_loss(logits: Tensor, bins: Tensor, there: Tensor) -> tuple[Tensor, dict[str, float]]:
    """Cross-entropy of the action tokens against their bins (B, K, Q), smoothed over the neighbours; absent ones do not
    count."""
    logits, bins = logits[there].float(), bins[there]
    axis = torch.arange(logits.shape[-1], device=logits.device)
    target = torch.exp(-0.5 * ((axis - bins[..., None]) / SMOOTHING) ** 2)
    target = target / target.sum(-1, keepdim=True)
    loss = -(target * logits.log_softmax(-1)).sum(-1).mean()
    with torch.no_grad():
        away = (logits.argmax(-1) - bins).abs().float().mean()
    return loss, {"action": loss.item(), "bins_away": away.item()}


def batch_loss(model: VlaModel, batch: Batch, generator: torch.Generator,
               acting: bool) -> tuple[Tensor, dict[str, float]]:
    """The loss of one batch; acting=False trains the look alone."""
    device = model.device
    pixels = augment(pixels_of(torch.from_numpy(batch.image)), generator).to(device)
    text, there, point = (torch.from_numpy(a).to(device) for a in (batch.text, batch.there, batch.point))
    if not acting:
        logits, query, patches = model.find(pixels, text)
        return look_loss(model, logits, query, patches, point, there)
    shaken = point + LOOK_JITTER * torch.randn(point.shape, generator=generator).to(point)
    proprio = torch.from_numpy(batch.proprio).to(device)
    out = model(pixels, text, proprio, model.look_tokens(shaken))
    look, said = look_loss(model, out.look_logits, out.query, out.patches, point, there)
    act, also = action_loss(out.actions, torch.from_numpy(batch.actions).to(device), there)
    return look + act, said | also
