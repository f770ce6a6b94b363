"""How good a stage is, on scenes that training never sees: does it find, judge and answer?"""

from __future__ import annotations

from collections import defaultdict
from statistics import mean

import numpy as np
import torch

from vla_ros.model import vocabulary as vocab
from vla_ros.model.look import NAMED
from vla_ros.model.modeling import VlaModel
from vla_ros.referring import whole_names
from vla_ros.sim.world import CONTAINERS
from vla_ros.training.batches import KINDS, PATCH, THERE_NOT, Labeller
from vla_ros.training.instructing import View
from vla_ros.training.losses import pixels_of, places
from vla_ros.training.practice import Practice
from vla_ros.transforms import QuantileNormaliser

IMAGES, TEXTS, BATCHES = 25, 4, 8
PRACTICE = {"texts": 64, "robots": 512}
DECISIONS = 40  # of the model in practice


@torch.no_grad()
def measure(model: VlaModel, labeller: Labeller, asks: bool, seed: int = 0) -> dict:
    """Retrieval, look, verdict and, where it `asks`, questions; shares are 0 to 1."""
    model.eval()
    asked = {"questions": questions(model, labeller, seed)} if asks else {}
    return retrieval(model, labeller, seed) | sight(model, labeller, seed) | asked


@torch.no_grad()
def motor(model: VlaModel, labeller: Labeller, seed: int = 0) -> dict:
    """How far, on average, the action tokens are from the expert's in states that the model itself got into [bins], by
    family."""
    model.eval()
    c, away = model.config, defaultdict(list)
    practice = Practice(model, labeller, QuantileNormaliser(c.proprio_low, c.proprio_high),
                        QuantileNormaliser(c.action_low, c.action_high), **PRACTICE)
    for step in range(DECISIONS):
        drill = practice.batch(np.random.default_rng([seed, 4, step]), step).to(model.device)
        logits = model.act(model.intend(drill.text)[drill.owner], drill.look, drill.proprio, drill.shape)
        off = (logits.argmax(-1) - drill.actions).abs().float().mean(-1).cpu()
        for slot, asked in enumerate(practice.asked):
            away[asked.family] += off[practice.owner == slot].tolist()
    return {"actions": {name: mean(away[name]) for name in sorted(away)}}


@torch.no_grad()
def retrieval(model: VlaModel, labeller: Labeller, seed: int) -> dict:
    """Between the regions of the objects in IMAGES scenes and the names of all kinds of object: recall@1 and @5.

    A region counts as found when it is of the kind that was named.
    """
    f = labeller._draw(np.random.default_rng([seed, 1]), IMAGES * 4)
    views = [View.of(f, i) for i in range(len(f["image"]))]
    text = torch.tensor([labeller.words.encode(f"the {whole_names(kind)[0]}") for kind in KINDS])
    keys, true = [], []
    for i, view in enumerate(views):
        image = pixels_of(torch.from_numpy(f["image"][i:i + 1])).to(model.device)
        patches, _ = model.remember(image)
        patch = (torch.from_numpy(f["pixels"][i]) / model.config.patch_size).long().clamp(0, model.config.grid - 1)
        key = torch.nn.functional.normalize(model.look.patch_key(patches[0]), dim=-1)
        for j, (shape, colour) in enumerate(view.kinds):
            keys.append(key[patch[j, 1] * model.config.grid + patch[j, 0]])
            true.append(KINDS.index((shape, "" if shape in CONTAINERS else colour)))
    scores, true = torch.stack(keys) @ model.name(text.to(model.device))[:, 0].T, torch.tensor(true)
    named = true.unique()
    out = {}
    for n in (1, 5):
        words_of_region = scores.topk(n, 1).indices.cpu()
        regions_of_word = true[scores.topk(n, 0).indices.cpu()[:, named]]
        out[f"region_to_words@{n}"] = float((words_of_region == true[:, None]).any(1).float().mean())
        out[f"words_to_region@{n}"] = float((regions_of_word == named).any(0).float().mean())
    return {"retrieval": out}


@torch.no_grad()
def sight(model: VlaModel, labeller: Labeller, seed: int) -> dict:
    """Where it looks, and what it refuses."""
    c, rng = model.config, np.random.default_rng([seed, 2])
    proprio = QuantileNormaliser(c.proprio_low, c.proprio_high)
    found, errors, judged, named = [], [], defaultdict(list), len(NAMED)
    for _ in range(BATCHES):
        batch = labeller.batch(rng, IMAGES, TEXTS, proprio, None).to(model.device)
        seen, _ = model.see(pixels_of(batch.image), batch.text)
        place, there = places(model, batch), batch.where == PATCH
        guess = seen.look_logits.argmax(-1)
        point = model.look.point(seen.patches, seen.query, guess.clamp(max=c.grid**2 - 1))
        guess, there, point = guess[..., :named], there[..., :named], point[..., :named, :]
        error = (point - batch.point[..., :named, :]).norm(dim=-1)
        found += ((error < c.patch_size / 2) & (guess < c.grid**2))[there].tolist()
        errors += error[there & (guess < c.grid**2)].tolist()
        judged["not there"] += (guess == place[..., :named])[batch.where[..., :named] == THERE_NOT].tolist()
        for wanted, made in zip(batch.verdict.flatten().tolist(), seen.verdict.argmax(-1).flatten(), strict=True):
            judged[vocab.VERDICTS[wanted]].append(wanted == int(made))
    return {"look": {"found": mean(found), "median_px": float(np.median(errors)) if errors else None},
            "verdict": {name: mean(right) for name, right in judged.items() if right}}


@torch.no_grad()
def questions(model: VlaModel, labeller: Labeller, seed: int) -> dict:
    """Share of whole answers that are right, by the kind of question, and of all.

    Said greedily, an answer is right where each of its words is the likeliest after the right ones before it.
    """
    rng, right = np.random.default_rng([seed, 3]), defaultdict(list)
    for _ in range(BATCHES):
        batch, kinds = labeller.questions(rng, IMAGES, TEXTS)
        batch = batch.to(model.device)
        logits, _ = model.answer_logits(pixels_of(batch.image), batch.text, batch.answer[..., :-1])
        wanted = batch.answer[..., 1:]
        said = ((logits.argmax(-1) == wanted) | (wanted == vocab.PAD)).all(-1)
        for kind, answered in zip(sum(kinds, []), said.flatten().tolist(), strict=True):
            right[kind].append(answered)
    return {kind: mean(shares) for kind, shares in right.items()} | {"all": mean(sum(right.values(), []))}
