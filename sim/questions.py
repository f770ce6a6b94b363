"""Questions about what stands on the table, and their true answers. Only what is clear is asked.

Directions are the robot's own: left is +y, and near is the small x. Answers are canonical words, or 'nothing'.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np

from vla_ros.profile import config_folder, read_yaml
from vla_ros.referring import (
    MARGIN,
    NONE,
    SIDES,
    Kind,
    Phrase,
    by_kind,
    by_place,
    colour_words,
    refer,
    sides,
    whole_names,
)
from vla_ros.sim.tasks.layout import TABLE_BOX
from vla_ros.synonyms import one_of, synonyms

INSIDE, OUTSIDE = 0.05, 0.10  # [m] from a container's centre: nearer is in it, farther is not, between is not asked
CLEAR = 0.02  # [m] by which the others must be on the other side, if one is asked what is left of something
BORDER = 0.012  # [m] around the borders between the thirds of the table, in which 'where' is not asked
DEPTHS, ASIDES = ("near", "middle", "far"), ("right", "middle", "left")  # by rising x, by rising y
PLACES = tuple("middle" if d == a else f"{d} {a}" for d, a in product(DEPTHS, ASIDES))
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
NOTHING = "nothing"
CONTAINER = 0.1  # share of the questions whether something is there that are about a tray or a plate
EXTREMES = {
    (1, 1): ("furthest to the left", "on the far left", "the leftmost"),
    (1, -1): ("furthest to the right", "on the far right", "the rightmost"),
    (0, -1): ("nearest to you", "closest to you", "the nearest"),
    (0, 1): ("farthest from you", "furthest away from you", "the farthest"),
}


@dataclass(frozen=True)
class Question:
    """kind: what, where, count, colour, is there or reach. about: the one object that one must look at to answer, or
    NONE; mark: the object from whose place it is told; absent: it is not there; counted: those that are counted."""

    kind: str
    question: str
    answer: str
    about: int = NONE
    mark: int = NONE
    absent: bool = False
    counted: tuple[int, ...] = ()


@dataclass(frozen=True)
class Seen:
    """kinds: (shape, colour) of M objects; positions (M, 2) [m], arm's base frame; reachable (M,) bool or None."""

    kinds: Sequence[Kind]
    positions: np.ndarray
    reachable: np.ndarray | None

    @property
    def named(self) -> list[int]:
        """The objects that their kind alone sets apart."""
        return [i for i in range(len(self.kinds)) if any(by_kind(self.kinds, i))]

    def name(self, rng: np.random.Generator, index: int) -> str:
        """Words for one of `named` that do not tell where it is."""
        return refer(rng, self.kinds, self.positions, index, spatial=False)

    def canonical(self, index: int) -> str:
        return whole_names(self.kinds[index])[0]


Asker = Callable[[np.random.Generator, Seen], "Question | None"]


@cache
def templates() -> dict[str, tuple[str, ...]]:
    return read_yaml(config_folder() / "wordings" / "questions.yaml", dict[str, tuple[str, ...]], "questions")


def ask(rng: np.random.Generator, kinds: Sequence[Kind], positions: np.ndarray,
        reachable: np.ndarray | None = None) -> Question:
    """A random question of a random kind. reachable (M,): what the arm can reach; None: that is not asked."""
    seen = Seen(kinds, np.asarray(positions, float).reshape(-1, 2), reachable)
    for i in rng.permutation(len(ASKERS)):
        question = list(ASKERS.values())[i](rng, seen)
        if question is not None:
            return question
    return ask_is_there(rng, seen)


def worded(rng: np.random.Generator, kind: str, template: str, answer: str, about: int = NONE, mark: int = NONE,
           absent: bool = False, counted: tuple[int, ...] = (), **given: str) -> Question:
    return Question(kind, one_of(rng, templates()[template]).format(**given), answer, about, mark, absent, counted)


def ask_what(rng: np.random.Generator, seen: Seen) -> Question | None:
    for i in rng.permutation(len(WHATS)):
        question = WHATS[i](rng, seen)
        if question is not None:
            return question
    return None


def ask_relation(rng: np.random.Generator, seen: Seen) -> Question | None:
    """What is left of X: one object clearly is and no other may be, or none is."""
    options = []
    for mark, (relation, (axis, sign)) in product(seen.named, SIDES.items()):
        along = np.delete(sign * (seen.positions[:, axis] - seen.positions[mark, axis]), mark)
        if (along >= MARGIN).sum() == (along > -CLEAR).sum() <= 1 < len(seen.kinds):
            others = [i for i in range(len(seen.kinds)) if i != mark]
            found = next((i for i, a in zip(others, along, strict=True) if a > 0), NONE)
            options.append((mark, relation, found))
    options = balanced(rng, options, lambda option: option[2] == NONE)
    if not options:
        return None
    mark, relation, found = one_of(rng, options)
    answer = NOTHING if found == NONE else seen.canonical(found)
    return worded(rng, "what", "relation", answer, found, mark, found == NONE, o=seen.name(rng, mark),
                  d=one_of(rng, sides(relation)))


def ask_nearest(rng: np.random.Generator, seen: Seen) -> Question | None:
    """What is nearest to X, where it is so by MARGIN."""
    options = []
    for mark in seen.named:
        away = np.linalg.norm(seen.positions - seen.positions[mark], axis=1)
        order = [i for i in np.argsort(away) if i != mark]
        if len(order) > 1 and away[order[1]] - away[order[0]] >= MARGIN:
            options.append((mark, order[0]))
    if not options:
        return None
    mark, nearest = one_of(rng, options)
    return worded(rng, "what", "nearest", seen.canonical(nearest), nearest, mark, o=seen.name(rng, mark))


def ask_inside(rng: np.random.Generator, seen: Seen) -> Question | None:
    """What is in a container: one object, or nothing."""
    options = []
    for mark in seen.named:
        if seen.kinds[mark][0] in synonyms().containers:
            away = np.linalg.norm(seen.positions - seen.positions[mark], axis=1)
            inside = [i for i in np.flatnonzero(away <= INSIDE) if i != mark]
            if len(inside) <= 1 and not ((away > INSIDE) & (away < OUTSIDE)).any():
                options.append((mark, inside[0] if inside else NONE))
    if not options:
        return None
    mark, inside = one_of(rng, options)
    answer = NOTHING if inside == NONE else seen.canonical(inside)
    name = seen.name(rng, mark)
    at_rest = [words for words in synonyms().prepositions("in", name) if words not in ("into", "onto")]
    return worded(rng, "what", "inside", answer, int(inside), mark, inside == NONE, o=name, d=one_of(rng, at_rest))


def ask_extreme(rng: np.random.Generator, seen: Seen) -> Question | None:
    """What stands farthest left, right, near or far, where it is so by MARGIN."""
    options = []
    for axis, sign in EXTREMES if len(seen.kinds) > 1 else ():
        order = np.argsort(-sign * seen.positions[:, axis])
        if sign * (seen.positions[order[0], axis] - seen.positions[order[1], axis]) >= MARGIN:
            options.append(((axis, sign), order[0]))
    if not options:
        return None
    side, index = one_of(rng, options)
    return worded(rng, "what", "extreme", seen.canonical(index), int(index), d=one_of(rng, EXTREMES[side]))


def place_of(position: np.ndarray) -> str:
    """One of PLACES for a (2,) position [m]; empty where it is too near to a border to be clear."""
    low, high = np.array(TABLE_BOX)
    borders = low + (high - low) * np.array([[1], [2]]) / 3  # (2, axes)
    if (np.abs(position - borders) < BORDER).any():
        return ""
    depth, aside = (position > borders).sum(axis=0)
    return PLACES[depth * len(ASIDES) + aside]


def ask_where(rng: np.random.Generator, seen: Seen) -> Question | None:
    places = [(i, place_of(seen.positions[i])) for i in seen.named]
    clear = [(i, place) for i, place in places if place]
    if not clear:
        return None
    index, place = one_of(rng, clear)
    return worded(rng, "where", "where", place, index, o=seen.name(rng, index))


def ask_count(rng: np.random.Generator, seen: Seen) -> Question | None:
    """How many of a shape, of a colour, or of both; every number that the scene offers is as likely."""
    shapes, colours = tuple(synonyms().shapes), tuple(synonyms().colours)
    subjects = [*product(shapes, [""]), *product([""], colours), *product(shapes, colours)]
    counts: dict[int, list[Kind]] = {}
    for subject in subjects:
        counts.setdefault(len(fitting(seen.kinds, subject)), []).append(subject)
    count = one_of(rng, sorted(counts))
    if count >= len(NUMBERS):
        return None
    subject = one_of(rng, counts[count])
    return worded(rng, "count", "count", NUMBERS[count], absent=not count, counted=fitting(seen.kinds, subject),
                  n=plural(phrase(rng, subject)))


def phrase(rng: np.random.Generator, kind: Kind) -> str:
    """Words for a shape, a colour ('red object'), or both; mostly the canonical ones."""
    nouns = synonyms().nouns(kind[0]) if kind[0] else ("object", "thing")
    colours = synonyms().colours[kind[1]] if kind[1] else ("",)
    if rng.random() < 0.6:
        nouns, colours = nouns[:1], colours[:1]
    return f"{one_of(rng, colours)} {one_of(rng, nouns)}".strip()


def plural(words: str) -> str:
    return words + ("es" if words.endswith(("x", "sh")) else "s")


def with_article(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def ask_colour(rng: np.random.Generator, seen: Seen) -> Question | None:
    """The colour of an object that is named without it."""
    options = []
    for i, (shape, colour) in enumerate(seen.kinds):
        if shape not in synonyms().containers:
            by_shape = [Phrase(name) for name in by_kind(seen.kinds, i)[1]]
            names = [name for group in [by_shape, *by_place(seen.kinds, seen.positions, i)] for name in group
                     if not tells(name.text, seen.kinds[i])]
            options += [(names, colour, i)] if names else []
    if not options:
        return None
    names, colour, index = one_of(rng, options)
    name = one_of(rng, names)
    return worded(rng, "colour", "colour", colour, index, name.mark, o=name.text)


def tells(name: str, kind: Kind) -> bool:
    """Whether a name holds the colour of the object."""
    return any(f" {colour} " in f" {name} " for colour in colour_words(kind))


def ask_is_there(rng: np.random.Generator, seen: Seen) -> Question:
    """Yes as often as no, where the scene allows it; what is not there shares the shape or the colour of what is."""
    if rng.random() < CONTAINER:
        shape = one_of(rng, tuple(synonyms().containers))
        index = only(seen.kinds, (shape, ""))
        answer = "yes" if shape in (s for s, _ in seen.kinds) else "no"
        words = with_article(phrase(rng, (shape, "")))
        return worded(rng, "is there", "is there", answer, index, absent=answer == "no", a=words)
    every = set(product(synonyms().shapes, synonyms().colours))
    there = sorted(every & set(map(tuple, seen.kinds)))
    absent = sorted(every - set(there))
    alike = [(s, c) for s, c in absent if any((s == t) != (c == b) for t, b in there)] or absent
    yes = bool(there) and (rng.random() < 0.5 or not absent)
    kind = one_of(rng, there if yes else alike)
    asked = partly(rng, kind, there, yes)
    answer, words = "yes" if yes else "no", with_article(phrase(rng, asked))
    return worded(rng, "is there", "is there", answer, only(seen.kinds, asked), absent=not yes, a=words)


def only(kinds: Sequence[Kind], words: Kind) -> int:
    """The object that a shape, a colour or both mean, if it is one."""
    found = fitting(kinds, words)
    return found[0] if len(found) == 1 else NONE


def fitting(kinds: Sequence[Kind], words: Kind) -> tuple[int, ...]:
    """The objects that a shape, a colour or both may mean."""
    return tuple(i for i, (shape, colour) in enumerate(kinds)
                 if words[0] in (shape, "") and words[1] in (colour, ""))


def partly(rng: np.random.Generator, kind: Kind, there: list[Kind], yes: bool) -> Kind:
    """Now and then the shape or the colour alone, where the answer remains the same."""
    shape, colour = kind
    short = one_of(rng, (kind, (shape, ""), ("", colour)))
    holds = any(short[0] in (s, "") and short[1] in (c, "") for s, c in there)
    return short if holds == yes else kind


def ask_reach(rng: np.random.Generator, seen: Seen) -> Question | None:
    if seen.reachable is None or not seen.named:
        return None
    index = one_of(rng, balanced(rng, seen.named, lambda i: bool(seen.reachable[i])))
    return worded(rng, "reach", "reach", "yes" if seen.reachable[index] else "no", index, o=seen.name(rng, index))


def balanced(rng: np.random.Generator, options: list, holds: Callable) -> list:
    """Those options for which something holds, or those for which it does not: by a coin, if there are both."""
    parts = [[o for o in options if bool(holds(o)) == value] for value in (True, False)]
    return one_of(rng, [part for part in parts if part] or [[]])


WHATS: tuple[Asker, ...] = (ask_relation, ask_nearest, ask_inside, ask_extreme)
ASKERS: dict[str, Asker] = {"what": ask_what, "where": ask_where, "count": ask_count, "colour": ask_colour,
                            "is there": ask_is_there, "reach": ask_reach}


def corpus() -> list[str]:
    """Every template and every answer that is no name: for a vocabulary."""
    texts = [text.format_map(dict.fromkeys("odna", "")) for texts in templates().values() for text in texts]
    return [*texts, *(text for texts in EXTREMES.values() for text in texts), *PLACES, *NUMBERS, NOTHING, "yes", "no"]
