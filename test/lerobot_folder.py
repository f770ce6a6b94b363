"""A checkpoint's folder as LeRobot writes it, without a model: for tests of what is read before one is opened."""

from __future__ import annotations

import json
from pathlib import Path

FRONT, STATE = "observation.images.front", "observation.state"
SPEC = """
action:
  names: [dx, dy, dz, gripper]
  units: [m, m, m, "1"]
  frame: panda_link0
  mode: delta
  gripper: open_is_one
  period: 0.1
  horizon: 8
images: {observation.images.front: front}
state: {observation.state: [position, gap]}
"""
STEPS = {"steps": [{"registry_name": "rename_observations_processor", "config": {}},
                   {"registry_name": "normalizer_processor", "config": {},
                    "state_file": "policy_preprocessor_step_1_normalizer_processor.safetensors"}]}


def config(**changes) -> dict:
    return {"type": "act", "n_obs_steps": 1, "chunk_size": 8, "n_action_steps": 8,
            "input_features": {FRONT: {"type": "VISUAL", "shape": [3, 128, 128]},
                               STATE: {"type": "STATE", "shape": [4]}},
            "output_features": {"action": {"type": "ACTION", "shape": [4]}}} | changes


def wrote(folder: Path, spec: str = SPEC, steps: dict = STEPS, **changes) -> Path:
    """changes: of its config.json."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config(**changes)))
    (folder / "model.safetensors").write_bytes(b"\x02" + bytes(7) + b"{}")  # whole, with nothing in it
    for name in ("policy_preprocessor.json", "policy_postprocessor.json"):
        (folder / name).write_text(json.dumps(steps))
    (folder / "vla.yaml").write_text(spec)
    return folder
