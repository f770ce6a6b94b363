"""Phrases that name one object among several, by its kind or by where it stands.

Everything is the robot's own view: left is +y, and nearest to it, who is addressed as 'you', is the smallest x.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vla_ros.errors import ConfigError
from vla_ros.synonyms import lookup, one_of, synonyms

Kind = tuple[str, str]  # shape, colour; '' where there is no word for it
NONE = -1
MARGIN = 0.04  # [m] by which what a phrase says must hold for the object, and for no other
NEAR = 0.16  # [m] between centres, at most, of what is near something
ANYTHING = ("object", "thing")
ONES = ("one", "thing", "object")
CANONICAL = 0.5  # share of the phrases that are plainly 'red cube', where that is unique
EXTREMES = {  # axis and sign of the greatest coordinate, and the phrases for it
    (1, 1): ("leftmost {n}", "{n} on the left", "{n} on the far left", "{n} furthest to the left", "left {n}"),
    (1, -1): ("rightmost {n}", "{n} on the right", "{n} on the far right", "{n} furthest to the right", "right {n}"),
    (0, -1): ("nearest {n}", "closest {n}", "{n} nearest to you", "{n} closest to you"),
    (0, 1): ("farthest {n}", "furthest {n}", "{n} farthest from you", "{n} furthest away"),
}
SIDES = {"left of": (1, 1), "right of": (1, -1), "in front of": (0, -1), "behind": (0, 1)}  # axis and sign
BESIDE = ("near", "next to", "beside", "close to")


class Phrase(NamedTuple):
    """Words for an object; placed: whether they tell where it is; mark: index of the other object by whose place they
    do, or NONE."""

    text: str
    mark: int = NONE
    placed: bool = False


def refer(rng: np.random.Generator, kinds: Sequence[Kind], positions: np.ndarray, index: int,
          spatial: bool = True, canonical: float = CANONICAL) -> str:
    """The words of phrase()."""
    return phrase(rng, kinds, positions, index, spatial, canonical).text


def phrase(rng: np.random.Generator, kinds: Sequence[Kind], positions: np.ndarray, index: int,
           spatial: bool = True, canonical: float = CANONICAL) -> Phrase:
    """What names object `index` and no other; it goes after 'the'.

    kinds: (shape, colour) of each. positions: (M, 2) [m] in the frame of the robot that is addressed; not used unless
    `spatial`. canonical: share of plain 'red cube', where that is unique. ConfigError where nothing sets the object
    apart.
    """
    plain = by_kind(kinds, index)
    whole = plain[0][:1] if plain and plain[0] else []
    if whole and rng.random() < canonical:
        return Phrase(whole[0])
    options = [[Phrase(text) for text in group] for group in plain if group]
    if spatial:
        options += [g for g in by_place(kinds, np.asarray(positions, float), index) if g]
    if not options:
        raise ConfigError(f"nothing sets the {whole_names(kinds[index])[0]} apart from the other objects")
    return one_of(rng, one_of(rng, options))


def colour_words(kind: Kind) -> tuple[str, ...]:
    return () if kind[0] in synonyms().containers or not kind[1] else lookup(synonyms().colours, "colour", kind[1])


def shape_words(kind: Kind) -> tuple[str, ...]:
    return synonyms().nouns(kind[0]) if kind[0] else ()


def whole_names(kind: Kind) -> list[str]:
    """'red cube' and its synonyms, the canonical first."""
    nouns, colours = shape_words(kind), colour_words(kind)
    return [f"{c} {n}" for c in colours for n in nouns] if colours else list(nouns)


def by_kind(kinds: Sequence[Kind], index: int) -> list[list[str]]:
    """Phrases from shape and colour, from the shape alone, and from the colour alone; empty where not unique."""
    shape, colour = kinds[index]
    others = [kind for i, kind in enumerate(kinds) if i != index]
    contained = shape in synonyms().containers
    lone_shape = all(s != shape for s, _ in others)
    lone_colour = not contained and colour and all(c != colour for _, c in others)
    unique = lone_shape if contained or not colour else (shape, colour) not in others
    return [
        whole_names(kinds[index]) if unique else [],
        list(shape_words(kinds[index])) if lone_shape and not contained else [],
        [f"{c} {one}" for c in colour_words(kinds[index]) for one in ONES] if lone_colour else [],
    ]


def groups(kinds: Sequence[Kind], index: int) -> list[tuple[tuple[str, ...], list[int]]]:
    """Nouns that the object shares, and the indices of the others that share them."""
    shape, colour = kinds[index]
    if shape in synonyms().containers:
        return []
    others = [i for i in range(len(kinds)) if i != index]
    found = [(shape_words(kinds[index]), [i for i in others if kinds[i][0] == shape]),
             (tuple(f"{c} {one}" for c in colour_words(kinds[index]) for one in ONES),
              [i for i in others if kinds[i][1] == colour]),
             (ANYTHING, others)]
    return [(nouns, rivals) for nouns, rivals in found if rivals]


def by_place(kinds: Sequence[Kind], positions: np.ndarray, index: int) -> list[list[Phrase]]:
    """Phrases that say where the object is, by kind of phrase; only what holds with MARGIN, and for it alone."""
    extreme, relative = [], []
    for nouns, rivals in groups(kinds, index):
        for (axis, sign), templates in EXTREMES.items():
            if (sign * (positions[index, axis] - positions[rivals, axis]) >= MARGIN).all():
                extreme += [Phrase(template.format(n=noun), placed=True) for template in templates for noun in nouns]
        for mark in range(len(kinds)):
            if mark != index and mark not in rivals:
                names = next((group for group in by_kind(kinds, mark) if group), [])[:1]
                relative += relations(nouns, names, positions, index, rivals, mark)
    return [extreme, relative]


def relations(nouns: Sequence[str], names: list[str], positions: np.ndarray, index: int, rivals: list[int],
              mark: int) -> list[Phrase]:
    """'ball near the tray', 'cube behind the ball': to the object `mark`, whose name is in `names` if it has one."""
    found: list[str] = []
    away = np.linalg.norm(positions - positions[mark], axis=1)
    if away[index] <= NEAR and (away[rivals] >= NEAR + MARGIN).all():
        found += BESIDE
    for relation, (axis, sign) in SIDES.items():
        along = sign * (positions[:, axis] - positions[mark, axis])
        across = abs(positions[index, 1 - axis] - positions[mark, 1 - axis])
        if along[index] >= max(MARGIN, across) and (along[rivals] <= 0).all():
            found += sides(relation)
    return [Phrase(f"{noun} {words} the {name}", mark, True) for noun in nouns for words in found for name in names]


def sides(relation: str) -> list[str]:
    """The words for a key of SIDES that hold at any distance."""
    return [words for words in synonyms().relations[relation] if not words.startswith(("just", "directly"))]
