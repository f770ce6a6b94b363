"""One vocabulary for words, for where the model looks, for its verdicts, and for actions.

Ids: special tokens, then x and y positions in the image, then action bins, then subwords. Subwords are pieces of UTF-8
text down to single bytes, so that there is no text that the vocabulary cannot spell.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

SPECIAL = ("<pad>", "<bos>", "<answer>", "<end>", "<nowhere>", "<act>", "<absent>", "<impossible>", "<nonsense>")
PAD, BOS, ANSWER, END, NOWHERE, ACT, ABSENT, IMPOSSIBLE, NONSENSE = range(len(SPECIAL))
VERDICTS = ("act", "absent", "impossible", "nonsense")
VERDICT_RANGE = (ACT, NONSENSE + 1)  # ids
LOOK_BINS = 256  # along each side of the image
ACTION_BINS = 256
LOOK_X = len(SPECIAL)
LOOK_Y = LOOK_X + LOOK_BINS
ACTIONS = LOOK_Y + LOOK_BINS
WORDS = ACTIONS + ACTION_BINS
SUBWORDS = 1200  # at most, the 256 bytes included

NORMALIZER = normalizers.Sequence([
    normalizers.NFKC(), normalizers.Lowercase(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()])


def normalised(text: str) -> str:
    """What encoding keeps of a text: lower case, NFKC, white space squeezed."""
    return NORMALIZER.normalize_str(text)


def build_tokenizer(texts: Iterable[str], subwords: int = SUBWORDS) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer, trained on `texts`; the same texts give the same tokenizer."""
    trained = Tokenizer(models.BPE())
    prepare(trained)
    trained.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=subwords, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False))
    learnt = json.loads(trained.to_str())["model"]
    names = [*SPECIAL, *(f"<look_x_{i}>" for i in range(LOOK_BINS)), *(f"<look_y_{i}>" for i in range(LOOK_BINS)),
             *(f"<action_{i}>" for i in range(ACTION_BINS))]
    vocabulary = {name: i for i, name in enumerate(names)} | {word: WORDS + i for word, i in learnt["vocab"].items()}
    core = Tokenizer(models.BPE(vocabulary, [tuple(pair) for pair in learnt["merges"]]))
    prepare(core)
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", bos_token="<bos>",
                                   split_special_tokens=True)


def prepare(core: Tokenizer) -> None:
    """How text becomes bytes, and bytes text."""
    core.normalizer = NORMALIZER
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    core.decoder = decoders.ByteLevel()


class Words:
    """A tokenizer's subwords by id, for single texts."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, length: int):
        self.tokenizer, self.length = tokenizer, length
        self.core = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self.core.encode_special_tokens = True  # what a person types is text, whatever it looks like

    def ids(self, text: str) -> list[int]:
        """The text's ids, however many."""
        return self.core.encode(text, add_special_tokens=False).ids

    def encode(self, text: str) -> list[int]:
        """<bos> and the text's ids, padded to the length; ValueError when they do not fit."""
        ids = [BOS, *self.ids(text)]
        if len(ids) > self.length:
            raise ValueError(f"{len(ids) - 1} subwords, at most {self.length - 1}")
        return ids + [PAD] * (self.length - len(ids))

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the subwords among `ids`; tokens that are no words leave no trace."""
        return self.core.decode([int(i) for i in ids if i >= WORDS], skip_special_tokens=False).removeprefix(" ")
