"""Which instructions mean stop, by config/stop_words.yaml: these are obeyed without asking any model.

It reads whole instructions: what says more than stop is for the model to understand.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from vla_ros.errors import ConfigError, UnknownNameError
from vla_ros.filter import alternatives, compiled, readings
from vla_ros.profile import config_folder, read_yaml, require

NONE = "none"  # in place of a file: no words stop without the model
AROUND = 4  # words or phrases of `around`, at most, on either side


@dataclass(frozen=True)
class Rules:
    """The file: what may stand around a phrase, lists of words by name, and the phrases that mean stop."""

    around: tuple[str, ...]
    words: dict[str, tuple[str, ...]]
    phrases: tuple[str, ...]

    def __post_init__(self):
        require(bool(self.around), "around must name at least one")
        require(bool(self.phrases), f"phrases must name at least one; '{NONE}' in place of a file switches them off")


class StopWords:
    """Build it with `load`."""

    def __init__(self, rules: Rules | None):
        """None: nothing means stop."""
        self._pattern = None
        if rules is not None:
            lists = {name: alternatives(words) for name, words in rules.words.items()}
            around, phrases = alternatives(rules.around), compiled("phrases", rules.phrases, lists).pattern
            self._pattern = re.compile(f"(?:{around} ){{0,{AROUND}}}(?:{phrases})(?: {around}){{0,{AROUND}}}")

    @classmethod
    def load(cls, file: Path | str | None = None) -> StopWords:
        """The words of a file; None or empty: of the shipped one; 'none': no words. ConfigError says what is wrong."""
        if file == NONE:
            return cls(None)
        path = Path(file) if file else config_folder() / "stop_words.yaml"
        rules = read_yaml(path, Rules, "stop words")
        try:
            return cls(rules)
        except (ConfigError, UnknownNameError) as error:
            raise ConfigError(f"{path}: {error}") from error

    def mean(self, text: str) -> bool:
        """Whether all of `text` means stop."""
        return self._pattern is not None and any(self._pattern.fullmatch(once(said)) for said in readings(text))


def once(text: str) -> str:
    """'stop stop stop' is 'stop', 'stop now stop now' is 'stop now'."""
    return re.sub(r"\b(\w+(?: \w+){0,2}?)(?: \1\b)+", r"\1", text)
