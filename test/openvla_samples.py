"""Small OpenVLA checkpoints with random weights, in the layout of the real ones, for the tests and the benchmark."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, normalizers

from vla_ros.openvla.configuration import EMPTY_WORD, Tower, read_config
from vla_ros.openvla.files import Checkpoint
from vla_ros.openvla.modeling import OpenVla, Said
from vla_ros.openvla.prompt import prompt_ids

WORDS, PADDING, BINS = 32000, 64, 256  # of the vocabulary, as Llama 2's is in OpenVLA
DINO = Tower(14, 48, 3, 4, 96, 42, registers=4, placed=False, scaled=True)
SIGLIP = Tower(14, 40, 4, 2, 100, 42, class_token=False)
CLIP = Tower(14, 32, 3, 2, 64, 42, pre_norm=True, eps=1e-5, act="quick_gelu")
IN1K = Tower(14, 32, 3, 2, 64, 42)
BACKBONES = {"dinosiglip-vit-so-224px": (DINO, SIGLIP), "siglip-vit-so400m": (SIGLIP,), "dinov2-vit-l": (DINO,),
             "clip-vit-l": (CLIP,), "in1k-vit-l": (IN1K,), "dinoclip-vit-l-336px": (DINO, CLIP)}
FUSED, SINGLE = "dinosiglip-vit-so-224px", "siglip-vit-so400m"
MEANS = {DINO: ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]), SIGLIP: ([0.5] * 3, [0.5] * 3),
         IN1K: ([0.5] * 3, [0.5] * 3),
         CLIP: ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])}
BRIDGE = {"action": {"q01": [-0.028, -0.041, -0.026, -0.08, -0.092, -0.2, 0.0],
                     "q99": [0.028, 0.04, 0.04, 0.081, 0.077, 0.2, 1.0],
                     "mask": [True] * 6 + [False]}}
OTHER = {"action": {"q01": [-0.1] * 7, "q99": [0.3] * 7}}  # without a mask: all of it was normalised
WORDING = "Put the red cube in the tray"
torch.set_num_threads(1)  # with such small tensors more threads only wait for each other
ACTION_GAIN = 12.0  # of the action words' logits: so that a random model says nothing else


def config(backbone: str = FUSED, **changes) -> dict:
    """The content of config.json, with the towers above in the place of those that `backbone` names."""
    towers = BACKBONES[backbone]
    return {
        "model_type": "openvla", "architectures": ["OpenVLAForActionPrediction"], "vision_backbone_id": backbone,
        "llm_backbone_id": "llama2-7b-pure", "arch_specifier": "no-align+gelu-mlp", "n_action_bins": BINS,
        "use_fused_vision_backbone": len(towers) > 1, "image_resize_strategy": "resize-naive", "pad_token_id": WORDS,
        "pad_to_multiple_of": PADDING, "vision_towers": [asdict(tower) for tower in towers],
        "image_sizes": [tower.image_size for tower in towers],
        "timm_model_ids": [f"tiny_{i}" for i in range(len(towers))],
        "timm_override_act_layers": [tower.act if tower is CLIP else None for tower in towers],
        "text_config": {"model_type": "llama", "vocab_size": WORDS + PADDING, "hidden_size": 32, "pad_token_id": WORDS,
                        "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4},
        "norm_stats": {"bridge_orig": BRIDGE},
    } | changes


def preprocessor(backbone: str = FUSED, **changes) -> dict:
    """The content of preprocessor_config.json."""
    towers = BACKBONES[backbone]
    return {"use_fused_vision_backbone": len(towers) > 1, "image_resize_strategy": "resize-naive",
            "input_sizes": [[3, tower.image_size, tower.image_size] for tower in towers],
            "interpolations": ["bicubic"] * len(towers), "means": [MEANS[tower][0] for tower in towers],
            "stds": [MEANS[tower][1] for tower in towers]} | changes


@cache
def tokenizer() -> str:
    """The content of tokenizer.json. Reads like Llama 2's: spaces as '▁', one before the text, bytes for what it does
    not know; characters and a few words, and as many ids as Llama 2 has."""
    pieces = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"<0x{byte:02X}>": 3 + byte for byte in range(256)}
    merges = [("▁", letter) for letter in "abcdefghijklmnopqrstuvwxyzIO"] + [("t", "h"), ("▁", "th"), ("▁th", "e"),
                                                                            ("o", "u"), ("c", "u")]
    made = ["".join(pair) for pair in merges if "".join(pair) != "▁the"] + ["▁the"]
    pieces |= {piece: 1000 + i for i, piece in enumerate(made)}
    letters = ["▁", *"etaoinsrlhdcmupgfbywkvxjzq:.,?'-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ\"!()"]
    pieces |= {letter: EMPTY_WORD + i for i, letter in enumerate(letters)}
    free = [i for i in range(WORDS) if i not in set(pieces.values())]
    pieces |= {f"<{i}>": i for i in free}
    made = Tokenizer(models.BPE(pieces, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                      decoders.Strip(" ", 1, 0)])
    made.add_special_tokens(["<s>", "</s>", "<unk>"])
    made.add_special_tokens(["<PAD>"])
    content = json.loads(made.to_str())
    content["model"]["merges"] = [" ".join(pair) for pair in merges]  # as older versions of the library write them
    return json.dumps(content)


def weights(content: dict, seed: int = 0, gain: float = ACTION_GAIN, dtype: torch.dtype = torch.float32) -> dict:
    """Random tensors under the names of a checkpoint, those of the parts that never act included.

    gain: of the logits of action words, over those of others.
    """
    read = read_config(content)
    shapes = {name: tensor.shape for name, tensor in OpenVla.empty(read).state_dict().items()}
    for part, tower in zip(("featurizer", "fused_featurizer"), read.towers, strict=False):
        begin = f"vision_backbone.{part}."
        block = {name: shape for name, shape in shapes.items() if name.startswith(f"{begin}blocks.0.")}
        shapes |= {name.replace("blocks.0.", f"blocks.{tower.depth - 1}."): shape for name, shape in block.items()}
        shapes |= {f"{begin}norm.{kind}": (tower.width,) for kind in ("weight", "bias")}
        shapes |= {} if tower.class_token else {f"{begin}attn_pool.latent": (1, 1, tower.width)}
    random = torch.Generator().manual_seed(seed)
    made = {}
    for name, shape in shapes.items():
        tensor = torch.randn(shape, generator=random)
        matrix = len(shape) > 1 and not name.endswith(("pos_embed", "token"))
        made[name] = tensor * (0.6 / shape[-1] ** 0.5 * 2 if matrix else 0.3) + (name.endswith("norm.weight") * 1.0)
    made["language_model.model.embed_tokens.weight"].mul_(3)
    made["language_model.lm_head.weight"][WORDS - BINS:WORDS] *= gain
    return {name: tensor.to(dtype).contiguous() for name, tensor in made.items()}


def write(folder: Path, backbone: str = FUSED, *, seed: int = 0, shards: int = 1, gain: float = ACTION_GAIN,
          dtype: torch.dtype = torch.float32, images: dict | None = None, **changes) -> Path:
    """A whole checkpoint. changes: of config.json; images: of preprocessor_config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    content = config(backbone, **changes)
    (folder / "config.json").write_text(json.dumps(content))
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor(backbone, **images or {})))
    (folder / "tokenizer.json").write_text(tokenizer())
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer"}))
    tensors = weights(content, seed, gain, dtype)
    names = [list(tensors)[i::shards] for i in range(shards)]
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return folder
    places = {}
    for i, part in enumerate(names):
        file = f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
        save_file({name: tensors[name] for name in part}, folder / file, metadata={"format": "pt"})
        places |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return folder


def changed(folder: Path, file: str = "config.json", **changes) -> Path:
    """The folder, with other values in one of its JSON files."""
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


def picture(seed: int = 0, height: int = 60, width: int = 80) -> np.ndarray:
    """Noise, uint8 (height, width, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def said(checkpoint: Checkpoint, image: np.ndarray | None = None, words: str = WORDING, count: int = 7) -> Said:
    ids = prompt_ids(words, checkpoint.config, checkpoint.tokenizer)
    return checkpoint.model.say(ids, checkpoint.images.read(picture() if image is None else image), count)
