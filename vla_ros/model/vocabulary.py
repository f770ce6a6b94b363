"""One vocabulary for words, for where the model looks, and for actions.

Ids: special tokens, then x and y positions in the image, then action bins, then words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

SPECIAL = ("<pad>", "<unk>", "<bos>", "<absent>")
PAD, UNK, BOS, ABSENT = range(4)
LOOK_BINS = 192  # along each side of the image
ACTION_BINS = 256
LOOK_X = len(SPECIAL)
LOOK_Y = LOOK_X + LOOK_BINS
ACTIONS = LOOK_Y + LOOK_BINS
WORDS = ACTIONS + ACTION_BINS


def words_of(text: str) -> list[str]:
    """The lower-case words and numbers of a text; punctuation parts them."""
    return re.findall(r"[a-z0-9']+", text.lower())


def build_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A word-level tokenizer that knows every word of `texts`."""
    names = [*SPECIAL, *(f"<look_x_{i}>" for i in range(LOOK_BINS)), *(f"<look_y_{i}>" for i in range(LOOK_BINS)),
             *(f"<action_{i}>" for i in range(ACTION_BINS))]
    words = sorted({word for text in texts for word in words_of(text)})
    vocabulary = {token: i for i, token in enumerate([*names, *words])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"[^a-z0-9']+"), behavior="removed")
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", unk_token="<unk>", bos_token="<bos>")


class Words:
    """A tokenizer's words by id, for single instructions."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, length: int):
        self.tokenizer, self.length = tokenizer, length
        self.ids = tokenizer.get_vocab()

    def unknown(self, text: str) -> list[str]:
        """The words of `text` that the vocabulary lacks."""
        return [word for word in words_of(text) if word not in self.ids]

    def encode(self, text: str) -> list[int]:
        """<bos> and the words' ids, padded to the length; ValueError when they do not fit."""
        ids = [BOS, *(self.ids.get(word, UNK) for word in words_of(text))]
        if len(ids) > self.length:
            raise ValueError(f"{len(ids) - 1} words, at most {self.length - 1}")
        return ids + [PAD] * (self.length - len(ids))
