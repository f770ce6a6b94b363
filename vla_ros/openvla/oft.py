"""OpenVLA-OFT: what is beside the weights of an OpenVLA, all steps of a chunk at once.

Kim et al. 2025, arXiv:2502.19645.

T steps of a chunk, D numbers of an action, P patches of all images, L words of a prompt, W width of the language model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional as F

from vla_ros.errors import CheckpointError
from vla_ros.openvla.configuration import HEAD, PROPRIO, beside
from vla_ros.openvla.modeling import OpenVla
from vla_ros.untrusted import first_line, lacking_weights, require_finite, stored

BLOCKS = 2  # of the head
END = 2  # the word that ends a text, Llama 2's
ENDING = ".safetensors"
WRAPPED = "module."  # before the names of what was trained on several GPUs


class Block(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.ffn = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return x + self.ffn(x)


class Mlp(nn.Module):
    def __init__(self, taken: int, width: int, given: int):
        super().__init__()
        self.layer_norm1, self.fc1 = nn.LayerNorm(taken), nn.Linear(taken, width)
        self.mlp_resnet_blocks = nn.ModuleList(Block(width) for _ in range(BLOCKS))
        self.layer_norm2, self.fc2 = nn.LayerNorm(width), nn.Linear(width, given)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.fc1(self.layer_norm1(x)))
        for block in self.mlp_resnet_blocks:
            x = block(x)
        return self.fc2(self.layer_norm2(x))


class ActionHead(nn.Module):
    """The states of an action's D places, side by side, to its D numbers."""

    def __init__(self, width: int, dim: int):
        super().__init__()
        self.model = Mlp(width * dim, width, dim)

    def forward(self, states: Tensor) -> Tensor:
        """(1, T * D, W) to (T, D)."""
        return self.model(states.view(-1, self.model.layer_norm1.normalized_shape[0]))


class ProprioProjector(nn.Module):
    """The robot's state, (1, N) in [-1, 1], to one word (1, W)."""

    def __init__(self, width: int, numbers: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(numbers, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


@dataclass(frozen=True)
class Parts:
    """What is beside the weights. numbers: of the robot's state, 0 where the model reads none."""

    head: ActionHead
    proprio: ProprioProjector | None

    @property
    def dim(self) -> int:
        return self.head.model.fc2.out_features

    @property
    def numbers(self) -> int:
        return self.proprio.fc1.in_features if self.proprio else 0


def open_parts(folder: Path, model: OpenVla) -> Parts:
    """In the type and on the device of the model. Raises CheckpointError with what is wrong."""
    width, like = model.language_model.config.hidden_size, model.language_model.lm_head.weight
    where, tensors = f"{HEAD} of {folder}", read_part(part_file(folder, HEAD), like)
    head = filled(ActionHead(width, sizes(tensors, "model.fc2.weight", where)[0]), tensors, where)
    if not beside(folder, PROPRIO):
        return Parts(head, None)
    where, tensors = f"{PROPRIO} of {folder}", read_part(part_file(folder, PROPRIO), like)
    return Parts(head, filled(ProprioProjector(width, sizes(tensors, "fc1.weight", where)[1]), tensors, where))


def part_file(folder: Path, name: str) -> Path:
    files = sorted(folder.glob(f"{name}*{ENDING}"))
    if len(files) > 1:
        raise CheckpointError(f"checkpoint {folder} has {len(files)} files {name}*{ENDING}: leave the one "
                              "that is meant")
    if not files:
        raise lacking_weights(folder, f"{name}{ENDING}", name)
    return files[0]


def read_part(file: Path, like: Tensor) -> dict[str, Tensor]:
    stored([file])
    try:
        with safe_open(file, framework="pt", device=str(like.device)) as opened:
            tensors = {name.removeprefix(WRAPPED): opened.get_tensor(name).to(like.dtype)
                       for name in opened.keys()}  # noqa: SIM118 - it is no mapping
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file} is damaged: {first_line(error)}") from error
    require_finite(tensors.items(), str(file))
    return tensors


def sizes(tensors: dict[str, Tensor], name: str, where: str) -> tuple[int, int]:
    """Of a matrix: numbers that it gives and that it takes."""
    if name not in tensors or tensors[name].ndim != 2:
        raise CheckpointError(f"{where} has no matrix {name}: it is none of a regression of the actions (L1), the one "
                              "kind that is known here")
    return tuple(tensors[name].shape)


def filled(part: nn.Module, tensors: dict[str, Tensor], where: str) -> nn.Module:
    try:
        part.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        raise CheckpointError(f"{where} does not fit: {' '.join(str(error).split())[:200]}") from error
    return part.eval().requires_grad_(False)


@torch.inference_mode()
def predict(model: OpenVla, parts: Parts, ids: Sequence[int], images: Sequence[Sequence[Tensor]],
            state: Tensor | None, steps: int) -> Tensor:
    """All `steps` actions in one pass, float32 (T, D) as the head was taught them.

    ids: (L,) of the prompt; images: of each camera a float32 (3, H, W) a tower; state: (N,) in [-1, 1]. Behind the
    prompt come T * D empty places and the end of a text, and every place sees every other.
    """
    like = model.language_model.lm_head.weight
    words = model.language_model.get_input_embeddings()
    prompt = words(torch.tensor([list(ids)], device=like.device))
    seen = [model.look([tower[None].to(like.device, like.dtype) for tower in image]) for image in images]
    if parts.proprio is not None:
        seen.append(parts.proprio(state[None].to(like.device, like.dtype))[:, None])
    empty = prompt.new_zeros(1, steps * parts.dim, prompt.shape[-1])
    end = words(torch.tensor([[END]], device=like.device))
    embeds = torch.cat([prompt[:, :1], *seen, prompt[:, 1:], empty, end], 1)
    length = embeds.shape[1]
    states = model.language_model.model(inputs_embeds=embeds, use_cache=False,
                                        attention_mask=embeds.new_zeros(1, 1, length, length)).last_hidden_state
    first = length - 1 - empty.shape[1] - 1  # the place before that of an action says it, as for any word
    return parts.head(states[:, first:first + empty.shape[1]]).float()
