"""The curves of a training run, as a picture."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

CURVES = ("look_right", "named_right", "offset_px", "verdict_right", "answer_right", "action", "bins_away",
          "drill_bins_away")


def plot_curves(folder: Path) -> Path:
    """Draws folder/log.jsonl to folder/curves.png: a panel a figure, a line a stage, over the steps of all stages."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot

    lines, at, begun = defaultdict(lambda: defaultdict(list)), 0, {}
    for row in map(json.loads, (folder / "log.jsonl").read_text().splitlines()):
        start = begun.setdefault(row["stage"], at)
        at = start + row["step"]
        for name in CURVES:
            if name in row:
                lines[name][row["stage"]].append((at, row[name]))
    figure, axes = pyplot.subplots(2, 4, figsize=(17, 6), constrained_layout=True)
    for axis, name in zip(axes.flat, CURVES, strict=True):
        for stage, points in lines[name].items():
            axis.plot(*zip(*points, strict=True), label=stage, linewidth=0.8, color=f"C{list(begun).index(stage)}")
        axis.set(title=name, xlabel="step")
        axis.grid(alpha=0.3)
        if lines[name]:
            axis.legend(fontsize=7)
    file = folder / "curves.png"
    figure.savefig(file, dpi=110)
    pyplot.close(figure)
    return file
