"""JSON with arrays as json_numpy writes them: a map of their bytes in base64, dtype and shape.

What comes in is data of a stranger: only plain, finite numbers become arrays, of as many bytes as their shape says.
"""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np

from vla_ros.errors import RemoteError
from vla_ros.remote.packing import KINDS, array

ARRAY, DTYPE, SHAPE = "__numpy__", "dtype", "shape"
DIGITS = 18  # of a whole number: more would be no number of numpy


def pack(message: Any) -> bytes:
    """Maps, lists, text, numbers and arrays of numbers. Raises RemoteError for anything else."""
    try:
        return json.dumps(message, default=_packable, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise RemoteError(f"cannot be packed: {error}") from error


def unpack(data: bytes | str) -> Any:
    """What was packed; its arrays are read-only. Raises RemoteError for what is not whole, plain and finite."""
    try:
        return json.loads(data, object_hook=_unpacked, parse_int=_whole, parse_constant=_constant)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RemoteError(f"not JSON with arrays of numbers: {' '.join(str(error).split())[:120]}") from error


def _packable(value: Any) -> dict:
    if not isinstance(value, np.ndarray | np.generic) or value.dtype.kind not in KINDS:
        raise TypeError(f"{getattr(value, 'dtype', type(value).__name__)} is no number, text, list, map or array")
    return {ARRAY: base64.b64encode(value.tobytes()).decode(), DTYPE: value.dtype.str, SHAPE: value.shape}


def _unpacked(found: dict) -> Any:
    if ARRAY not in found:
        return found
    made = array(base64.b64decode(found[ARRAY], validate=True), found[DTYPE], found[SHAPE])
    if not np.isfinite(made).all():
        raise ValueError("an array is not finite")
    return made


def _whole(digits: str) -> int | float:
    return int(digits) if len(digits.lstrip("-")) <= DIGITS else float(digits)


def _constant(name: str) -> None:
    raise ValueError(f"{name} is no number")
