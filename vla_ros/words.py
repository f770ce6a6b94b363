"""What people say to a robot: wordings of instructions by family, and what disturbs them."""

from __future__ import annotations

import re
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from string import Formatter, capwords

import numpy as np

from vla_ros.errors import ConfigError, UnknownNameError
from vla_ros.profile import config_folder, read_yaml, require
from vla_ros.referring import refer
from vla_ros.synonyms import Table, lookup, one_of, synonyms

__all__ = ["FAMILIES", "HELD_OUT", "KINDS", "REFUSED", "TRAIN", "corpus", "instruction", "invented", "load_refused",
           "load_wordings", "object_words", "perturb", "plain", "refer", "refused_instruction"]

FOLDER = config_folder() / "wordings"
TRAIN, HELD_OUT, REFUSED = FOLDER / "train.yaml", FOLDER / "held_out.yaml", FOLDER / "refused.yaml"
FAMILIES = {  # what a template must hold, and what it may
    "reach": ("o", "o"), "push": ("od", "od"), "pick": ("o", "o"), "place": ("or", "ord"), "next_to": ("ord", "ord"),
    "stack": ("or", "ord"), "away": ("o", "o"), "home": ("", ""), "stop": ("", ""), "drive": ("o", "o"),
}
KINDS = ("impossible", "nonsense", "empty")
PARTS = ("train", "held_out")
NOTHING = ("", " ", "   ", ".", "...", "?", "!", "-", ",", "\n")
ONSETS = "b bl d dr f fl g gn h j k kr m n p qu sn t v w y z zl".split()
CODAS = "b g k lf m nt p rf rp sh t x zz".split()
ALIKE = 0.67  # of the letters that two words share: more than a typo leaves
TYPO = 5  # letters: shorter words stay as they are, so that 'left' and 'red' can be read
POLITE = ("please {}", "{} please", "{}, please", "robot, {}", "hey robot, {}", "hello, {}", "ok, {}", "{}, thank you",
          "{} now", "and now {}", "hi, {}, thanks")


def plain(text: str) -> str:
    """Lower case, no punctuation, single spaces: what makes two wordings the same."""
    return " ".join(re.sub(r"[^\w\s{}]|_", " ", text.lower()).split())


def load_wordings(file: Path | str) -> Table:
    """Families to templates of a YAML file; an unknown family, a wrong placeholder or a repetition is a ConfigError."""
    path = Path(file)
    table = read_yaml(path, Table, "wordings")
    try:
        for family, templates in table.items():
            must, may = lookup(FAMILIES, "family", family)
            check_templates(family, templates, must, may)
    except (ConfigError, UnknownNameError) as error:
        raise ConfigError(f"{path}: {error}") from error
    return table


def load_refused(file: Path | str = REFUSED) -> dict[str, Table]:
    """'impossible' and 'nonsense' to 'train' and 'held_out' to templates with {o} and {r}; or ConfigError."""
    path = Path(file)
    table = read_yaml(path, dict[str, Table], "refused")
    try:
        for kind, parts in table.items():
            lookup(dict.fromkeys(KINDS[:2], ()), "kind", kind)
            require(set(parts) == set(PARTS), f"{kind} must hold {' and '.join(PARTS)}")
            for templates in parts.values():
                check_templates(kind, templates, "", "or")
    except (ConfigError, UnknownNameError) as error:
        raise ConfigError(f"{path}: {error}") from error
    return table


def check_templates(name: str, templates: tuple[str, ...], must: str, may: str) -> None:
    """ConfigError that names the template whose placeholders are not what they must and may be."""
    require(bool(templates), f"{name} has no templates")
    seen = set()
    for template in templates:
        found = placeholders(name, template)
        need = " ".join(f"{{{field}}}" for field in must) or "nothing"
        allowed = " ".join(f"{{{field}}}" for field in may) or "nothing"
        fits = set(must) <= found <= set(may)
        require(fits, f"{name}: '{template}' must hold {need} and may hold {allowed} as placeholders")
        same = plain(template) or template
        require(same not in seen, f"{name}: '{template}' is there twice")
        seen.add(same)


def placeholders(name: str, template: str) -> set[str]:
    """What stands between braces; ConfigError where they do not pair."""
    try:
        parts = [part for part in Formatter().parse(template) if part[1] is not None]
    except ValueError as error:
        raise ConfigError(f"{name}: '{template}': {error}") from error
    return {f"{field}!{conversion}:{spec}" if spec or conversion else field for _, field, spec, conversion in parts}


@cache
def shipped(file: Path) -> Table:
    return load_wordings(file)


@cache
def shipped_refused() -> Table:
    return {kind: parts["train"] for kind, parts in load_refused().items()}


def instruction(family: str, rng: np.random.Generator, o: str = "", r: str = "", d: str = "",
                templates: Table | None = None) -> str:
    """A random wording of a family (None: of the shipped ones to train on).

    o, r: words for the object and for what it goes to, without article. d: left, right, forward, back or a relation
    ('in', 'next to', 'on top of' ...), which appears as a random synonym. What the family needs and is not given is a
    ConfigError.
    """
    must, _ = lookup(FAMILIES, "family", family)
    given = {"o": o, "r": r, "d": d}
    missing = [field for field in must if not given[field]]
    require(not missing, f"an instruction of family {family} needs {', '.join(missing)}")
    template = one_of(rng, lookup(shipped(TRAIN) if templates is None else templates, "family", family))
    if "{d}" in template:
        given["d"] = one_of(rng, synonyms().prepositions(d, r))
    return template.format(**given)


def corpus(seed: int = 0) -> list[str]:
    """What instructions to train on sound like, every template and every synonym in it: for a vocabulary."""
    rng, known = np.random.default_rng(seed), synonyms()
    names = [text for table in vars(known).values() for words in table.values() for text in words]
    phrases = [text for table in (known.directions, known.relations) for words in table.values() for text in words]
    texts = [text for table in (shipped(TRAIN), shipped_refused()) for group in table.values() for text in group]
    filled = [text.format(o=object_words(*one_of(rng, known.kinds()), rng), r=one_of(rng, names),
                          d=one_of(rng, phrases)) for text in texts]
    return [*filled, *names, *(phrase.format("") for phrase in POLITE)]


def object_words(shape: str, colour: str, rng: np.random.Generator) -> str:
    """Words for a kind of object, about half of the time the canonical ones; a container has no colour."""
    nouns = synonyms().nouns(shape)
    colours = () if shape in synonyms().containers else lookup(synonyms().colours, "colour", colour)
    if rng.random() < 0.4:
        nouns, colours = nouns[:1], colours[:1]
    return " ".join([*([one_of(rng, colours)] if colours else []), one_of(rng, nouns)])


def invented(rng: np.random.Generator) -> str:
    """A word that there is not, 'zorp', and that no known word could be meant by."""
    while True:
        syllables = [one_of(rng, ONSETS) + one_of(rng, "aeiou") + one_of(rng, CODAS) for _ in range(rng.integers(1, 3))]
        word = "".join(syllables)
        if len(word) > 3 and not get_close_matches(word, known_words(), n=1, cutoff=ALIKE):
            return word


def refused_instruction(kind: str, rng: np.random.Generator, templates: Table | None = None) -> str:
    """Text of a kind that must be refused: impossible, nonsense or empty. None: the shipped ones to train on."""
    table = (shipped_refused() if templates is None else templates) | {"empty": NOTHING}
    template = one_of(rng, lookup(table, "kind", kind))
    if "{" not in template:
        return template
    objects = [k for k in synonyms().kinds() if k[1]]
    first = one_of(rng, objects)
    others = [k for k in synonyms().kinds() if k != first] + 5 * [k for k in synonyms().kinds() if not k[1]]
    return template.format(o=object_words(*first, rng), r=object_words(*one_of(rng, others), rng))


def perturb(text: str, rng: np.random.Generator) -> str:
    """`text` as a hasty, a polite or a sloppy person would type it: at most three changes, and often none."""
    for change in rng.permutation(len(CHANGES))[:rng.integers(0, 4)]:
        text = CHANGES[change](text, rng)
    return text


def typo(text: str, rng: np.random.Generator) -> str:
    """One long word with two letters swapped, one doubled or one dropped; never so that it reads as another word."""
    words = text.split(" ")
    long = [i for i, word in enumerate(words) if len(word) >= TYPO and word.isalpha()]
    if not long:
        return text
    i = one_of(rng, long)
    word, at = words[i], int(rng.integers(1, len(words[i]) - 1))
    ends = (word[at + 1] + word[at] + word[at + 2:], word[at] + word[at:], word[at + 1:])
    wrong = word[:at] + one_of(rng, ends)
    words[i] = word if wrong.lower() in known_words() else wrong
    return " ".join(words)


@cache
def known_words() -> frozenset[str]:
    """Every word of the synonyms and of the wordings."""
    tables = [*vars(synonyms()).values(), shipped(TRAIN)]
    return frozenset(word for t in tables for texts in t.values() for text in texts for word in plain(text).split())


def without_articles(text: str, rng: np.random.Generator) -> str:
    return re.sub(r"\b(the|a|an) (?=\w)", "", text)


def recased(text: str, rng: np.random.Generator) -> str:
    """A capital first letter, mostly; sometimes capitals all over, or none."""
    return one_of(rng, (text[:1].upper() + text[1:], text[:1].upper() + text[1:], text.upper(), capwords(text, ' '),
                        text.lower()))


def politer(text: str, rng: np.random.Generator) -> str:
    bare = text.rstrip(" .!?")
    return text if not bare or {"please", "now"} & set(plain(text).split()) else one_of(rng, POLITE).format(bare)


def punctuated(text: str, rng: np.random.Generator) -> str:
    bare = text.rstrip(" .!?")
    return one_of(rng, (bare, bare.replace(",", ""), bare + ".", bare + "!", bare + " ...", bare.replace(" ", "  ", 1)))


CHANGES = (typo, without_articles, recased, politer, punctuated)
