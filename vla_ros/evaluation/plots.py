"""The report's plots, each as the text of an SVG element. Cells are scores as in scores.report."""

from __future__ import annotations

import io
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

WIDTH = 6.4  # [in]
INK, BLUE, GREY = "#222222", "#1f6fb2", "#b8bec6"
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "vla", "font.size": 9, "axes.titlesize": 9,
         "axes.spines.top": False, "axes.spines.right": False}


@matplotlib.rc_context(STYLE)
def rates(cells: dict[str, dict]) -> str:
    """A bar for each cell, with its interval."""
    figure, axes = canvas(0.8 + 0.28 * len(cells))
    y, middle, low, high = np.arange(len(cells)), *intervals(cells.values())
    axes.barh(y, middle, color=BLUE, height=0.62)
    axes.errorbar(middle, y, xerr=[middle - low, high - middle], fmt="none", ecolor=INK, elinewidth=1, capsize=2)
    axes.set(yticks=y, yticklabels=list(cells), xlim=(0, 100), xlabel="success [%], with 95 % Wilson intervals")
    axes.invert_yaxis()
    axes.grid(axis="x", color=GREY, linewidth=0.4)
    axes.set_axisbelow(True)
    return svg(figure)


@matplotlib.rc_context(STYLE)
def latency(cells: dict[str, dict]) -> str:
    """Success over the latency that was injected; names of the cells end in -MILLISECONDS."""
    figure, axes = canvas(2.8)
    x, (middle, low, high) = [int(name.rsplit("-", 1)[1]) for name in cells], intervals(cells.values())
    axes.errorbar(x, middle, yerr=[middle - low, high - middle], fmt="o-", color=BLUE, ecolor=INK, elinewidth=1,
                  capsize=3)
    axes.set(ylim=(0, 102), xlabel="latency injected [ms]", ylabel="success [%]", xticks=x)
    axes.grid(axis="y", color=GREY, linewidth=0.4)
    return svg(figure)


@matplotlib.rc_context(STYLE)
def reliability(made: dict) -> str:
    """Share that was right over the confidence, by bin; the area of a point goes with its n."""
    figure, axes = canvas(3.4)
    bins = made["bins"]
    n = np.array([b["n"] for b in bins])
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1)
    axes.scatter([b["confidence"] for b in bins], [b["rate"] for b in bins], 12 + 240 * n / n.sum(), color=BLUE,
                 alpha=0.8, clip_on=False)
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel="confidence", ylabel="share that was right",
             title=f"n = {made['n']}, expected calibration error {100 * made['ece']:.1f} %")
    return svg(figure)


@matplotlib.rc_context(STYLE)
def risk_coverage(made: dict) -> str:
    """Share of wrong answers over the share answered, the surest first."""
    figure, axes = canvas(2.8)
    curve = made["risk_coverage"]
    axes.step(curve["coverage"], curve["risk"], where="pre", color=BLUE, marker="." if len(curve["risk"]) < 30 else "")
    axes.set(xlim=(0, 1), ylim=(0, max(0.05, 1.05 * max(curve["risk"]))), xlabel="coverage: share answered",
             ylabel="risk: share of these wrong", title=f"area {curve['area']:.3f}")
    return svg(figure)


def canvas(height: float):
    """A figure of its own, without pyplot's global state. height: [in]"""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots()


def intervals(cells: Sequence[dict]) -> np.ndarray:
    """(3, K) [%]: rates, and the ends of their intervals."""
    return 100 * np.array([(c["rate"], min(c["rate"], c["ci95"][0]), max(c["rate"], c["ci95"][1])) for c in cells]).T


def svg(figure: Figure) -> str:
    """Letters stay text; without a date, so that the same scores give the same page."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue()[text.getvalue().index("<svg"):]
