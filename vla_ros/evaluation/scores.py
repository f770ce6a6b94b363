"""From the outcomes of episodes to scores by family and condition, as a table and as JSON; and their file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean

from vla_ros.errors import ConfigError
from vla_ros.evaluation.calibration import calibration
from vla_ros.evaluation.conditions import CONDITIONS, PLAIN
from vla_ros.evaluation.rollout import Outcome
from vla_ros.evaluation.table import table
from vla_ros.evaluation.wilson import wilson

COLUMNS = ("n", "success", "95 % interval", "mean time", "endings")


def score(outcomes: Sequence[Outcome]) -> dict:
    """One cell of at least one episode. mean_seconds: of the successful ones [s], None without any."""
    won = [o for o in outcomes if o.success]
    return {"n": len(outcomes), "successes": len(won), "rate": len(won) / len(outcomes),
            "ci95": list(wilson(len(won), len(outcomes))),
            "mean_seconds": mean(o.seconds for o in won) if won else None,
            "endings": dict(Counter(o.ending for o in outcomes).most_common())}


def report(outcomes: Iterable[Outcome], tasks: Sequence[str], **facts) -> dict:
    """The facts given, every episode, and their scores.

    families: by name, of the plain condition, or of the first one without it; mean: of their rates. conditions: by
    name, each with its families. calibration: of first confidences, where they are about what is right.
    """
    names = list(CONDITIONS)
    ordered = sorted(outcomes, key=lambda o: (names.index(o.condition), tasks.index(o.task), o.seed))
    conditions = {}
    for name in dict.fromkeys(o.condition for o in ordered):
        own = [o for o in ordered if o.condition == name]
        conditions[name] = score(own) | {"families": by_family(own, tasks)}
    families = next(iter(conditions.values()))["families"]
    rated = [o for o in ordered if o.confidence is not None and CONDITIONS[o.condition].rated]
    published = calibration([o.confidence for o in rated], [o.success for o in rated]) if rated else None
    return {"families": families, "mean": mean(f["rate"] for f in families.values()), **facts,
            "conditions": conditions, "calibration": published, "episodes": [asdict(o) for o in ordered]}


def by_family(outcomes: Sequence[Outcome], tasks: Sequence[str]) -> dict[str, dict]:
    """Of those tasks that have any."""
    return {name: score(own) for name in tasks if (own := [o for o in outcomes if o.task == name])}


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def as_table(made: dict) -> str:
    """Families and their mean; below them conditions, where there are others than the plain one, and calibration."""
    mean_row = ("mean", sum(f["n"] for f in made["families"].values()), percent(made["mean"]), "", "", "")
    parts = [table(("task", *COLUMNS), [*rows(made["families"]), mean_row])]
    if list(made["conditions"]) != [PLAIN]:
        parts.append(table(("condition", *COLUMNS), rows(made["conditions"])))
    if made["calibration"]:
        parts.append(f"confidence of {made['calibration']['n']} first answers: expected calibration error "
                     f"{percent(made['calibration']['ece'])}, area under risk over coverage "
                     f"{made['calibration']['risk_coverage']['area']:.3f}")
    return "\n\n".join(parts)


def rows(cells: dict[str, dict]) -> list[tuple]:
    """A row of the table for each score."""
    made = []
    for name, cell in cells.items():
        low, high = cell["ci95"]
        seconds = f"{cell['mean_seconds']:.2f} s" if cell["mean_seconds"] is not None else "-"
        endings = ", ".join(f"{count} {ending}" for ending, count in cell["endings"].items())
        made.append((name, cell["n"], percent(cell["rate"]), f"{percent(low)} to {percent(high)}", seconds, endings))
    return made


class Journal:
    """Outcomes on their way: a file of JSON lines, the first of which says what was evaluated and how.

    An interrupted evaluation with the same facts goes on from it; other facts begin anew.
    """

    def __init__(self, file: Path | None, facts: dict):
        """file None: keeps nothing."""
        self.file, self.facts = file, facts
        self.outcomes: dict[tuple[str, int, str], Outcome] = {}  # by Outcome.key

    def open(self) -> bool:
        """Reads what an earlier run left; False when there was a journal of other facts, which is replaced.

        Raises ConfigError when the file cannot be written.
        """
        if self.file is None:
            return True
        try:
            return self._open()
        except OSError as error:
            raise ConfigError(f"cannot write {self.file}: {error.strerror}") from error

    def _open(self) -> bool:
        lines = read_lines(self.file)
        same = not lines or lines[0] == self.facts
        if same:
            self.outcomes = {outcome.key: outcome for outcome in (Outcome(**line) for line in lines[1:])}
        self.file.parent.mkdir(parents=True, exist_ok=True)
        kept = [self.facts, *map(asdict, self.outcomes.values())]
        self.file.write_text("".join(json.dumps(line) + "\n" for line in kept))
        return same

    def add(self, outcome: Outcome) -> None:
        self.outcomes[outcome.key] = outcome
        if self.file is not None:
            with self.file.open("a") as file:
                file.write(json.dumps(asdict(outcome)) + "\n")

    def close(self) -> None:
        """Removes the file: the evaluation is complete."""
        if self.file is not None:
            self.file.unlink(missing_ok=True)


def read_lines(file: Path) -> list[dict]:
    """The whole lines of a journal; the last one may have been cut off by a kill."""
    made = []
    for line in file.read_text().splitlines() if file.is_file() else ():
        try:
            made.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return made


def agreement(outcomes: Sequence[Outcome], others: dict[tuple[str, int, str], Outcome]) -> dict:
    """How many of `outcomes` end as the other run of the same task and seed did; a line for each that does not."""
    pairs = [(o, others[o.key]) for o in outcomes]
    same = [(a, b) for a, b in pairs if a.ending == b.ending]
    return {"n": len(pairs), "same": len(same), "same_moment": sum(abs(a.seconds - b.seconds) < 1e-6 for a, b in same),
            "differences": [f"{a.task} {a.seed}: {said(a)}, in process {said(b)}"
                            for a, b in pairs if a.ending != b.ending]}


def said(outcome: Outcome) -> str:
    return " ".join(f"{outcome.ending} after {outcome.seconds:.2f} s {outcome.detail}".split())
