"""The comparison with a peer (bench/peer): what it is trained on, and that only like is compared with like."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from vla_ros.errors import ConfigError
from vla_ros.sim.world import COLOURS, MOVABLE, OBJECT_COLOURS, SHAPES

FOLDER = Path(__file__).resolve().parent.parent / "bench" / "peer"


def script(name: str):
    found = importlib.util.spec_from_file_location(f"peer_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


demonstrations, report = script("demonstrations"), script("report")


def test_every_frame_comes_with_each_object_that_can_be_touched_in_it_and_the_way_there(frames):
    made = demonstrations.labelled(frames)
    movable = (frames["shape"] >= 0) & (frames["shape"] < len(MOVABLE))
    assert len(made["frame"]) == movable.sum()
    assert made["own"].sum() == movable[np.arange(len(movable)), frames["target"]].sum()
    for frame, wanted, action in zip(made["frame"], made["environment_state"], made["action"], strict=True):
        shape, colour = np.split(wanted, [len(MOVABLE)])
        assert shape.sum() == colour.sum() == 1
        kind = SHAPES.index(MOVABLE[shape.argmax()]), tuple(COLOURS).index(OBJECT_COLOURS[colour.argmax()])
        target, = np.flatnonzero((frames["shape"][frame] == kind[0]) & (frames["colour"][frame] == kind[1]))
        assert action.shape == (8, 4) and (action[:, 3] == 0).all(), "closed fingers"
        before = frames["objects"][frame, target, :2] - frames["ee"][frame, :2]
        after = before - action[:, :2].sum(0)
        assert np.linalg.norm(after) <= max(np.linalg.norm(before), 0.03), "nearer, or above it; a held one moves along"


def test_a_picture_that_is_there_twice_counts_once(frames):
    twice = {name: np.concatenate([values, values[::-1]]) for name, values in frames.items()}
    once = demonstrations.distinct(twice)
    assert once["image"].tobytes() == demonstrations.distinct(frames)["image"].tobytes()
    assert len({image.tobytes() for image in once["image"]}) == len(once["image"]) < len(twice["image"])


SCORE = {"families": {"reach": {"n": 100, "successes": 90, "rate": 0.9, "ci95": [0.83, 0.94], "endings": {}}},
         "checkpoint": "some", "seeds": [0, 99], "clock": "paused", "through": "inprocess", "splice": "switch"}
TRAINING = {"cpu_seconds": 7800.0, "samples": 1000, "missed_mm": 10.0}


def compared(folder: Path, training=TRAINING, **changes) -> dict:
    files = {}
    for name, made in (("peer", SCORE | changes), ("training", training), ("ours", SCORE)):
        files[name] = folder / f"{name}.json"
        files[name].write_text(json.dumps(made))
    return report.compared(*files.values(), 120.0)


def test_both_figures_are_shown(tmp_path):
    made = compared(tmp_path)
    assert made["peer"]["cpu_minutes"] == 130 and made["ours"]["cpu_minutes"] == 120
    assert made["peer"]["rate"] == made["ours"]["rate"] == 0.9 and made["seeds"] == [0, 99]


@pytest.mark.parametrize("changes,why", [
    ({"seeds": [0, 49]}, r"not made alike: seeds: \[0, 49\] and \[0, 99\]"), ({"clock": "running"}, "not made alike"),
    ({"families": {}}, "is no score of reach"), ({"training": {}}, "lacks 'cpu_seconds'")])
def test_only_like_is_compared_with_like(tmp_path, changes, why):
    with pytest.raises(ConfigError, match=why):
        compared(tmp_path, **changes)
