"""The report as one HTML file that needs nothing beside it: tables, plots, and videos of failures."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

from vla_ros.errors import ConfigError
from vla_ros.evaluation import plots
from vla_ros.evaluation.conditions import CONDITIONS
from vla_ros.evaluation.filming import Film
from vla_ros.evaluation.scores import percent

FACTS = ("checkpoint", "clock", "through", "splice", "seeds", "wordings", "thinking")
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #222; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; } th { text-align: left; }
th, td { padding: .2rem .7rem .2rem 0; border-bottom: 1px solid #e3e6ea; vertical-align: top; }
td.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.bar { position: relative; width: 12rem; height: .9rem; background: #eef1f4; }
.bar span { position: absolute; top: 0; height: 100%; }
.rate { left: 0; background: #1f6fb2; } .interval { background: rgba(0, 0, 0, .22); }
.plots, .films { display: flex; flex-wrap: wrap; gap: 1.2rem; }
.plots figure { flex: 1 1 26rem; } .films figure { flex: 1 1 18rem; } figure { margin: 0; }
svg, video { max-width: 100%; height: auto; } figcaption, .about { color: #555; font-size: .87rem; }
"""


def page(made: dict, films: Sequence[Film] = ()) -> str:
    """made: as scores.report makes it."""
    parts = [f"<h1>vla_ros: {escape(str(made.get('checkpoint', 'evaluation')))}</h1>", facts(made),
             "<h2>Families</h2>", table(made["families"], "family"),
             f"<p>Mean of the families: {percent(made['mean'])}</p>",
             "<h2>Conditions</h2>", table(made["conditions"], "condition"), drawings(made)]
    if films:
        parts += ["<h2>Failures</h2>", '<div class="films">', *map(figure_of, films), "</div>"]
    return ('<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>vla_ros evaluation</title>'
            f"<style>{STYLE}</style></head><body>\n" + "\n".join(parts) + "\n</body></html>\n")


def prepare(file: Path) -> None:
    """Raises ConfigError where the page cannot be written, before hours of episodes are run for it."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.open("a").close()
    except OSError as error:
        raise ConfigError(f"cannot write {file}: {error.strerror}") from error


def facts(made: dict) -> str:
    known = [f"{name} {made[name]}" for name in FACTS if made.get(name) is not None]
    return f'<p class="about">{escape("; ".join(known))}; {len(made["episodes"])} episodes</p>'


def table(cells: dict[str, dict], kind: str) -> str:
    head = "".join(f"<th>{h}</th>" for h in (kind, "n", "success", "95 % interval", "", "mean time", "endings"))
    return f"<table><tr>{head}</tr>{''.join(row(name, cell, kind) for name, cell in cells.items())}</table>"


def row(name: str, cell: dict, kind: str) -> str:
    low, high = cell["ci95"]
    about = f'<div class="about">{escape(CONDITIONS[name].about)}</div>' if kind == "condition" else ""
    seconds = "" if cell["mean_seconds"] is None else f"{cell['mean_seconds']:.2f} s"
    endings = ", ".join(f"{count} {ending}" for ending, count in cell["endings"].items())
    bar = (f'<div class="bar"><span class="rate" style="width:{100 * cell["rate"]:.1f}%"></span><span class="interval" '
           f'style="left:{100 * low:.1f}%;width:{100 * (high - low):.1f}%"></span></div>')
    numbers = "".join(f'<td class="number">{text}</td>'
                      for text in (cell["n"], percent(cell["rate"]), f"{percent(low)} to {percent(high)}"))
    return (f'<tr><td>{escape(name)}{about}</td>{numbers}<td>{bar}</td><td class="number">{seconds}</td>'
            f"<td>{escape(endings)}</td></tr>")


def drawings(made: dict) -> str:
    """Each plot for which there are scores."""
    shown = [("Success per family", plots.rates(made["families"])),
             ("Success per condition", plots.rates(made["conditions"]))]
    delayed = {name: cell for name, cell in made["conditions"].items() if name.startswith("latency-")}
    if len(delayed) > 1:
        shown.append(("Latency under a running clock", plots.latency(delayed)))
    if made["calibration"]:
        shown += [("Calibration of the first confidence", plots.reliability(made["calibration"])),
                  ("Risk and coverage", plots.risk_coverage(made["calibration"]))]
    figures = "".join(f"<figure>{drawing}<figcaption>{name}</figcaption></figure>" for name, drawing in shown)
    return f'<h2>Plots</h2><div class="plots">{figures}</div>'


def figure_of(film: Film) -> str:
    """A video with its words; one that refused at once has nothing to show but them."""
    o = film.outcome
    said = (f"<b>{escape(o.condition)}, {escape(o.task)}, seed {o.seed}</b><br>\u201c{escape(o.instruction)}\u201d<br>"
            f"{escape(o.ending)} after {o.seconds:.2f} s, {o.distance:.3f} m {escape(o.detail)}")
    data = base64.b64encode(film.mp4).decode()
    video = f'<video controls muted loop src="data:video/mp4;base64,{data}"></video>' if data else ""
    return f"<figure>{video}<figcaption>{said}</figcaption></figure>"
