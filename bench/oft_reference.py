"""What the reference implementation of OpenVLA-OFT answers. Run by oft_parity.py with a Python that has its old pins
(its own transformers 4.40.1, tokenizers 0.19.1, timm 0.9.10); imports the reference's own files from a checkout of it.

    PYTHON oft_reference.py CHECKOUT INPUTS.npz OUT.npz FOLDER...

INPUTS.npz: image_0, wrist_0, ... uint8 (H, W, 3) RGB, words (N,), states (N, S). OUT.npz: for each folder by its number
actions_0 (N, 8, 7) as it gives them, in the units of the data set.
"""

from __future__ import annotations

import ast
import importlib
import json
import sys
import types
from pathlib import Path

import numpy as np
import torch

# torchvision's index build for the GPU has no operators beside torch's build for the CPU; images need none of them.
sys.modules.setdefault("torchvision._meta_registrations", types.ModuleType("torchvision._meta_registrations"))

from openvla_reference import small_towers  # noqa: E402
from PIL import Image  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from transformers import AutoTokenizer  # noqa: E402

PACKAGES = ("", ".extern", ".extern.hf", ".training", ".vla", ".models")  # of the reference, without what they import


def reference(checkout: Path) -> dict:
    for name in PACKAGES:
        package = types.ModuleType(f"prismatic{name}")
        package.__path__ = [str(checkout.joinpath("prismatic", *name.split(".")[1:]))]
        sys.modules[package.__name__] = package
    for name in ("diffusers", "diffusers.schedulers", "diffusers.schedulers.scheduling_ddim"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["diffusers.schedulers.scheduling_ddim"].DDIMScheduler = None  # of the heads that are not compared
    modules = {name: importlib.import_module(f"prismatic.{where}{name}") for where, name in (
        ("extern.hf.", "configuration_prismatic"), ("extern.hf.", "modeling_prismatic"),
        ("extern.hf.", "processing_prismatic"), ("models.", "action_heads"), ("models.", "projectors"),
        ("vla.", "constants"))}
    return modules | {"normalize": normalize_proprio(checkout, modules["constants"])}


def normalize_proprio(checkout: Path, constants):
    """The reference's function, alone: its module imports TensorFlow."""
    tree = ast.parse((checkout / "experiments/robot/openvla_utils.py").read_text())
    tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "normalize_proprio"]
    names = {"np": np, "Dict": dict, "Any": object, **vars(constants)}
    exec(compile(tree, "openvla_utils.py", "exec"), names)
    return names["normalize_proprio"]


def part(made: torch.nn.Module, folder: Path, name: str, dtype: torch.dtype) -> torch.nn.Module:
    file = next(folder.glob(f"{name}*.safetensors"))
    made.load_state_dict({key.removeprefix("module."): tensor for key, tensor in load_file(file).items()})
    return made.to(dtype).eval()


def answers(folder: Path, given, modules: dict) -> np.ndarray:
    content = json.loads((folder / "config.json").read_text())
    small_towers(content)
    dtype = getattr(torch, content.get("torch_dtype", "float32"))
    model = modules["modeling_prismatic"].OpenVLAForActionPrediction.from_pretrained(
        folder, config=modules["configuration_prismatic"].OpenVLAConfig.from_pretrained(folder), torch_dtype=dtype,
        attn_implementation="sdpa").eval()
    assert type(model.language_model.model.layers[0].self_attn).__name__ == "LlamaSdpaAttention"
    model.vision_backbone.set_num_images_in_input(2)
    processing = modules["processing_prismatic"]
    processor = processing.PrismaticProcessor(processing.PrismaticImageProcessor.from_pretrained(folder),
                                              AutoTokenizer.from_pretrained(folder))
    width = model.llm_dim
    head = part(modules["action_heads"].L1RegressionActionHead(width, width), folder, "action_head", dtype)
    proprio = part(modules["projectors"].ProprioProjector(model.llm_dim, given["states"].shape[1]), folder,
                   "proprio_projector", dtype)
    key, found = next(iter(model.norm_stats)), []
    for i, text in enumerate(given["words"]):
        prompt = f"In: What action should the robot take to {str(text).lower()}?\nOut:"
        inputs, wrist = (processor(prompt, Image.fromarray(given[f"{name}_{i}"])) for name in ("image", "wrist"))
        inputs["pixel_values"] = torch.cat([inputs["pixel_values"], wrist["pixel_values"]], 1).to(dtype)
        state = modules["normalize"](given["states"][i], model.norm_stats[key]["proprio"])
        with torch.inference_mode():
            actions, _ = model.predict_action(**inputs, unnorm_key=key, proprio=state, proprio_projector=proprio,
                                              action_head=head, do_sample=False)
        found.append(actions)
    return np.array(found)


def main() -> None:
    checkout, inputs, out, *folders = map(Path, sys.argv[1:])
    torch.set_num_threads(1)
    modules, given = reference(checkout), np.load(inputs)
    np.savez(out, **{f"actions_{i}": answers(folder, given, modules) for i, folder in enumerate(folders)})


if __name__ == "__main__":
    main()
