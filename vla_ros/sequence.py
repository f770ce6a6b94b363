"""Instructions of several parts: "touch the red cube, then the blue one" is to touch the one cube, then the other.

A part is one only if it can be told alone. What speaks of "it" is about the part before ("lift the cube, then lower it
onto the plate" is one thing to do), and so are words that name nothing of their own: they stay with the part before.
"""

from __future__ import annotations

import re
from functools import cache

from vla_ros.synonyms import synonyms
from vla_ros.words import TRAIN, load_wordings, plain

BETWEEN = re.compile(r"(?:^|[\s,;.]+)(?:and\s+)?(?:then|after that|afterwards|finally)\b[\s,:]*", re.IGNORECASE)
OF_BEFORE = re.compile(r"\b(?:(?:it|its|them|they|both)\b|(?:that|this)\b(?! \w))", re.IGNORECASE)
TO_BEFORE = re.compile(r"\b(?:of|on|onto|in|into|to|near|beside|behind|from|towards) (?:it|them|that|this)\b(?! \w)",
                       re.IGNORECASE)
ARTICLE = "(?:the|a|an|that|this)"
FIRST = re.compile(r"^\s*(?:please\s+)?first[\s,:]+", re.IGNORECASE)


def parts(text: str) -> list[str]:
    """What is to be done one after the other; `text` itself alone where it is one thing, or does not come apart."""
    said = [part.strip(" ,;.") for part in BETWEEN.split(FIRST.sub("", text))]
    if len(said) < 2 or not all(said) or not names_something(said[0]):
        return [text]
    found = said[:1]
    for part in said[1:]:
        alone = told_alone(part, found[-1])
        if alone is None:
            found[-1] = f"{found[-1]}, then {part}"
        else:
            found.append(alone)
    return found if len(found) > 1 else [text]


def told_alone(part: str, before: str) -> str | None:
    """`part` as it would be said without the part before it, or None where it cannot be."""
    if plain(part) in at_home():
        return part
    named, nouns = thing().search(part), [noun for noun in thing().findall(before) if noun.lower() != "one"]
    if named is None or OF_BEFORE.search(part, 0, named.start()) or TO_BEFORE.search(part):
        return None
    if named[0].lower() == "one" and nouns:
        part = f"{part[:named.start()]}{nouns[0]}{part[named.end():]}"
    if not named_only().fullmatch(part):
        return part
    places = list(simply_named().finditer(before))
    if len(places) != 1:  # whose place it is to take cannot be told
        return None
    start, end = places[0].span()
    name = part if re.match(rf"{ARTICLE} ", part, re.IGNORECASE) else f"the {part}"
    return f"{before[:start]}{name}{before[end:]}"


def names_something(text: str) -> bool:
    return thing().search(text) is not None or plain(text) in at_home()


@cache
def at_home() -> frozenset[str]:
    """What is said of no object: go home, stop."""
    table = load_wordings(TRAIN)
    return frozenset(plain(text) for family in ("home", "stop") for text in table[family])


def any_of(words) -> str:
    return "|".join(sorted(map(re.escape, words), key=len, reverse=True))


@cache
def thing() -> re.Pattern:
    """A noun for an object, or 'one'. Not the 'can' of 'can you'."""
    known = synonyms()
    nouns = [word for table in (known.shapes, known.containers) for words in table.values() for word in words]
    return re.compile(rf"\b(?!can your?\b)(?:{any_of([*nouns, 'object', 'thing', 'one'])})\b", re.IGNORECASE)


@cache
def simply_named() -> re.Pattern:
    """'the red cube', 'the leftmost cube': article, at most two words, noun."""
    return re.compile(rf"\b{ARTICLE} (?:[\w-]+ ){{0,2}}?{thing().pattern}", re.IGNORECASE)


@cache
def named_only() -> re.Pattern:
    """Nothing but a name, with an article or without: it wants a verb."""
    colours = any_of(word for words in synonyms().colours.values() for word in words)
    return re.compile(rf"(?:{ARTICLE} (?:[\w-]+ ){{0,2}}?|(?:{colours}) ){thing().pattern}", re.IGNORECASE)
