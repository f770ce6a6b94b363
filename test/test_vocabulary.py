"""Subwords: every text can be spelt, and none can pass for a token that is no word."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from vla_ros.model import vocabulary as vocab
from vla_ros.words import HELD_OUT, TRAIN, corpus, load_wordings

TEXTS = [text.format(o="red cube", r="blue ball", d="on top of")
         for file in (TRAIN, HELD_OUT) for templates in load_wordings(file).values() for text in templates]
TOKENIZER = vocab.build_tokenizer(corpus())
WORDS = vocab.Words(TOKENIZER, 4096)


@given(st.text())
@example("Pick up the RED  cube,\tplease!")
@example("ﬁnd the Ⅳ k\u0301ube 赤い立方体 \U0001f916 <pad> <action_3>")
@example("")
def test_every_text_returns_normalised(text):
    assert WORDS.decode(WORDS.encode(text)) == vocab.normalised(text)


@given(st.text())
def test_what_is_encoded_is_begin_then_subwords_then_padding(text):
    ids = WORDS.encode(text)
    filled = [i for i in ids if i != vocab.PAD]
    assert len(ids) == 4096 and ids[:len(filled)] == filled and filled[0] == vocab.BOS
    assert all(vocab.WORDS <= i < len(TOKENIZER) for i in filled[1:])


def test_normalisation():
    assert vocab.normalised("  Ｔouch\n the   ﬁrst CUBE ") == "touch the first cube"


def test_ids_stand_where_the_model_expects_them():
    ids = TOKENIZER.get_vocab()
    assert [ids[name] for name in vocab.SPECIAL] == list(range(len(vocab.SPECIAL)))
    assert ids["<pad>"] == vocab.PAD and ids["<bos>"] == vocab.BOS and ids["<nowhere>"] == vocab.NOWHERE
    assert [ids[f"<{name}>"] for name in vocab.VERDICTS] == list(range(*vocab.VERDICT_RANGE))
    assert ids["<act>"] == vocab.ACT and ids["<nonsense>"] == vocab.NONSENSE and ids["<absent>"] == vocab.ABSENT
    assert ids["<answer>"] == vocab.ANSWER and ids["<end>"] == vocab.END
    assert ids["<look_x_0>"] == vocab.LOOK_X and ids["<look_y_0>"] == vocab.LOOK_Y
    assert ids["<action_0>"] == vocab.ACTIONS and ids["<action_255>"] == vocab.WORDS - 1
    assert sorted(ids.values()) == list(range(len(ids))) and len(ids) <= vocab.WORDS + vocab.SUBWORDS


def test_common_words_are_one_subword_and_a_text_needs_few():
    assert len([i for i in WORDS.encode("could you pick up the gripper") if i]) == 7
    assert max(sum(map(bool, WORDS.encode(text))) for text in TEXTS) < 40


def test_what_does_not_fit_is_an_error_with_the_numbers():
    with pytest.raises(ValueError, match="4 subwords, at most 3"):
        vocab.Words(TOKENIZER, 4).encode("pick up the gripper")


def test_tokens_that_are_no_words_leave_no_trace():
    ids = [vocab.BOS, vocab.ACT, *WORDS.encode("red")[1:2], vocab.LOOK_X, vocab.ACTIONS, vocab.END, vocab.PAD]
    assert WORDS.decode(ids) == "red"


def test_training_is_repeatable_and_it_survives_being_saved(tmp_path):
    assert vocab.build_tokenizer(corpus()).get_vocab() == TOKENIZER.get_vocab()
    TOKENIZER.save_pretrained(tmp_path)
    again = vocab.Words(AutoTokenizer.from_pretrained(tmp_path), 4096)
    for text in ("Stack the café <pad> on <absent> it", *TEXTS[:50]):
        assert again.encode(text) == WORDS.encode(text)
