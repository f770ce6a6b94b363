"""What is refused before any model is asked: to harm people or property, by config/refused_instructions.yaml.

It reads words, not intentions: it also refuses 'do not hurt him', and it cannot know every way of saying a thing.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from vla_ros.errors import ConfigError, UnknownNameError
from vla_ros.profile import config_folder, read_yaml, require

GAP = 3  # words that '...' may stand for
LEET = str.maketrans("013457@$", "oieastas")
INFLECTED = 3  # letters: shorter words have no other forms
VOWELS = "aeiou"


@dataclass(frozen=True)
class Category:
    """reason: why, to be read after 'because'; patterns: see config/refused_instructions.yaml."""

    reason: str
    patterns: tuple[str, ...]

    def __post_init__(self):
        require(bool(self.reason.strip()), "reason must not be empty")
        require(bool(self.patterns), "patterns must name at least one")


@dataclass(frozen=True)
class Rules:
    """The file: lists of words by name, and what is refused by category."""

    categories: dict[str, Category]
    words: dict[str, tuple[str, ...]]


class InstructionFilter:
    """Patterns to reasons. Build it with `load`."""

    def __init__(self, rules: Rules):
        lists = {name: alternatives(words) for name, words in rules.words.items()}
        self.reasons = {name: category.reason for name, category in rules.categories.items()}
        self.patterns = {name: compiled(name, category.patterns, lists) for name, category in rules.categories.items()}

    @classmethod
    def load(cls, file: Path | str | None = None) -> InstructionFilter:
        """From a file (None: the shipped one); one that cannot be used is a ConfigError that says where."""
        path = config_folder() / "refused_instructions.yaml" if file is None else Path(file)
        rules = read_yaml(path, Rules, "filter")
        try:
            return cls(rules)
        except (ConfigError, UnknownNameError) as error:
            raise ConfigError(f"{path}: {error}") from error

    def reason(self, text: str) -> str:
        """Why `text` is refused, in words; empty when it is fine."""
        found = (name for name, pattern in self.patterns.items() if any(map(pattern.search, readings(text))))
        name = next(found, "")
        return self.reasons.get(name, "")


def readings(text: str) -> set[str]:
    """`text` as it may be meant: lower case, no punctuation, spelt-out letters joined, digits read as letters,
    a letter that comes more than twice in a row once or twice."""
    letters = unicodedata.normalize("NFKD", text).casefold()
    letters = "".join(c for c in letters if unicodedata.category(c) not in ("Mn", "Cf", "Cc") or c.isspace())
    letters = letters.replace("'", "").replace("\u2019", "")
    spaced, joined = (re.sub(r"[^\w\s@$]|_", other, letters) for other in (" ", ""))
    texts = [tidy(form) for form in (spaced, joined, leet(spaced), leet(joined))]
    return {re.sub(r"(\w)\1{2,}", repeated, text) for text in texts for repeated in (r"\1", r"\1\1")}


def leet(text: str) -> str:
    """'k1ll' is 'kill'; numbers stay numbers."""
    return " ".join(w.translate(LEET) if any(c.isalpha() for c in w) else w for w in text.split())


def tidy(text: str) -> str:
    """Single spaces; 'k i l l' is 'kill'."""
    text = " ".join(re.sub(r"[@$]", " ", text).split())
    return re.sub(r"(?<!\S)\w(?: \w){2,}(?!\S)", lambda match: match[0].replace(" ", ""), text)


def compiled(name: str, patterns: tuple[str, ...], lists: dict[str, str]) -> re.Pattern:
    """One expression for all patterns of a category, or an error that names the pattern."""
    return re.compile("|".join(f"(?:{expression(name, pattern, lists)})" for pattern in patterns))


def expression(name: str, pattern: str, lists: dict[str, str]) -> str:
    """A pattern of the file as a regular expression."""
    if pattern.startswith("re:"):
        try:
            re.compile(pattern[3:])
        except re.error as error:
            raise ConfigError(f"{name}: '{pattern}' is no regular expression: {error}") from error
        return pattern[3:]
    parts = []
    for word in pattern.split():
        if word.startswith("<") and word.endswith(">"):
            if word[1:-1] not in lists:
                raise UnknownNameError(f"list of words in '{pattern}'", word[1:-1], lists)
            parts.append(" " + lists[word[1:-1]])
        else:
            parts.append(rf"(?: \S+){{0,{GAP}}}" if word == "..." else " " + forms(word))
    joined = "".join(parts)
    require(joined.startswith(" "), f"{name}: '{pattern}' must begin with a word")
    return rf"(?<!\S){joined[1:]}(?!\S)"


def alternatives(phrases: tuple[str, ...]) -> str:
    return "(?:" + "|".join(" ".join(forms(word) for word in phrase.split()) for phrase in phrases) + ")"


def forms(word: str) -> str:
    """A regular expression for a word and its forms in -s, -es, -ed, -er and -ing."""
    word = word.lower()
    require(word.isalnum(), f"'{word}' must be letters and digits only")
    if len(word) < INFLECTED:
        return word
    if word.endswith("e"):
        return f"{word[:-1]}(?:e|es|ed|er|ers|ing)"
    if word.endswith("y") and word[-2] not in VOWELS:
        return f"{word[:-1]}(?:y|ys|ies|ied|ier|iers|ying)"
    return f"{word}(?:s|es|{word[-1]}?(?:ed|er|ers|ing))?"
