"""msgpack with arrays, as openpi packs it: what is packed comes back, and nothing else becomes an array."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.errors import RemoteError

msgpack = pytest.importorskip("msgpack", reason="remote policies need it: pip install 'vla_ros[remote]'")

from vla_ros.remote.packing import pack, unpack  # noqa: E402

DTYPES = ("u1", "<i4", "<i8", "<f2", "<f4", "<f8", ">f4", "?")
PLAIN = st.one_of(st.none(), st.booleans(), st.integers(-2**63, 2**64 - 1), st.floats(allow_nan=False), st.text(),
                  st.binary())
MESSAGES = st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)


@given(MESSAGES)
def test_plain_messages_come_back(message):
    assert unpack(pack(message)) == message


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0, 4), (3,), (2, 3, 3)], ids=str)
def test_arrays_come_back_bit_for_bit_and_read_only(dtype, shape):
    made = np.asarray(np.arange(np.prod(shape), dtype=int).reshape(shape) * 7 % 5, dtype)
    back = unpack(pack({"a": [made]}))["a"][0]
    assert back.dtype == made.dtype and back.shape == made.shape and back.tobytes() == made.tobytes()
    assert not back.flags.writeable


def test_arrays_that_are_not_in_order_come_back():
    made = np.arange(12).reshape(3, 4).T[::2]
    np.testing.assert_array_equal(unpack(pack(made)), made)


@pytest.mark.parametrize("value", [np.float32(1.5), np.int64(-3), np.bool_(True), np.uint8(255)], ids=repr)
def test_scalars_come_back(value):
    back = unpack(pack(value))
    assert back == value and back.dtype == value.dtype


@pytest.mark.parametrize("value", [np.array([object()]), np.array(["a"]), np.array([1j]), {1, 2}, object(),
                                   np.zeros(1, [("a", "f4")]), np.array(["2020"], "M8[D]"), 2**65], ids=repr)
def test_what_is_no_number_is_not_packed(value):
    with pytest.raises(RemoteError):
        pack(value)


def array(**fields) -> dict:
    said = {"data": bytes(8), "dtype": "<f4", "shape": [2]} | fields
    return {b"__ndarray__": True} | {key.encode(): value for key, value in said.items()}


WRONG = {
    "objects": array(dtype="|O"), "objects by name": array(dtype="object"), "text": array(dtype="<U2"),
    "complex": array(dtype="<c8"), "dates": array(dtype="<M8[ns]"), "void": array(dtype="V8"),
    "fields": array(dtype="f4,f4"), "sub-array": array(dtype="(2,)f4"), "no dtype": array(dtype="nonsense"),
    "dtype of numbers": array(dtype=[["a", "f4"]]), "long double": array(dtype="<f16"),
    "too few bytes": array(shape=[3]), "too many bytes": array(shape=[1]), "negative": array(shape=[-2]),
    "negative twice": array(shape=[-1, -2]),
    "to be guessed": array(shape=[-1]), "huge": array(shape=[2**40, 2**40]), "zero of huge": array(shape=[2**70]),
    "fractions": array(shape=[2.0]), "truth values": array(shape=[True, 2]), "deep": array(shape=[1] * 7 + [2]),
    "text for bytes": array(data="12345678"), "no data": {b"__ndarray__": True},
    "list for a dtype": array(dtype=["<f4"]),
    "a scalar of text": {b"__npgeneric__": True, b"data": "1", b"dtype": "<f4"},
    "a scalar of objects": {b"__npgeneric__": True, b"data": 1, b"dtype": "O"},
    "a scalar too large": {b"__npgeneric__": True, b"data": 2**60, b"dtype": "|i1"},
}


@pytest.mark.parametrize("said", WRONG.values(), ids=WRONG)
def test_what_is_no_plain_array_is_an_error(said):
    try:
        data = msgpack.packb({"observation": [said]})
    except OverflowError:
        pytest.skip("msgpack itself cannot say this")
    with pytest.raises(RemoteError, match="not a message"):
        unpack(data)


@pytest.mark.parametrize("data", [
    b"", b"\xc1", b"\x81", b"\x93\x01", msgpack.packb(1) * 2, msgpack.packb(msgpack.ExtType(1, b"abc")),
    msgpack.packb({1: 2}), msgpack.packb(list(range(5000))), b"\x91" * 2000, b"\xdd\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff", b"\xa4\xff\xff\xff\xff", msgpack.packb(msgpack.Timestamp(1))], ids=lambda d: repr(d[:8]))
def test_what_is_no_whole_message_is_an_error(data):
    with pytest.raises(RemoteError, match="not a message"):
        unpack(data)


@given(st.binary(max_size=200))
def test_whatever_comes_nothing_else_is_raised(data):
    try:
        unpack(data)
    except RemoteError:
        pass
