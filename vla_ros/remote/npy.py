"""Messages as GR00T's server packs them: msgpack, in which an array is a map of a file as numpy saves it, no pickle.

What comes in is data of a stranger: only plain numbers become arrays, of as many bytes as their shape says.
"""

from __future__ import annotations

import io
from typing import Any

import msgpack
import numpy as np
from numpy.lib import format as npy

from vla_ros.remote import packing

ARRAY, FILE = "__ndarray_class__", "as_npy"
HEADER = 1 << 10  # bytes of an array's, at most: a shape and a dtype


def pack(message: Any) -> bytes:
    """Maps, lists, text, numbers and arrays of numbers."""
    return msgpack.packb(message, default=_packable)


def unpack(data: bytes) -> Any:
    """What was packed; its arrays are read-only. Raises RemoteError for what is not whole and plain."""
    return packing.unpack(data, _unpacked)


def _packable(value: Any) -> dict:
    out = io.BytesIO()
    npy.write_array(out, np.ascontiguousarray(value), version=(1, 0), allow_pickle=False)
    return {ARRAY: True, FILE: out.getvalue()}


def _unpacked(found: dict) -> Any:
    """numpy's own reader would take memory for whatever shape a header names, before it looks for the bytes."""
    if not found.get(ARRAY):
        return found
    data = io.BytesIO(found[FILE])
    if npy.read_magic(data) != (1, 0):
        raise ValueError("an array of another version of numpy's format than 1.0")
    shape, backwards, dtype = npy.read_array_header_1_0(data, max_header_size=HEADER)
    values = packing.array(data.read(), dtype.str, list(reversed(shape) if backwards else shape))
    return values.T if backwards else values
