"""Turn records into strict JSON: what any reader, in any language, takes back."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from neuron_path.errors import NeuronPathError


def jsonable(value: Any, where: str = "value") -> Any:
    """Return ``value`` in JSON's own types.

    Mappings (keys become strings), sequences, sets (sorted), dataclasses, paths and NumPy scalars and arrays are taken.
    Strict JSON has no NaN and no infinity, so a number that is not finite becomes ``None``.

    Args:
        value: what to convert; it is not changed.
        where: the name that an error message gives to ``value``.

    Raises:
        NeuronPathError: for a type that has no JSON form, with the place where it lies.

    >>> jsonable({"shape": (2, np.int64(3)), "low": float("nan"), "file": Path("a") / "b"})
    {'shape': [2, 3], 'low': None, 'file': 'a/b'}
    """
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): jsonable(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, set | frozenset):
        value = sorted(value, key=str)
    if isinstance(value, list | tuple):
        return [jsonable(item, f"{where}[{index}]") for index, item in enumerate(value)]
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    raise NeuronPathError(
        f"'{where}' has type {kind}, which JSON cannot hold; expected numbers, strings, lists or mappings. "
        "Convert it before it is stored."
    )


def dump_json(value: Any, *, indent: int | None = None, sort_keys: bool = False) -> bytes:
    """Return ``value`` as UTF-8 JSON; see :func:`jsonable` for what it may hold.

    >>> dump_json({"β": 0.1})
    b'{"\\xce\\xb2": 0.1}'
    """
    text = json.dumps(jsonable(value), indent=indent, sort_keys=sort_keys, ensure_ascii=False, allow_nan=False)
    # A file name that is not valid UTF-8 reaches Python as a lone surrogate; its backslash form is also JSON's.
    return text.encode("utf-8", "backslashreplace")
