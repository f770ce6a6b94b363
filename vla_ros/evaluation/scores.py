"""From the outcomes of episodes to scores: per family with intervals, as a table and as JSON; and their file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import mean

from vla_ros.errors import ConfigError
from vla_ros.evaluation.rollout import Outcome
from vla_ros.evaluation.table import table
from vla_ros.evaluation.wilson import wilson


def score(outcomes: Sequence[Outcome]) -> dict:
    """One family of at least one episode. mean_seconds: of the successful ones [s], None without any."""
    won = [o for o in outcomes if o.success]
    return {"n": len(outcomes), "successes": len(won), "rate": len(won) / len(outcomes),
            "ci95": list(wilson(len(won), len(outcomes))),
            "mean_seconds": mean(o.seconds for o in won) if won else None,
            "endings": dict(Counter(o.ending for o in outcomes).most_common())}


def report(outcomes: Iterable[Outcome], tasks: Sequence[str], **facts) -> dict:
    """families by name, mean of their rates, the facts given, and every episode by task and seed."""
    ordered = sorted(outcomes, key=lambda o: (tasks.index(o.task), o.seed))
    families = {name: score([o for o in ordered if o.task == name]) for name in tasks}
    return {"families": families, "mean": mean(f["rate"] for f in families.values()), **facts,
            "episodes": [asdict(o) for o in ordered]}


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def as_table(made: dict) -> str:
    rows = []
    for name, family in made["families"].items():
        low, high = family["ci95"]
        seconds = f"{family['mean_seconds']:.2f} s" if family["mean_seconds"] is not None else "-"
        endings = ", ".join(f"{count} {ending}" for ending, count in family["endings"].items())
        rows.append((name, family["n"], percent(family["rate"]), f"{percent(low)} to {percent(high)}",
                     seconds, endings))
    rows.append(("mean", sum(f["n"] for f in made["families"].values()), percent(made["mean"]), "", "", ""))
    return table(("task", "n", "success", "95 % interval", "mean time", "endings"), rows)


class Journal:
    """Outcomes on their way: a file of JSON lines, the first of which says what was evaluated and how.

    An interrupted evaluation with the same facts goes on from it; other facts begin anew.
    """

    def __init__(self, file: Path | None, facts: dict):
        """file None: keeps nothing."""
        self.file, self.facts = file, facts
        self.outcomes: dict[tuple[str, int], Outcome] = {}

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
            self.outcomes = {(o["task"], o["seed"]): Outcome(**o) for o in lines[1:]}
        self.file.parent.mkdir(parents=True, exist_ok=True)
        kept = [self.facts, *map(asdict, self.outcomes.values())]
        self.file.write_text("".join(json.dumps(line) + "\n" for line in kept))
        return same

    def add(self, outcome: Outcome) -> None:
        self.outcomes[outcome.task, outcome.seed] = outcome
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


def agreement(outcomes: Sequence[Outcome], others: dict[tuple[str, int], Outcome]) -> dict:
    """How many of `outcomes` end as the other run of the same task and seed did; a line for each that does not."""
    pairs = [(o, others[o.task, o.seed]) for o in outcomes]
    same = [(a, b) for a, b in pairs if a.ending == b.ending]
    return {"n": len(pairs), "same": len(same), "same_moment": sum(abs(a.seconds - b.seconds) < 1e-6 for a, b in same),
            "differences": [f"{a.task} {a.seed}: {said(a)}, in process {said(b)}"
                            for a, b in pairs if a.ending != b.ending]}


def said(outcome: Outcome) -> str:
    return " ".join(f"{outcome.ending} after {outcome.seconds:.2f} s {outcome.detail}".split())
