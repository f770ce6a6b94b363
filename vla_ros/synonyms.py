"""Words that mean the same, as data: config/wordings/synonyms.yaml."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from vla_ros.errors import UnknownNameError
from vla_ros.profile import config_folder, read_yaml, require

Table = dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Synonyms:
    """Names to their words, the canonical one first. in_container: what replaces 'in' for some containers."""

    shapes: Table
    containers: Table
    colours: Table
    directions: Table
    relations: Table
    in_container: Table

    def __post_init__(self):
        for part, table in vars(self).items():
            empty = [name for name, words in table.items() if not words]
            require(not empty, f"{part} has no words for {', '.join(empty)}")
        unknown = self.in_container.keys() - self.containers.keys()
        require(not unknown, f"in_container has {sorted(unknown)}, which are no containers")

    def nouns(self, shape: str) -> tuple[str, ...]:
        """The words for a shape or a container, or UnknownNameError."""
        table = self.shapes | self.containers
        return lookup(table, "shape", shape)

    def kinds(self) -> list[tuple[str, str]]:
        """(shape, colour) of everything that can be named; the colour of a container is empty."""
        return [*((s, c) for s in self.shapes for c in self.colours), *((name, "") for name in self.containers)]

    def prepositions(self, key: str, reference: str = "") -> tuple[str, ...]:
        """The words for a direction, or for a relation to what `reference` names; or UnknownNameError."""
        if key == "in":
            names = {word: name for name, words in self.containers.items() for word in words}
            container = next((names[word] for word in reference.split() if word in names), "")
            return self.in_container.get(container, self.relations["in"])
        return lookup(self.directions | self.relations, "direction or relation", key)


def lookup(table: Table, kind: str, name: str) -> tuple[str, ...]:
    if name not in table:
        raise UnknownNameError(kind, name, table)
    return table[name]


@cache
def synonyms() -> Synonyms:
    """The shipped ones."""
    return read_yaml(config_folder() / "wordings" / "synonyms.yaml", Synonyms, "synonyms")


def one_of(rng: np.random.Generator, options):
    """A random one of a sequence, all alike."""
    return options[int(rng.integers(len(options)))]
