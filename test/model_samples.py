"""A small model with random weights, and its tokenizer, for the tests of the model and of its policy."""

from __future__ import annotations

import torch

from vla_ros import words
from vla_ros.model import vocabulary as vocab
from vla_ros.model.configuration import VlaConfig
from vla_ros.model.modeling import VlaModel
from vla_ros.observing import PROPRIOCEPTION
from vla_ros.profile import RobotProfile, load_profile

PANDA = load_profile("panda")
TOKENIZER = vocab.build_tokenizer(words.corpus())
torch.set_num_threads(1)  # with such small tensors more threads only wait for each other
STD = 0.25  # of every weight matrix: so large that everything that is seen shows in what comes out


def tiny(profile: RobotProfile = PANDA, **changes) -> VlaModel:
    """The same weights every time."""
    torch.manual_seed(0)
    felt, names = PROPRIOCEPTION[profile.kind], profile.action.names
    settings = dict(
        vocab_size=len(TOKENIZER), image_size=profile.cameras["front"].width, vision_width=32, vision_layers=1,
        vision_heads=2, width=32, layers=2, heads=2, mlp=48, expert_width=48, expert_layers=2, expert_token=16,
        action_spec=profile.action.to_dict(),
        action_low=[0.0 if name == "gripper" else -0.03 for name in names],
        action_high=[1.0 if name == "gripper" else 0.03 for name in names], proprio_names=list(felt),
        proprio_low=[-1.0] * len(felt), proprio_high=[1.0] * len(felt), robot=profile.name)
    model = VlaModel(VlaConfig(**settings | changes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=STD)
    return model


MODEL = tiny()
WORDS = vocab.Words(TOKENIZER, MODEL.config.text_length)
