"""Small checkpoints of OpenVLA-OFT with random weights, in the layout of the real ones but for their pickles, which are
safetensors here, for the tests and the benchmark."""

from __future__ import annotations

from pathlib import Path

import openvla_samples as samples
import torch
import yaml
from safetensors.torch import save_file

from vla_ros.openvla.oft import ActionHead, ProprioProjector

WIDTH, DIM, STEPS, NUMBERS = 32, 7, 8, 4  # of the samples' language model; of an action; in a chunk; of the state
PROPRIO = {"q01": [0.3, -0.3, 0.05, 0.0], "q99": [0.7, 0.3, 0.5, 0.08], "min": [0.2, -0.5, 0.0, 0.0],
           "max": [0.8, 0.5, 0.7, 0.08]}
ACTION = {**samples.BRIDGE["action"], "min": [-0.04] * 6 + [0.0], "max": [0.05] * 6 + [1.0]}
STATISTICS = {"mine": {"action": ACTION, "proprio": PROPRIO}}
SAID = {"action": {"names": ["dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper"],
                   "units": ["m", "m", "m", "rad", "rad", "rad", "1"], "frame": "panda_link0", "mode": "delta",
                   "gripper": "open_is_one", "period": 0.1, "horizon": STEPS},
        "images": {"full_image": "front", "wrist_image": "wrist"}, "state": {"state": ["position", "gap"]}}


def write(folder: Path, *, seed: int = 0, numbers: int = NUMBERS, wrapped: bool = True, steps: int = 150_000,
          said: dict | None = None, dtype: torch.dtype = torch.float32, **changes) -> Path:
    """A whole checkpoint. numbers: of the state that it reads, 0 for none; wrapped: names as from several GPUs."""
    samples.write(folder, seed=seed, dtype=dtype, **{"norm_stats": STATISTICS} | changes)
    torch.manual_seed(seed)
    parts = {"action_head": ActionHead(WIDTH, DIM)} | ({"proprio_projector": ProprioProjector(WIDTH, numbers)}
                                                       if numbers else {})
    for name, part in parts.items():
        tensors = {("module." if wrapped else "") + key: ((0.3 if "model.fc2" in key else 2) * tensor).to(dtype)
                   for key, tensor in part.state_dict().items()}
        save_file(tensors, folder / f"{name}--{steps}_checkpoint.safetensors")
    (folder / "vla.yaml").write_text(yaml.safe_dump(said or SAID))
    return folder
