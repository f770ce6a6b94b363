"""What the config.json of an OpenVLA checkpoint says. Read strictly, without torch and without code of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from vla_ros.errors import CheckpointError, ConfigError, UnknownNameError
from vla_ros.naming import PARTS
from vla_ros.untrusted import read_json, require_modest

MODEL_TYPE = "openvla"
CONFIG = "config.json"
HEAD, NOISE, PROPRIO, VISION = PARTS  # of OpenVLA-OFT, beside the weights
UNKNOWN = {NOISE: "actions by diffusion", VISION: "vision that is told the words (FiLM)"}
EMPTY_WORD = 29871  # the Llama tokenizer's empty piece, which training put between the prompt and the actions
ACTS = ("gelu", "quick_gelu")


def whole(value: Any) -> bool:
    """A whole number above 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


@dataclass(frozen=True)
class Tower:
    """A vision transformer. Lengths of sides in px, widths in channels.

    depth:     blocks in the checkpoint; the last is never run: the features are what comes out of the one before.
    class_token, registers: tokens before those of the patches; placed: they have position embeddings too.
    pre_norm:  a norm before the blocks, and no bias of the patches' projection. scaled: learnt scales of the branches.
    """

    patch: int
    width: int
    depth: int
    heads: int
    mlp: int
    image_size: int = 224
    class_token: bool = True
    registers: int = 0
    placed: bool = True
    pre_norm: bool = False
    scaled: bool = False
    eps: float = 1e-6
    act: str = "gelu"

    def __post_init__(self):
        numbers = {n: getattr(self, n) for n in ("patch", "width", "depth", "heads", "mlp", "image_size")}
        wrong = [f"{n} {v!r}" for n, v in numbers.items() if not whole(v)]
        if wrong or self.registers < 0 or self.width % self.heads or self.patch > self.image_size or self.depth < 2:
            raise CheckpointError(f"a vision tower of {', '.join(wrong) or numbers} cannot be")
        if self.act not in ACTS:
            raise UnknownNameError("activation of a vision tower", self.act, ACTS)

    @property
    def prefix(self) -> int:
        """Tokens before those of the patches."""
        return int(self.class_token) + self.registers

    @property
    def patches(self) -> int:
        """What is left over at the right and the bottom of an image belongs to no patch."""
        return (self.image_size // self.patch) ** 2


CLIP = Tower(14, 1024, 24, 16, 4096, pre_norm=True, eps=1e-5, act="quick_gelu")
DINO = Tower(14, 1024, 24, 16, 4096, registers=4, placed=False, scaled=True)
SIGLIP = Tower(14, 1152, 27, 16, 4304, class_token=False)
TOWERS = {
    "vit_large_patch14_clip_224.openai": CLIP,
    "vit_large_patch14_clip_336.openai": CLIP,
    "vit_large_patch14_reg4_dinov2.lvd142m": DINO,
    "vit_large_patch16_224.augreg_in21k_ft_in1k": Tower(16, 1024, 24, 16, 4096),
    "vit_so400m_patch14_siglip_224": SIGLIP,
    "vit_so400m_patch14_siglip_384": SIGLIP,
}
BACKBONES = {  # by vision_backbone_id: image size [px], towers
    "clip-vit-l": (224, ("vit_large_patch14_clip_224.openai",)),
    "clip-vit-l-336px": (336, ("vit_large_patch14_clip_336.openai",)),
    "dinov2-vit-l": (224, ("vit_large_patch14_reg4_dinov2.lvd142m",)),
    "in1k-vit-l": (224, ("vit_large_patch16_224.augreg_in21k_ft_in1k",)),
    "siglip-vit-so400m": (224, ("vit_so400m_patch14_siglip_224",)),
    "siglip-vit-so400m-384px": (384, ("vit_so400m_patch14_siglip_384",)),
    "dinoclip-vit-l-336px": (336, ("vit_large_patch14_reg4_dinov2.lvd142m", "vit_large_patch14_clip_336.openai")),
    "dinosiglip-vit-so-224px": (224, ("vit_large_patch14_reg4_dinov2.lvd142m", "vit_so400m_patch14_siglip_224")),
    "dinosiglip-vit-so-384px": (384, ("vit_large_patch14_reg4_dinov2.lvd142m", "vit_so400m_patch14_siglip_384")),
}
PURE, CHAT = "pure", "chat"  # how a language model is asked (prompt.py)
LANGUAGE_MODELS = {"llama2-7b-pure": PURE, "llama2-13b-pure": PURE, "vicuna-v15-7b": CHAT, "vicuna-v15-13b": CHAT}
LLAMA = {  # what config.json may say of the language model, and what holds where it does not
    "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": None, "hidden_act": "silu", "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6, "attention_bias": False, "bos_token_id": 1}


@dataclass(frozen=True)
class OpenVlaConfig:
    """towers: one, or two whose features are put side by side. llama: as LlamaConfig takes it. style: PURE or CHAT.

    words:   ids that the tokenizer knows: the rest of the vocabulary is padding. Of them the last `bins` are actions.
    statistics: of each data set, as config.json has them; empty where it has none.
    """

    towers: tuple[Tower, ...]
    llama: Mapping[str, Any]
    style: str
    words: int
    bins: int
    statistics: Mapping[str, Any]

    def __post_init__(self):
        if len({tower.patches for tower in self.towers}) != 1 or len(self.towers) > 2:
            raise CheckpointError(f"one vision tower, or two of as many patches; config.json has towers of "
                                  f"{[tower.patches for tower in self.towers]}")
        if not EMPTY_WORD < self.words or not 1 < self.bins < self.words:
            raise CheckpointError(f"a vocabulary of {self.words} words, {self.bins} of them actions, is not Llama 2's")

    @property
    def width(self) -> int:
        """Channels of a patch's features."""
        return sum(tower.width for tower in self.towers)

    @property
    def patches(self) -> int:
        return self.towers[0].patches


def open_config(folder: Path) -> OpenVlaConfig:
    """Raises CheckpointError or UnknownNameError."""
    if not folder.is_dir():
        raise CheckpointError(f"no checkpoint folder {folder}")
    if not (folder / CONFIG).is_file():
        raise CheckpointError(f"checkpoint {folder} lacks {CONFIG}")
    for name, what in UNKNOWN.items():
        if beside(folder, name):  # without it the same weights would say other things, and nothing would show it
            raise CheckpointError(f"checkpoint {folder} is one of OpenVLA-OFT with {what} ({name}), unknown here")
    return read_config(read_json(folder / CONFIG))


def beside(folder: Path, name: str) -> bool:
    """Whether there is a file of that part beside the weights, whatever its format."""
    return any(folder.glob(f"{name}*"))


def has_head(folder: Path) -> bool:
    """Whether a checkpoint acts by a head of its own, as those of OpenVLA-OFT do, rather than by words."""
    return beside(folder, HEAD) or beside(folder, PROPRIO)


def undescribed(folder: Path) -> ConfigError:
    """The error for one of OpenVLA-OFT without a file that says what its numbers mean."""
    return ConfigError(f"checkpoint {folder} is one of OpenVLA-OFT: which cameras and state it reads, and what its "
                       "actions mean, is to be said in vla.yaml there, or in a file as in FOLDER?spec=FILE "
                       "(docs/openvla.md)")


def read_config(data: Mapping[str, Any]) -> OpenVlaConfig:
    """Of the content of config.json. auto_map, which names code to run, is not read.

    Raises CheckpointError or UnknownNameError.
    """
    kind = data.get("model_type") if isinstance(data, Mapping) else None
    if kind != MODEL_TYPE:
        raise CheckpointError(f"config.json is of model_type '{kind}', expected '{MODEL_TYPE}'")
    require_modest(data, "config.json")
    style = LANGUAGE_MODELS.get(data.get("llm_backbone_id"))
    if style is None:
        raise UnknownNameError("llm_backbone_id", data.get("llm_backbone_id"), LANGUAGE_MODELS)
    llama = read_llama(data.get("text_config") or {})
    padding, bins = data.get("pad_to_multiple_of", 64), data.get("n_action_bins", 256)
    if not whole(bins) or not (whole(padding) or padding == 0):
        raise CheckpointError(f"n_action_bins {bins!r} and pad_to_multiple_of {padding!r} must be whole numbers")
    statistics = data.get("norm_stats") or {}
    if not isinstance(statistics, Mapping):
        raise CheckpointError(f"norm_stats of config.json must be a mapping, is {type(statistics).__name__}")
    return OpenVlaConfig(read_towers(data), llama, style, llama["vocab_size"] - padding, bins, statistics)


def read_towers(data: Mapping[str, Any]) -> tuple[Tower, ...]:
    """By vision_backbone_id; config.json may have other timm_model_ids, image_sizes and timm_override_act_layers, and
    `vision_towers`, a mapping each, for towers that are not among those known by name."""
    name = data.get("vision_backbone_id")
    if name not in BACKBONES:
        raise UnknownNameError("vision_backbone_id", name, BACKBONES)
    size, ids = BACKBONES[name]
    ids = listed(data, "timm_model_ids", ids)
    unknown = [i for i in ids if i not in TOWERS]
    if "vision_towers" in data:
        towers = [built(described) for described in listed(data, "vision_towers", ())]
    elif unknown:
        raise UnknownNameError("vision tower", unknown[0], TOWERS)
    else:
        towers = [TOWERS[i] for i in ids]
    sizes = listed(data, "image_sizes", [size] * len(towers))
    acts = listed(data, "timm_override_act_layers", [tower.act for tower in towers])
    if not len(towers) == len(sizes) == len(acts):
        raise CheckpointError(f"config.json has {len(towers)} vision towers, {len(sizes)} image_sizes and {len(acts)} "
                              "timm_override_act_layers")
    return tuple(replace(tower, image_size=size, act=act or "gelu")
                 for tower, size, act in zip(towers, sizes, acts, strict=True))


def built(described: Any) -> Tower:
    known = [field.name for field in fields(Tower)]
    if not isinstance(described, Mapping):
        raise CheckpointError(f"each of vision_towers must be a mapping of {', '.join(known)}")
    for key in described:
        if key not in known:
            raise UnknownNameError("key in vision_towers", key, known)
    try:
        return Tower(**described)
    except TypeError as error:
        raise CheckpointError(f"vision_towers: {error}") from error


def read_llama(text: Any) -> dict[str, Any]:
    """As LlamaConfig takes it, from what text_config says; of positions, plain rotary embeddings alone are known."""
    if not isinstance(text, Mapping) or text.get("model_type", "llama") != "llama":
        raise CheckpointError(f"text_config must be that of a llama, is {str(text)[:60]}")
    rope = text.get("rope_parameters") or {}
    if not isinstance(rope, Mapping) or rope.get("rope_type", "default") != "default" or text.get("rope_scaling"):
        raise CheckpointError("text_config scales its rotary embeddings; only plain ones are known")
    llama = {key: text.get(key, default) for key, default in LLAMA.items()}
    numbers = [key for key, default in LLAMA.items() if isinstance(default, int) and not isinstance(default, bool)]
    wrong = [f"{key} {llama[key]!r}" for key in numbers if not whole(llama[key])]
    if wrong:
        raise CheckpointError(f"text_config: {', '.join(wrong)} must be whole numbers above 0")
    theta = rope.get("rope_theta", text.get("rope_theta", 10000.0))
    return llama | {"rope_parameters": {"rope_type": "default", "rope_theta": theta}}


def listed(data: Mapping[str, Any], key: str, default) -> list:
    value = data.get(key)
    if value is not None and not isinstance(value, list):
        raise CheckpointError(f"{key} of config.json must be a list, is {value!r}")
    return list(default) if value is None else value

