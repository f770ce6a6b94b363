"""Messages as openpi packs them: msgpack, in which an array is a map of its bytes, dtype and shape.

What comes in is data of a stranger: only plain numbers become arrays, of as many bytes as their shape
says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np

from vla_ros.errors import RemoteError

ARRAY, SCALAR, DATA, DTYPE, SHAPE = b"__ndarray__", b"__npgeneric__", b"data", b"dtype", b"shape"
KINDS = "biuf"  # of dtypes: truth values, integers, floats
MOST_DIMENSIONS, MOST_ITEMS = 6, 4096  # of an array; of a list or map


def pack(message: Any) -> bytes:
    """Maps, lists, text, numbers and arrays of numbers. Raises RemoteError for anything else."""
    try:
        return msgpack.packb(message, default=_packable)
    except (TypeError, ValueError, OverflowError) as error:
        raise RemoteError(f"cannot be packed: {error}") from error


def unpack(data: bytes, read: Callable[[dict], Any] | None = None) -> Any:
    """What was packed; its arrays are read-only. read: what a map stands for, None: as openpi packs it.

    Raises RemoteError for what is not whole and plain.
    """
    try:
        return msgpack.unpackb(data, object_hook=read or _unpacked, max_array_len=MOST_ITEMS, max_map_len=MOST_ITEMS,
                               max_ext_len=0)
    except (msgpack.UnpackException, ValueError, TypeError, KeyError, OverflowError) as error:
        raise RemoteError(f"not a message of msgpack and numpy: {' '.join(str(error).split())[:120]}") from error


def number_type(name: Any) -> np.dtype:
    """The dtype of plain numbers that a text names. Raises ValueError."""
    try:
        dtype = np.dtype(name) if isinstance(name, str) else None
    except (TypeError, SyntaxError) as error:  # what numpy raises for texts that name none
        raise ValueError(f"unknown dtype '{name[:20]}'") from error
    if dtype is None or dtype.kind not in KINDS or dtype.itemsize > 8 or dtype.subdtype:
        raise ValueError(f"dtype {str(name)[:20]!r} is none of plain numbers")
    return dtype


def array(data: Any, dtype: Any, shape: Any) -> np.ndarray:
    """A read-only array of bytes, the name of a dtype and a list of lengths. Raises ValueError."""
    kind = number_type(dtype)
    if not isinstance(data, bytes) or not isinstance(shape, list | tuple) or len(shape) > MOST_DIMENSIONS:
        raise ValueError(f"an array needs bytes, and a shape of at most {MOST_DIMENSIONS} lengths")
    if not all(type(length) is int and length >= 0 for length in shape):
        raise ValueError(f"shape {str(shape)[:40]} is not of whole numbers")
    return np.frombuffer(data, kind).reshape(shape)  # says so where these are not as many bytes


def _packable(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind not in KINDS:
        raise TypeError(f"dtype {value.dtype} is none of plain numbers")
    if isinstance(value, np.ndarray):
        return {ARRAY: True, DATA: value.tobytes(), DTYPE: value.dtype.str, SHAPE: value.shape}
    if isinstance(value, np.generic):
        return {SCALAR: True, DATA: value.item(), DTYPE: value.dtype.str}
    raise TypeError(f"{type(value).__name__} is no number, text, list, map or array")


def _unpacked(found: dict) -> Any:
    if ARRAY in found:
        return array(found[DATA], found[DTYPE], found[SHAPE])
    if SCALAR in found:
        if not isinstance(found[DATA], bool | int | float):
            raise ValueError("a scalar that is no number")
        return number_type(found[DTYPE]).type(found[DATA])
    return found
