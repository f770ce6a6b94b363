"""What is minimised in each stage, and the figures that tell how far it is."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vla_ros.model import vocabulary as vocab
from vla_ros.model.look import NAMED
from vla_ros.model.modeling import Sight, VlaModel
from vla_ros.training.batches import (
    NAMED_KINDS,
    NAMES,
    NOWHERE,
    PATCH,
    THERE_NOT,
    UNKNOWN,
    UNSEEN,
    Batch,
    Drill,
    Questions,
    parts_of,
)
from vla_ros.training.instructing import NONE

SMOOTHING = 2.0  # [bins] a neighbouring bin is nearly right: standard deviation of the target distribution
REACH = 7  # [bins] of it that are counted to either side
AUGMENT_BRIGHTNESS, AUGMENT_CHANNEL = 0.25, 0.10
LOOK_JITTER = 0.4  # [px] of the point that the actions are trained to follow: about the error of the look
NEVER = -1e4  # logit of what is not to be held against a name
AROUND = 1  # [patches] that a thing reaches around the one that holds its middle
OFFSET_WEIGHT, VERDICT_WEIGHT, KIND_WEIGHT, MARK_WEIGHT = 0.1, 0.5, 1.0, 1.0

Figures = dict[str, Tensor]  # of one number each: reading one makes a GPU wait, so only what is logged is read


class Objective(nn.Module):
    """The loss of one batch, as a module, so that data-parallel training can wrap it.

    acting: whether the actions are trained on pictures; without, only the look and the verdict are.
    """

    def __init__(self, model: VlaModel, acting: bool):
        super().__init__()
        self.model, self.acting = model, acting

    def forward(self, batch: Batch | Questions | None, drill: Drill | None,
                generator: torch.Generator) -> tuple[Tensor, Figures]:
        """The sum of both losses."""
        parts = [part for part in (batch and self._pictures(batch, generator), drill and self._drill(drill)) if part]
        losses, figures = zip(*parts, strict=True)
        return sum(losses), {name: value.detach() for part in figures for name, value in part.items()}

    def _drill(self, drill: Drill) -> tuple[Tensor, Figures]:
        logits = self.model.act(self.model.intend(drill.text)[drill.owner], drill.look, drill.proprio, drill.shape)
        loss, figures = action_loss(logits, drill.actions, torch.ones_like(drill.owner, dtype=torch.bool))
        return loss, {f"drill_{name}": value for name, value in figures.items()}

    def _pictures(self, batch: Batch | Questions, generator: torch.Generator) -> tuple[Tensor, Figures]:
        pixels = augment(pixels_of(batch.image), generator)
        if isinstance(batch, Questions):
            logits, sight = self.model.answer_logits(pixels, batch.text, batch.answer[..., :-1])
            answered, said = answer_loss(logits, batch.answer)
            return answered + look_loss(self.model, sight, batch)[0] + count_loss(self.model, sight, batch), said
        if not self.acting:
            return sight_loss(self.model, self.model.see(pixels, batch.text)[0], batch)
        noise = LOOK_JITTER * torch.randn(batch.point.shape, generator=generator).to(batch.point)
        look = self.model.look.tokens(batch.point + noise, places(self.model, batch)).flatten(2)
        sight, actions = self.model(pixels, batch.text, batch.proprio, look, batch.shape)
        seen, said = sight_loss(self.model, sight, batch)
        acted, also = action_loss(actions, batch.actions, batch.verdict == vocab.VERDICTS.index("act"))
        return seen + acted, said | also


def pixels_of(image: Tensor) -> Tensor:
    """uint8 (B, H, W, 3) -> float (B, 3, H, W) in [-1, 1]."""
    return image.permute(0, 3, 1, 2).float() / 127.5 - 1


def augment(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Another light: brightness and colour balance. The geometry stays, since the camera is fixed."""
    b = len(pixels)
    gain = 1 + AUGMENT_BRIGHTNESS * (2 * torch.rand(b, 1, 1, 1, generator=generator) - 1)
    gain = gain * (1 + AUGMENT_CHANNEL * (2 * torch.rand(b, 3, 1, 1, generator=generator) - 1))
    return ((pixels + 1) * gain.to(pixels) - 1).clamp(-1, 1)


def places(model: VlaModel, batch: Batch) -> Tensor:
    """(B, K, 3) where each look should end: a patch, P for 'not there', P + 1 for 'nowhere'."""
    count = model.config.grid**2
    patch = torch.where(batch.where == THERE_NOT, count, cells(model, batch.point))
    return torch.where((batch.where == NOWHERE) | (batch.where == UNKNOWN), count + 1, patch)


def cells(model: VlaModel, pixels: Tensor) -> Tensor:
    """Pixels (..., 2) -> the patches (...) that hold them; what lies outside goes to the nearest."""
    c = model.config
    cell = (pixels / c.patch_size).floor().long().clamp(0, c.grid - 1)
    return cell[..., 1] * c.grid + cell[..., 0]


def sight_loss(model: VlaModel, sight: Sight, batch: Batch) -> tuple[Tensor, Figures]:
    """The look, the verdict, and each object's patch against the names of all kinds."""
    look, figures = look_loss(model, sight, batch)
    verdict = F.cross_entropy(sight.verdict.float().flatten(0, 1), batch.verdict.flatten())
    judged = (sight.verdict.argmax(-1) == batch.verdict).float().mean()
    kind, kinds = kind_loss(model, sight.patches, batch)
    shape, shapes = shape_loss(model, sight.patches, batch)
    figures |= {"verdict_right": judged, "named_right": kinds, "shape_right": shapes}
    return look + VERDICT_WEIGHT * verdict + KIND_WEIGHT * kind + shape, figures


def look_loss(model: VlaModel, sight: Sight, batch: Batch | Questions) -> tuple[Tensor, Figures]:
    """Contrastive: each text's things, and their landmarks, against every patch and the other places; and the offset
    inside the patch."""
    place = places(model, batch)
    there = (batch.where == PATCH) & inside(model, batch.point)
    counts = there | (batch.where == THERE_NOT) | (batch.where == NOWHERE)
    logits = sight.look_logits.float()
    if isinstance(batch, Batch):
        logits = logits.masked_fill(never_together(model, batch, place), NEVER)
    look = F.cross_entropy(logits[counts], place[counts])
    guess = model.look.point(sight.patches, sight.query, place.clamp(max=model.config.grid**2 - 1))
    offset = ((guess - batch.point).abs().sum(-1) * there).sum() / there.sum().clamp(min=1)  # 0, not NaN, without any
    marks, told = mark_loss(model, sight, batch)
    with torch.no_grad():
        right = sight.look_logits.argmax(-1) == place
        named = there & (torch.arange(there.shape[-1], device=there.device) < len(NAMED))
        by_place = named[..., :len(NAMED)] & (batch.mark != NONE)
    figures = {"look": look, "look_right": right[named].float().mean(), "offset_px": offset,
               "mark_right": told, "look_right_by_mark": right[..., :len(NAMED)][by_place].float().mean()}
    return look + OFFSET_WEIGHT * offset + MARK_WEIGHT * marks, figures


def unseen(shape: Tensor, colour: Tensor) -> Tensor:
    """Whether shapes never were shown in colours; both indices, as parts_of() has them."""
    return torch.from_numpy(UNSEEN).to(shape.device)[shape, colour]


def never_together(model: VlaModel, batch: Batch, place: Tensor) -> Tensor:
    """(B, K, 3, P + 2) what is not to be held against a name: 'the blue cube' is no cone, but that cones never are blue
    says nothing of what is blue. Without that a pair that never was shown scores low by each of its parts.

    So logits are adjusted by what the data hold together (Menon et al. 2021, arXiv:2007.07314), here never or at times.
    """
    shape, colour = batch.kind[:, None, None, :, 2], batch.kind[:, None, None, :, 1]
    never = unseen(shape, batch.said[..., 1:]) | unseen(batch.said[..., :1], colour)  # (B, K, 2, M)
    never &= inside(model, batch.pixels)[:, None, None]
    grid, cell = model.config.grid, cells(model, batch.pixels)[..., None]
    patch = torch.arange(grid**2, device=cell.device)
    near = ((cell // grid - patch // grid).abs() <= AROUND) & ((cell % grid - patch % grid).abs() <= AROUND)
    never = F.pad((never[..., None] & near[:, None, None]).any(-2), (0, 2, 0, 1))  # no other places, and no hand
    return never.scatter(-1, place[..., None], False)


def mark_loss(model: VlaModel, sight: Sight, batch: Batch | Questions) -> tuple[Tensor, Tensor]:
    """Landmarks of target and reference, 'nowhere' where there are none; and the share of them that is found."""
    if not model.config.spatial:
        return torch.zeros(()), torch.tensor(float("nan"))
    is_there = batch.mark != NONE
    rows = torch.arange(len(batch.mark), device=batch.mark.device)[:, None, None]
    point = batch.pixels[rows, batch.mark.clamp(min=0)]
    place = torch.where(is_there, cells(model, point), model.config.grid**2 + 1)
    counts = (~is_there | inside(model, point)) & (batch.where[..., :len(NAMED)] != UNKNOWN)
    right = (sight.mark_logits.argmax(-1) == place)[counts & is_there].float().mean()
    loss = F.cross_entropy(sight.mark_logits.float()[counts], place[counts], reduction="sum")
    return loss / counts.sum().clamp(min=1), right


def count_loss(model: VlaModel, sight: Sight, batch: Questions) -> Tensor:
    """What is counted is looked at all at once: each of its patches as likely as the others."""
    counted = batch.counted & inside(model, batch.pixels)[:, None]
    patch = cells(model, batch.pixels)[:, None].expand_as(counted)
    likely = sight.look_logits[:, :, 0].float().log_softmax(-1).gather(-1, patch)
    share = counted / counted.sum(-1, keepdim=True).clamp(min=1)
    return -(likely * share).sum() / counted.any(-1).sum().clamp(min=1)


def inside(model: VlaModel, pixels: Tensor) -> Tensor:
    """Which of pixels (..., 2) are in the image."""
    return ((pixels >= 0) & (pixels < model.config.image_size)).all(-1)


def kind_loss(model: VlaModel, patches: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Which name is an object's, for its patch alone; and the share of whole names that is right. Every image teaches
    all of its objects so, whichever the instructions are about.

    Its colour and its shape are named apart as well: a pair that never was shown is found by what each of them means.
    """
    patch = cells(model, batch.pixels)
    chosen = patches.gather(1, patch[..., None].expand(-1, -1, patches.shape[-1]))
    key = F.normalize(model.look.patch_key(chosen), dim=-1)
    names = model.name(batch.names).to(key.dtype)
    logits = torch.einsum("bmw,nlw->bmln", key, names).float() * model.look.scale.exp().clamp(max=100)
    shapes, colours = torch.tensor([parts_of(kind) for kind in NAMED_KINDS], device=patch.device).T
    never = unseen(batch.kind[..., 2:], colours) | unseen(shapes, batch.kind[..., 1:2])  # (B, M, N)
    logits = logits.masked_fill(never[:, :, None], NEVER)
    seen, losses, rights = inside(model, batch.pixels), [], []
    for part, among in enumerate(logits.split(NAMES, -1)):
        wanted = torch.where(seen, batch.kind[..., part], -1)[..., None].expand(among.shape[:-1])
        count = (wanted >= 0).sum().clamp(min=1)
        loss = F.cross_entropy(among.flatten(0, -2), wanted.flatten(), ignore_index=-1, reduction="sum")
        losses.append(loss / count)
        rights.append(((among.argmax(-1) == wanted) & (wanted >= 0)).sum() / count)
    return sum(losses), rights[0]


def shape_loss(model: VlaModel, patches: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """What shape an object has, for its patch alone; and the share that is right."""
    if not model.config.shapes:
        return torch.zeros(()), torch.tensor(float("nan"))
    wanted = torch.where(inside(model, batch.pixels), batch.shapes, model.config.shapes)
    logits = model.look.shapes(patches, cells(model, batch.pixels)[:, None])[:, 0]
    counts = wanted < model.config.shapes
    loss = F.cross_entropy(logits[counts], wanted[counts], reduction="sum") / counts.sum().clamp(min=1)
    return loss, (logits.argmax(-1) == wanted)[counts].float().mean()


def action_loss(logits: Tensor, bins: Tensor, counts: Tensor) -> tuple[Tensor, Figures]:
    """Cross-entropy of the action tokens (..., Q, bins) against their bins (..., Q), smoothed over the neighbours; only
    what counts (...) does, and nothing gives 0."""
    logits, bins = logits[counts].float(), bins[counts]
    around = torch.arange(-REACH, REACH + 1, device=logits.device)
    near = bins[..., None] + around
    weight = torch.exp(-0.5 * (around / SMOOTHING) ** 2) * ((near >= 0) & (near < logits.shape[-1]))
    likely = (logits.gather(-1, near.clamp(0, logits.shape[-1] - 1)) * weight).sum(-1) / weight.sum(-1)
    loss = (logits.logsumexp(-1) - likely).sum() / max(bins.numel(), 1)
    with torch.no_grad():
        away = (logits.argmax(-1) - bins).abs().float().sum() / max(bins.numel(), 1)
    return loss, {"action": loss, "bins_away": away}


def answer_loss(logits: Tensor, answer: Tensor) -> tuple[Tensor, Figures]:
    """logits (B, K, A - 1, vocab) of the words after each of answer (B, K, A)."""
    wanted = answer[..., 1:]
    counts = wanted != vocab.PAD
    loss = F.cross_entropy(logits.float()[counts], wanted[counts])
    with torch.no_grad():
        right = ((logits.argmax(-1) == wanted) | ~counts).all(-1).float().mean()
    return loss, {"answer": loss, "answer_right": right}
