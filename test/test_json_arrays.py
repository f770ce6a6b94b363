"""JSON with arrays, as json_numpy writes them: what is packed comes back, and nothing else becomes an array."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.errors import RemoteError

pytest.importorskip("msgpack", reason="remote policies need it: pip install 'vla_ros[remote]'")

from vla_ros.remote.json_arrays import pack, unpack  # noqa: E402

PLAIN = st.one_of(st.none(), st.booleans(), st.integers(-10**17, 10**17), st.text(),
                  st.floats(allow_nan=False, allow_infinity=False))
MESSAGES = st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)


@given(MESSAGES)
def test_plain_messages_come_back(message):
    assert unpack(pack(message)) == message


@pytest.mark.parametrize("dtype", ["u1", "<i4", "<i8", "<f2", "<f4", "<f8", ">f4", "?"])
@pytest.mark.parametrize("shape", [(), (0, 4), (3,), (2, 3, 3)], ids=str)
def test_arrays_come_back_bit_for_bit_and_read_only(dtype, shape):
    made = np.asarray(np.arange(np.prod(shape), dtype=int).reshape(shape) * 7 % 5, dtype)
    back = unpack(pack({"a": [made]}))["a"][0]
    assert back.dtype == made.dtype and back.shape == made.shape and back.tobytes() == made.tobytes()
    assert not back.flags.writeable


def test_arrays_that_are_not_in_order_and_scalars_come_back():
    made = np.arange(12).reshape(3, 4).T[::2]
    np.testing.assert_array_equal(unpack(pack(made)), made)
    assert unpack(pack(np.float32(1.5))) == np.float32(1.5)


@pytest.mark.parametrize("value", [np.array([object()]), np.array(["a"]), np.array([1j]), {1, 2}, object(), b"x",
                                   np.zeros(1, [("a", "f4")]), float("nan"), float("inf")], ids=repr)
def test_what_is_no_number_is_not_packed(value):
    with pytest.raises(RemoteError, match="cannot be packed"):
        pack(value)


def array(**fields) -> bytes:
    return json.dumps({"a": [{"__numpy__": "AAAAAAAAAAA=", "dtype": "<f4", "shape": [2]} | fields]}).encode()


WRONG = {
    "objects": array(dtype="|O"), "text": array(dtype="<U2"), "complex": array(dtype="<c8"), "void": array(dtype="V8"),
    "fields": array(dtype=[["a", "<f4"]]), "sub-array": array(dtype="(2,)f4"), "no dtype": array(dtype="nonsense"),
    "a number for a dtype": array(dtype=3), "too few bytes": array(shape=[3]), "too many bytes": array(shape=[1]),
    "negative": array(shape=[-1, -2]), "to be guessed": array(shape=[-1]), "huge": array(shape=[2**40, 2**40]),
    "fractions": array(shape=[2.0]), "truth values": array(shape=[True, 2]), "deep": array(shape=[1] * 7 + [2]),
    "a number for a shape": array(shape=2), "a list for data": array(__numpy__=[0]),
    "no base64": array(__numpy__="AAAAAAAAAAA=?"),
    "not finite": array(__numpy__="AADAfwAAAAA="), "infinite": array(__numpy__="AACAfwAAAAA="),
    "no shape": b'{"__numpy__": "", "dtype": "<f4"}', "NaN": b'[NaN]', "Infinity": b'[-Infinity]', "nothing": b"",
    "half": b'{"a": ', "no JSON": b"<html>", "no text": b"\xff\xfe\xfd", "a pickle": b"\x80\x04K\x01.",
    "very deep": b"[" * 100_000,
}


@pytest.mark.parametrize("data", WRONG.values(), ids=WRONG)
def test_what_is_no_plain_array_is_an_error_of_one_line(data):
    with pytest.raises(RemoteError, match="not JSON with arrays of numbers") as raised:
        unpack(data)
    assert "\n" not in str(raised.value)


def test_whole_numbers_beyond_any_are_no_whole_numbers():
    assert unpack(b"[1" + b"0" * 5000 + b"]") == [float("inf")]


@given(st.binary(max_size=200) | st.text(max_size=200))
def test_whatever_comes_nothing_else_is_raised(data):
    try:
        unpack(data)
    except RemoteError:
        pass
