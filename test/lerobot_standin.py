"""The server of LeRobot checkpoints with a stand-in for the model: everything but LeRobot itself is the real thing.

What it does is up to the words that it is told.
"""

import importlib.util
import os
import sys
import time
from pathlib import Path

import numpy as np

FILE = Path(__file__).resolve().parent.parent / "vla_ros" / "lerobot" / "server.py"


class Standin:
    def __init__(self, folder: Path, device: str, vlm: str):
        from vla_ros.lerobot.checkpoint import read_features
        self.features = read_features(folder)
        if device == "broken":
            raise RuntimeError("no such\ndevice")
        print("what a library prints")

    def chunk(self, observations: list[dict], seed: int) -> np.ndarray:
        """The state's first three numbers in every step, the seed, and the number of observations as the gripper."""
        said = observations[-1]
        assert said["observation.images.front"].dtype == np.uint8 and said["observation.state"].dtype == np.float32
        words = said["task"]
        if words == "raise":
            raise ValueError("nothing\nat all")
        if words == "die":
            os._exit(7)
        if words == "sleep":
            time.sleep(60)
        row = [0.001 * seed, 0.0, 0.1 * said["observation.state"][2], len(observations) / 4]
        return np.full((8, 4), np.nan if words == "nan" else row)


if __name__ == "__main__":
    spec = importlib.util.spec_from_file_location("server", FILE)
    server = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(server)
    sys.exit(server.main(Standin))
