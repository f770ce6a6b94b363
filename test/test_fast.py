"""FAST: words for chunks, chunks from words, and errors where words say none."""

import json

import numpy as np
import pytest
from scipy.fft import dct
from vlm_samples import write_fast

from vla_ros.errors import ActionError, CheckpointError
from vla_ros.vlm import fast as module
from vla_ros.vlm.fast import Fast

T, D, SCALE = 8, 4, 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_fast(tmp_path_factory.mktemp("fast"), T, D)


@pytest.fixture(scope="module")
def fast(folder):
    return Fast.open(folder, T, D)


def chunk(seed=0, size=0.1):
    return np.clip(np.cumsum(np.random.default_rng(seed).normal(0, size, (T, D)), axis=0), -1, 1)


def test_a_chunk_comes_back_as_its_rounded_coefficients(fast):
    for seed in range(50):
        values = chunk(seed)
        ids = fast.encode(values)
        back = fast.decode(ids)
        wanted = np.around(dct(values, axis=0, norm="ortho") * SCALE)
        assert np.allclose(dct(back, axis=0, norm="ortho") * SCALE, wanted)
        assert np.abs(back - values).max() <= 0.5 / SCALE * T**0.5
        assert fast.encode(back) == ids and all(0 <= i < fast.count for i in ids)


def test_a_course_that_is_slow_takes_fewer_words(fast):
    assert len(fast.encode(np.full((T, D), 0.3))) < len(fast.encode(chunk(size=0.5))) <= T * D + 8


def test_what_says_no_chunk_is_an_error_and_no_zeros(fast, folder):
    ids = fast.encode(chunk())
    with pytest.raises(ActionError, match="coefficients, expected 8 x 4"):
        fast.decode(ids[:-1])
    with pytest.raises(ActionError, match="0 coefficients"):
        fast.decode([])
    with pytest.raises(ActionError, match=f"{fast.count} is no word of FAST, which has {fast.count}"):
        fast.decode([*ids, fast.count])
    with pytest.raises(ActionError, match="-1 is no word"):
        fast.decode([-1])
    half = fast.words.token_to_id("\u00c3")  # the first byte of a letter of two
    with pytest.raises(ActionError, match="within a letter"):
        fast.decode([*ids, half])


def test_numbers_that_no_robot_did_are_an_error(fast, monkeypatch):
    ids = fast.encode(chunk())
    monkeypatch.setattr(module, "LARGEST", 0.01)
    with pytest.raises(ActionError, match="where quantiles lie at 1"):
        fast.decode(ids)


@pytest.mark.parametrize("values", [np.full((T, D), np.nan), np.zeros((T, D + 1)), np.zeros(T * D)])
def test_what_is_no_chunk_has_no_words(fast, values):
    with pytest.raises(ActionError, match=r"must be finite and of shape \(8, 4\)"):
        fast.encode(values)


def test_a_coefficient_below_the_smallest_has_no_words(fast):
    with pytest.raises(ActionError, match="no words for coefficients from -1131"):
        fast.encode(np.full((T, D), -40.0))


def changed(folder, tmp_path, **settings):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    known = json.loads((folder / "processor_config.json").read_text())
    (tmp_path / "processor_config.json").write_text(json.dumps(known | settings))
    return tmp_path


@pytest.mark.parametrize("settings,message", [
    ({"scale": 0}, "'scale' above 0"), ({"scale": "10"}, "'scale'"), ({"min_token": 0.5}, "'min_token'"),
    ({"min_token": None}, "'min_token'"), ({"time_horizon": 50}, "for time_horizon 50, the actions have 8"),
    ({"action_dim": 7}, "for action_dim 7, the actions have 4")])
def test_settings_that_cannot_be_meant_are_refused(folder, tmp_path, settings, message):
    with pytest.raises(CheckpointError, match=message):
        Fast.open(changed(folder, tmp_path, **settings), T, D)


def test_files_that_are_missing_or_damaged_are_named(folder, tmp_path):
    assert Fast.open(changed(folder, tmp_path, time_horizon=T, action_dim=D), T, D).horizon == T
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match="tokenizer.json is no tokenizer"):
        Fast.open(tmp_path, T, D)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match="lacks tokenizer.json"):
        Fast.open(tmp_path, T, D)
