"""Random checkpoints, small or of the published sizes, written by LeRobot itself. Runs in LeRobot's environment:

    DIR/bin/python test/lerobot_samples.py --out FOLDER [--kinds act diffusion smolvla] [--published]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.factory import get_policy_class, make_policy_config, make_pre_post_processors

IMAGE, STATE, ACTION = "observation.images.front", "observation.state", "action"
SIDE, FELT, DIM = 128, 4, 4  # [px] of the image; numbers of the state and of an action, as the Panda's profile has them
STEP, GRIPPER = 0.004, 0.5  # [m] of an action; a fraction
SMALL = {"act": dict(chunk_size=8, n_action_steps=8, dim_model=32, n_heads=2, dim_feedforward=64, n_encoder_layers=1,
                     n_decoder_layers=1, latent_dim=8, n_vae_encoder_layers=1, pretrained_backbone_weights=None),
         "diffusion": dict(n_action_steps=8, horizon=16, down_dims=(32, 64), spatial_softmax_num_keypoints=4,
                           diffusion_step_embed_dim=16, num_inference_steps=3, crop_shape=(112, 112)),
         "smolvla": dict(chunk_size=8, n_action_steps=8, max_state_dim=8, max_action_dim=8, num_vlm_layers=2,
                         num_steps=3, resize_imgs_with_padding=(64, 64))}
# LeRobot's own defaults, which are those of its published checkpoints; SmolVLA's backbone is SmolVLM2-500M.
PUBLISHED = {"act": {"pretrained_backbone_weights": None}, "diffusion": {"pretrained_backbone_weights": None},
             "smolvla": {}}
VISION = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
          "image_size": 512, "patch_size": 16}
TEXT = {"hidden_size": 960, "intermediate_size": 2560, "num_hidden_layers": 32, "num_attention_heads": 15,
        "num_key_value_heads": 5, "head_dim": 64}
SPEC = """
action:
  names: [dx, dy, dz, gripper]
  units: [m, m, m, "1"]
  frame: panda_link0
  mode: delta
  gripper: open_is_one
  period: 0.1
  horizon: {horizon}
images: {{observation.images.front: front}}
state: {{observation.state: [position, gap]}}
"""


def features() -> dict:
    return {"input_features": {IMAGE: PolicyFeature(FeatureType.VISUAL, (3, SIDE, SIDE)),
                               STATE: PolicyFeature(FeatureType.STATE, (FELT,))},
            "output_features": {ACTION: PolicyFeature(FeatureType.ACTION, (DIM,))}}


def statistics() -> dict[str, dict[str, torch.Tensor]]:
    """Of actions whose steps are millimetres, and of a hand above the table."""
    def of(mean, std) -> dict[str, torch.Tensor]:
        mean, std = torch.tensor(mean), torch.tensor(std)
        return {"mean": mean, "std": std, "min": mean - 2 * std, "max": mean + 2 * std}
    third = [[[0.5]]] * 3
    return {IMAGE: of(third, [[[0.25]]] * 3), STATE: of([0.5, 0.0, 0.3, 0.04], [0.1, 0.1, 0.1, 0.02]),
            ACTION: of([0.0, 0.0, 0.0, GRIPPER], [STEP, STEP, STEP, 0.2])}


def backbone(folder: Path, published: bool) -> str:
    """A SmolVLM in LeRobot's shape, small or of the published size, with a tokenizer of a few words: no published file
    is needed."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        GPT2TokenizerFast,
        SmolVLMConfig,
        SmolVLMImageProcessor,
        SmolVLMProcessor,
        SmolVLMVideoProcessor,
    )
    words = {word: i for i, word in enumerate(["<unk>", "<pad>", "<fake_token_around_image>", "<image>",
                                               "<end_of_utterance>", "<global-img>", *map(chr, range(32, 127))])}
    made = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer = GPT2TokenizerFast(tokenizer_object=made, unk_token="<unk>", pad_token="<pad>", bos_token="<unk>",
                                  eos_token="<end_of_utterance>", extra_special_tokens={
                                      "fake_image_token": "<fake_token_around_image>", "image_token": "<image>",
                                      "end_of_utterance_token": "<end_of_utterance>",
                                      "global_image_token": "<global-img>"})
    config = SmolVLMConfig(
        image_token_id=words["<image>"], pad_token_id=words["<pad>"], scale_factor=4 if published else 2,
        vision_config=VISION if published else {
            "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
            "image_size": 64, "patch_size": 16},
        text_config={"model_type": "llama", "vocab_size": 49280 if published else len(words),
                     "pad_token_id": words["<pad>"]} | (TEXT if published else {
                         "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
                         "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}))
    SmolVLMProcessor(SmolVLMImageProcessor(), tokenizer, SmolVLMVideoProcessor()).save_pretrained(folder)
    config.save_pretrained(folder)
    return str(folder)


def write(kind: str, folder: Path, published: bool = False, **changes) -> Path:
    """A checkpoint with random weights. changes: of LeRobot's configuration."""
    torch.manual_seed(0)
    own = kind == "smolvla" and "vlm_model_name" not in changes
    more = {"vlm_model_name": backbone(folder / "vlm", published)} if own else {}
    sizes = (PUBLISHED if published else SMALL)[kind]
    config = make_policy_config(kind, **features(), device="cpu", push_to_hub=False, **sizes | more | changes)
    get_policy_class(kind)(config).save_pretrained(folder)
    for processor in make_pre_post_processors(config, dataset_stats=statistics()):
        processor.save_pretrained(folder)
    (folder / "vla.yaml").write_text(SPEC.format(horizon=config.n_action_steps))
    return folder


def expected(folder: Path, kind: str) -> np.ndarray:
    """A chunk (T, D) of LeRobot's own loop, `select_action`, on one picture that is always the same."""
    from lerobot.configs.policies import PreTrainedConfig
    config = PreTrainedConfig.from_pretrained(folder)
    policy = get_policy_class(kind).from_pretrained(folder, config=config).eval()
    before, after = make_pre_post_processors(config, pretrained_path=str(folder))
    torch.manual_seed(0)
    policy.reset()
    rows = np.arange(SIDE * SIDE * 3, dtype=np.int64).reshape(SIDE, SIDE, 3)
    picture = torch.from_numpy((rows % 251).astype(np.uint8)).movedim(-1, 0).float() / 255
    seen = {IMAGE: picture, STATE: torch.tensor([0.5, 0.1, 0.3, 0.04]), "task": "touch the red cube"}
    return np.stack([after(policy.select_action(before(dict(seen))))[0].double().numpy()
                     for _ in range(config.n_action_steps)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--published", action="store_true", help="of the published sizes, to be timed")
    parser.add_argument("--kinds", nargs="+", choices=SMALL, default=list(SMALL))
    args = parser.parse_args()
    for kind in args.kinds:
        folder = args.out / kind
        folder.mkdir(parents=True, exist_ok=True)
        write(kind, folder, args.published)
        if not args.published:
            np.save(folder / "expected.npy", expected(folder, kind))


if __name__ == "__main__":
    main()
