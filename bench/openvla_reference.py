"""What the reference implementation of OpenVLA answers. Run by openvla_parity.py with a Python that has its old pins
(transformers 4.40.1, tokenizers 0.19.1, timm 0.9.10); imports the reference's own files from a checkout of it.

    PYTHON openvla_reference.py CHECKOUT INPUTS.npz OUT.npz FOLDER...

INPUTS.npz: image_0, image_1, ... uint8 (H, W, 3) RGB, and words (N,). FOLDER: checkpoints of one data set each.
OUT.npz: for each folder by its number tokens_0 (N, 7), -1 where the answer ended early, and actions_0 (N, 7).
"""

from __future__ import annotations

import importlib
import json
import sys
import types
from pathlib import Path

import numpy as np
import torch

# torchvision's index build for the GPU has no operators beside torch's build for the CPU; images need none of them.
sys.modules.setdefault("torchvision._meta_registrations", types.ModuleType("torchvision._meta_registrations"))

import timm  # noqa: E402
from PIL import Image  # noqa: E402
from transformers import AutoTokenizer  # noqa: E402


def reference(checkout: Path):
    """The reference's modules, without the rest of its package, which needs more than they do."""
    package = types.ModuleType("openvla_reference_files")
    package.__path__ = [str(checkout / "prismatic/extern/hf")]
    sys.modules[package.__name__] = package
    return [importlib.import_module(f"{package.__name__}.{name}") for name in
            ("configuration_prismatic", "modeling_prismatic", "processing_prismatic")]


def small_towers(content: dict) -> None:
    """timm's own transformer in the sizes that config.json describes, under the names that it gives them."""
    known = dict(zip(content["timm_model_ids"], content["vision_towers"], strict=True))
    made = timm.models.vision_transformer.VisionTransformer

    def create(name: str, pretrained: bool, num_classes: int, img_size: int, act_layer: str | None):
        tower = known[name]
        norm = {"norm_layer": torch.nn.LayerNorm} if tower["eps"] == 1e-5 else {}
        return made(img_size=img_size, patch_size=tower["patch"], embed_dim=tower["width"], depth=tower["depth"],
                    num_heads=tower["heads"], mlp_ratio=tower["mlp"] / tower["width"], act_layer=act_layer,
                    class_token=tower["class_token"], global_pool="token" if tower["class_token"] else "map",
                    reg_tokens=tower["registers"], no_embed_class=not tower["placed"], pre_norm=tower["pre_norm"],
                    init_values=1e-5 if tower["scaled"] else None, num_classes=num_classes, **norm)
    timm.create_model = create


def answers(folder: Path, images: list[np.ndarray], words: list[str], modules) -> tuple[np.ndarray, np.ndarray]:
    configuration, modeling, processing = modules
    content = json.loads((folder / "config.json").read_text())
    if "vision_towers" in content:
        small_towers(content)
    dtype = getattr(torch, content.get("torch_dtype", "float32"))
    model = modeling.OpenVLAForActionPrediction.from_pretrained(
        folder, config=configuration.OpenVLAConfig.from_pretrained(folder), torch_dtype=dtype).eval()
    processor = processing.PrismaticProcessor(processing.PrismaticImageProcessor.from_pretrained(folder),
                                              AutoTokenizer.from_pretrained(folder))
    said, generate = [], model.generate

    def listening(*args, **options):
        said.append((args[0].shape[1], generate(*args, **options)))
        return said[-1][1]
    model.generate = listening
    tokens, actions = [], []
    for image, text in zip(images, words, strict=True):
        prompt = f"In: What action should the robot take to {text.lower()}?\nOut:"
        inputs = processor(prompt, Image.fromarray(image))
        actions.append(model.predict_action(**{name: value.to(dtype) if value.is_floating_point() else value
                                               for name, value in inputs.items()}, unnorm_key=None, do_sample=False))
        length, ids = said.pop()
        new = ids[0, length:].tolist()
        tokens.append(new + [-1] * (len(actions[-1]) - len(new)))
    return np.array(tokens), np.array(actions)


def main() -> None:
    checkout, inputs, out, *folders = map(Path, sys.argv[1:])
    torch.set_num_threads(1)
    modules = reference(checkout)
    given, found = np.load(inputs), {}
    images = [given[f"image_{i}"] for i in range(len(given["words"]))]
    for number, folder in enumerate(folders):
        tokens, actions = answers(folder, images, [str(text) for text in given["words"]], modules)
        found |= {f"tokens_{number}": tokens, f"actions_{number}": actions}
    np.savez(out, **found)


if __name__ == "__main__":
    main()
