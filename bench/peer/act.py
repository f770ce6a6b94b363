"""LeRobot's ACT for one arm and one camera: its configuration, its statistics, and where its weights begin.

Runs in the peer's environment; see README.md.
"""

from __future__ import annotations

import numpy as np
import torch
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.act.modeling_act import ACTPolicy
from torchvision.ops.misc import FrozenBatchNorm2d

IMAGE, STATE, WANTED = "observation.images.front", "observation.state", "observation.environment_state"
ACTION = "action"
LEARNING_RATE = 1e-4  # LeRobot's 1e-5 is for a backbone that knows ImageNet; this one begins with random weights


def configuration(size: int, state: int, wanted: int, horizon: int, dim: int) -> ACTConfig:
    """LeRobot's defaults but for what is said here. size: of the square image [px]; the rest: lengths."""
    return ACTConfig(
        input_features={IMAGE: PolicyFeature(FeatureType.VISUAL, (3, size, size)),
                        STATE: PolicyFeature(FeatureType.STATE, (state,)),
                        WANTED: PolicyFeature(FeatureType.ENV, (wanted,))},
        output_features={ACTION: PolicyFeature(FeatureType.ACTION, (dim,))},
        chunk_size=horizon, n_action_steps=horizon, pretrained_backbone_weights=None, device="cpu", push_to_hub=False,
        optimizer_lr=LEARNING_RATE, optimizer_lr_backbone=LEARNING_RATE)


def statistics(data: dict[str, np.ndarray]) -> dict[str, dict[str, torch.Tensor]]:
    """Means and deviations of what demonstrations.py wrote, as LeRobot's normalisation wants them."""
    def of(values: np.ndarray) -> dict[str, torch.Tensor]:
        axes = tuple(range(values.ndim - 1))
        return {"mean": torch.tensor(values.mean(axes), dtype=torch.float32),
                "std": torch.tensor(values.std(axes), dtype=torch.float32)}
    some = data["image"][::len(data["image"]) // 500 or 1] / np.float32(255)
    image = {name: value.view(3, 1, 1) for name, value in of(some).items()}
    return {IMAGE: image, STATE: of(data["state"]), ACTION: of(data["action"])}


def picture(image: np.ndarray) -> torch.Tensor:
    """(..., 3, H, W) in 0 to 1 from uint8 (..., H, W, 3), as LeRobot reads its videos."""
    return torch.from_numpy(np.array(image)).movedim(-1, -3).float() / 255


@torch.no_grad()
def settle(policy: ACTPolicy, images: torch.Tensor) -> None:
    """Gives the backbone's frozen batch norms the statistics of normalised `images` (B, 3, H, W).

    LeRobot freezes them, with ImageNet's weights at ImageNet's statistics. With random weights they would stay at mean
    0 and variance 1, and a ResNet without any normalisation hardly learns: this is in the peer's favour.
    """
    def measure(norm: FrozenBatchNorm2d, inputs: tuple[torch.Tensor]) -> None:
        norm.running_mean.copy_(inputs[0].mean((0, 2, 3)))
        norm.running_var.copy_(inputs[0].var((0, 2, 3)))
    norms = [module for module in policy.model.backbone.modules() if isinstance(module, FrozenBatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(measure) for norm in norms]
    policy.model.backbone(images)
    for hook in hooks:
        hook.remove()
