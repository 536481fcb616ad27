"""Arrays as text that is short in a page and that a script takes back without a loss."""

from __future__ import annotations

import base64
from typing import Any, Final

import numpy as np
import numpy.typing as npt

PER_BYTE: Final = 4 / 3
"""Letters of base64 for a byte."""

Packed = dict[str, str]

_INTEGERS: Final = (np.uint8, np.uint16, np.int32)


def pack_integers(values: npt.ArrayLike) -> Packed:
    """Write whole numbers as base64 of the narrowest of uint8, uint16 and int32 that holds them, little-endian.

    Args:
        values: integers of any shape, within int32; written row by row.

    Raises:
        OverflowError: for a number that no such type holds.

    >>> pack_integers([1, 2, 300])
    {'type': 'uint16', 'data': 'AQACACwB'}
    """
    array = np.asarray(values, dtype=np.int64)
    for kind in _INTEGERS:
        limits = np.iinfo(kind)
        if not array.size or (array.min() >= limits.min and array.max() <= limits.max):
            return _pack(array.astype(kind))
    raise OverflowError(f"{array.min()} to {array.max()} does not fit into 32 bits.")


def pack_floats(values: npt.ArrayLike, *, half: bool = False) -> Packed:
    """Write numbers as base64 of float32, or of float16 (three digits), little-endian.

    >>> pack_floats([1.0], half=True)
    {'type': 'float16', 'data': 'ADw='}
    """
    with np.errstate(over="ignore"):
        return _pack(np.asarray(values, dtype=np.float64).astype(np.float16 if half else np.float32))


def unpack(packed: Packed) -> npt.NDArray[Any]:
    """Take back what was packed, flat.

    >>> unpack(pack_integers([[1, -2]])).tolist()
    [1, -2]
    """
    kind = np.dtype(packed["type"]).newbyteorder("<")
    return np.frombuffer(base64.b64decode(packed["data"]), dtype=kind)


def _pack(array: npt.NDArray[Any]) -> Packed:
    little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return {"type": array.dtype.name, "data": base64.b64encode(little.tobytes()).decode("ascii")}
