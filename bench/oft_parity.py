"""Are the actions of an OpenVLA-OFT checkpoint those of its reference implementation?

    .venv/bin/python bench/oft_parity.py --checkout openvla-oft/ --python REFERENCE_PYTHON --inputs 200

--checkout: of moojink/openvla-oft. --python: has its pins, of which transformers is moojink/transformers-openvla-oft.
Both read the same small random checkpoints, in float32 and in bfloat16, and the same random images, instructions and
states; compared is what comes out in the units of the data set, as shares of the way from its low to its high. Ends
with one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from openvla_parity import inputs

import oft_samples as samples  # isort: skip - of test/, which openvla_parity puts on the path

from vla_ros.cli import at_least
from vla_ros.policies import open_policy
from vla_ros.profile import load_profile
from vla_ros.spec import ActionSpec
from vla_ros.types import JointState, Observation, Pose

CHECKPOINTS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def profile():
    return replace(load_profile("panda"), action=ActionSpec.from_dict(samples.SAID["action"]))


def answers(folder: Path, given: dict) -> np.ndarray:
    """(N, T, D) in the units of the data set."""
    policy, found = open_policy(str(folder), profile()), []
    for i, text in enumerate(given["words"]):
        *place, gap = given["states"][i].tolist()
        images = {"front": given[f"image_{i}"], "wrist": given[f"wrist_{i}"]}
        found.append(policy.infer(Observation(images, JointState({}, {}, 0), str(text), dict.fromkeys(images, 0),
                                              Pose(np.array(place), np.eye(3)), gap)).values)
    return np.array(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkout", type=Path, required=True, help="folder of moojink/openvla-oft")
    parser.add_argument("--python", required=True, help="interpreter that has its pins")
    parser.add_argument("--inputs", type=at_least(1), default=200, help="in all (default 200)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    count = -(-args.inputs // len(CHECKPOINTS))
    images, words = inputs(2 * count)
    low, high = (np.array(samples.PROPRIO[key]) for key in ("q01", "q99"))
    states = np.random.default_rng(1).uniform(low - 0.1 * (high - low), high + 0.1 * (high - low), (count, len(low)))
    pairs = {f"{name}_{i}": images[2 * i + side] for i in range(count) for side, name in enumerate(("image", "wrist"))}
    given = {"words": np.array(words[:count]), "states": np.abs(states).astype(np.float32), **pairs}
    span = np.array(samples.ACTION["q99"]) - samples.ACTION["q01"]
    with tempfile.TemporaryDirectory() as place:
        folders = [samples.write(Path(place) / name, seed=seed, dtype=dtype, torch_dtype=name)
                   for seed, (name, dtype) in enumerate(CHECKPOINTS.items())]
        np.savez(Path(place) / "inputs.npz", **given)
        program, out = Path(__file__).resolve().with_name("oft_reference.py"), Path(place) / "answers.npz"
        done = subprocess.run([args.python, program, args.checkout, Path(place) / "inputs.npz", out, *folders],
                              capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"the reference ends with {done.returncode}:\n{done.stderr[-2000:]}")
        theirs, rows = np.load(out), {}
        for i, (name, folder) in enumerate(zip(CHECKPOINTS, folders, strict=True)):
            ours, other = answers(folder, given), theirs[f"actions_{i}"]
            apart = np.abs(ours - other) / span
            rows[name] = {"actions": ours.size, "equal": int((ours == other).sum()), "largest": float(apart.max()),
                          "spread": float((other / span).std())}
            print(f"{name:10} {ours.size} numbers, {rows[name]['equal']} the very same, largest difference "
                  f"{apart.max():.2g} of the span from low to high, in which they spread by {rows[name]['spread']:.2g}")
    print(json.dumps({"inputs": count * len(CHECKPOINTS), **rows}))


if __name__ == "__main__":
    main()
