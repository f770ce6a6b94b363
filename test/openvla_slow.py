"""What an OpenVLA checkpoint says, worked out the slow way: float64, every word anew from the beginning, no library
but for matrices. tensors: by name, as they are stored; content: that of config.json."""

from __future__ import annotations

from math import erf

import numpy as np


def say(tensors: dict, content: dict, ids: list[int], pixels: list, count: int) -> tuple[list[int], list[float]]:
    """Words and their probabilities, the likeliest each time. pixels: (3, H, W) a tower."""
    w = {name: tensor.double().numpy() for name, tensor in tensors.items()}
    names = ("featurizer", "fused_featurizer")
    features = [see(w, f"vision_backbone.{name}.", tower, np.asarray(image, float))
                for name, tower, image in zip(names, content["vision_towers"], pixels, strict=False)]
    patches = project(w, np.concatenate(features, 1))
    embedded = w["language_model.model.embed_tokens.weight"]
    said, sure = [], []
    for _ in range(count):
        words = embedded[[*ids, *said]]
        logits = read(w, content["text_config"], np.concatenate([words[:1], patches, words[1:]]))
        odds = np.exp(logits - logits.max())
        said.append(int(odds.argmax()))
        sure.append(float(odds.max() / odds.sum()))
    return said, sure


def see(w: dict, at: str, tower: dict, image: np.ndarray) -> np.ndarray:
    """(3, H, W) to (N, C): patch by patch, then all blocks but the last."""
    side, patch = tower["image_size"] // tower["patch"], tower["patch"]
    kernel = w[f"{at}patch_embed.proj.weight"]
    x = np.array([[(kernel * image[:, i * patch:(i + 1) * patch, j * patch:(j + 1) * patch]).sum((1, 2, 3))
                   for j in range(side)] for i in range(side)]).reshape(side * side, -1)
    x = x + w.get(f"{at}patch_embed.proj.bias", 0)
    first = [w[f"{at}{name}"][0] for name in ("cls_token", "reg_token") if f"{at}{name}" in w]
    before = sum(map(len, first))
    if tower["placed"]:
        x = np.concatenate([*first, x]) + w[f"{at}pos_embed"][0]
    else:
        x = np.concatenate([*first, x + w[f"{at}pos_embed"][0]])
    if tower["pre_norm"]:
        x = layer_norm(w, f"{at}norm_pre.", x, tower["eps"])
    for i in range(tower["depth"] - 1):
        block = f"{at}blocks.{i}."
        y = linear(w, f"{block}attn.qkv.", layer_norm(w, f"{block}norm1.", x, tower["eps"]))
        q, k, v = (part.reshape(len(x), tower["heads"], -1) for part in np.split(y, 3, 1))
        y = linear(w, f"{block}attn.proj.", attend(q, k, v, causal=False))
        x = x + y * w.get(f"{block}ls1.scale_factor", 1)
        y = linear(w, f"{block}mlp.fc1.", layer_norm(w, f"{block}norm2.", x, tower["eps"]))
        y = y / (1 + np.exp(-1.702 * y)) if tower["act"] == "quick_gelu" else gelu(y)
        x = x + linear(w, f"{block}mlp.fc2.", y) * w.get(f"{block}ls2.scale_factor", 1)
    return x[before:]


def project(w: dict, x: np.ndarray) -> np.ndarray:
    x = linear(w, "projector.fc2.", gelu(linear(w, "projector.fc1.", x)))
    return linear(w, "projector.fc3.", gelu(x)) if "projector.fc3.weight" in w else x


def read(w: dict, text: dict, x: np.ndarray) -> np.ndarray:
    """(N, W) to the logits of the word that comes next."""
    heads = text["num_attention_heads"]
    size = text["hidden_size"] // heads
    angles = np.arange(len(x))[:, None] / 10000 ** (np.arange(0, size, 2) / size)
    cos, sin = np.tile(np.cos(angles), 2)[:, None], np.tile(np.sin(angles), 2)[:, None]

    def turned(y):
        return y * cos + np.concatenate([-y[..., size // 2:], y[..., :size // 2]], -1) * sin
    for i in range(text["num_hidden_layers"]):
        layer = f"language_model.model.layers.{i}."
        y = rms_norm(w, f"{layer}input_layernorm.", x)
        q, k, v = ((y @ w[f"{layer}self_attn.{name}_proj.weight"].T).reshape(len(x), heads, size) for name in "qkv")
        x = x + attend(turned(q), turned(k), v, causal=True) @ w[f"{layer}self_attn.o_proj.weight"].T
        y = rms_norm(w, f"{layer}post_attention_layernorm.", x)
        gate = y @ w[f"{layer}mlp.gate_proj.weight"].T
        y = gate / (1 + np.exp(-gate)) * (y @ w[f"{layer}mlp.up_proj.weight"].T)
        x = x + y @ w[f"{layer}mlp.down_proj.weight"].T
    return w["language_model.lm_head.weight"] @ rms_norm(w, "language_model.model.norm.", x)[-1]


def attend(q, k, v, causal: bool) -> np.ndarray:
    """(N, heads, size) each, to (N, heads * size)."""
    out = np.zeros_like(v)
    for head in range(q.shape[1]):
        scores = q[:, head] @ k[:, head].T / np.sqrt(q.shape[2])
        if causal:
            scores[np.triu_indices(len(q), 1)] = -np.inf
        odds = np.exp(scores - scores.max(1, keepdims=True))
        out[:, head] = odds / odds.sum(1, keepdims=True) @ v[:, head]
    return out.reshape(len(q), -1)


def linear(w: dict, at: str, x: np.ndarray) -> np.ndarray:
    return x @ w[f"{at}weight"].T + w[f"{at}bias"]


def layer_norm(w: dict, at: str, x: np.ndarray, eps: float) -> np.ndarray:
    centred = x - x.mean(1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(1, keepdims=True) + eps) * w[f"{at}weight"] + w[f"{at}bias"]


def rms_norm(w: dict, at: str, x: np.ndarray) -> np.ndarray:
    return x / np.sqrt((x**2).mean(1, keepdims=True) + 1e-6) * w[f"{at}weight"]


def gelu(x: np.ndarray) -> np.ndarray:
    return x * (1 + np.vectorize(erf)(x / np.sqrt(2))) / 2
