"""Configuration of the native model."""

from __future__ import annotations

from transformers import PreTrainedConfig


class VlaConfig(PreTrainedConfig):
    """Sizes, and what the numbers of its inputs and outputs mean.

    text_length:   most tokens of an instruction or a question; answer_length: of an answer.
    action_spec:   ActionSpec as a dictionary; action_low, action_high: 1 % and 99 % quantiles, one per dimension.
    proprio_names: what the proprioception vector holds; proprio_low, proprio_high: its normalisation.
    camera:        name of the image that it reads.
    spatial:       whether it understands names by place ("the leftmost cube"), and looks before it answers.
    peaks:         how many of the things that fit its words an answer can tell apart; 0: it cannot count.
    shapes:        how many shapes it tells apart by sight, for how high a thing is; 0: only words say that.
    robot:         name of the robot profile that it was trained on.
    """

    model_type = "vla_ros"

    def __init__(self, vocab_size: int = 2048, image_size: int = 128, patch_size: int = 8, vision_width: int = 128,
                 vision_layers: int = 3, vision_heads: int = 2, width: int = 128, layers: int = 4, heads: int = 2,
                 mlp: int = 384, text_length: int = 40, answer_length: int = 8, pool: int = 2, look_width: int = 64,
                 expert_width: int = 512, expert_layers: int = 4, expert_token: int = 64,
                 action_spec: dict | None = None, action_low: list[float] | None = None,
                 action_high: list[float] | None = None, proprio_names: list[str] | None = None,
                 proprio_low: list[float] | None = None, proprio_high: list[float] | None = None,
                 camera: str = "front", robot: str = "",
                 spatial: bool = True, peaks: int = 0, shapes: int = 0, **kwargs):
        self.vocab_size, self.image_size, self.patch_size = vocab_size, image_size, patch_size
        self.vision_width, self.vision_layers, self.vision_heads = vision_width, vision_layers, vision_heads
        self.width, self.layers, self.heads, self.mlp = width, layers, heads, mlp
        self.text_length, self.answer_length, self.pool, self.look_width = text_length, answer_length, pool, look_width
        self.expert_width, self.expert_layers, self.expert_token = expert_width, expert_layers, expert_token
        self.action_spec, self.action_low, self.action_high = action_spec, action_low, action_high
        self.proprio_names, self.proprio_low, self.proprio_high = proprio_names, proprio_low, proprio_high
        self.camera, self.robot, self.spatial = camera, robot, spatial
        self.peaks, self.shapes = peaks, shapes
        super().__init__(**kwargs)

    @property
    def grid(self) -> int:
        """Patches along a side of the image."""
        return self.image_size // self.patch_size

    @property
    def image_tokens(self) -> int:
        """Tokens that the language model reads of an image."""
        return (self.grid // self.pool) ** 2

    @property
    def sought(self) -> int:
        """Things that are looked for: target and reference, and the landmark of each."""
        return 4 if self.spatial else 2

    @property
    def intent_width(self) -> int:
        """What is to be done, and what the words look for as target and reference."""
        return self.width + 2 * self.look_width * self.spatial

    @property
    def queries(self) -> int:
        """Action tokens in a chunk."""
        spec = self.action_spec or {"horizon": 1, "names": [""]}
        return spec["horizon"] * len(spec["names"])
