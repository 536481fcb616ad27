"""Strict JSON from what runs are made of."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuron_path.errors import NeuronPathError
from neuron_path.store.jsonable import dump_json, jsonable


@dataclasses.dataclass
class Record:
    name: str
    values: np.ndarray


def test_records_and_arrays_become_plain_values() -> None:
    value = {"record": Record("a", np.array([[1, 2]])), 3: np.float32(0.5), "set": {"b", "a"}}
    assert jsonable(value) == {"record": {"name": "a", "values": [[1, 2]]}, "3": 0.5, "set": ["a", "b"]}


def test_an_unknown_type_is_named_with_its_place() -> None:
    with pytest.raises(NeuronPathError, match=r"'config\.model\[1\]' has type builtins\.object"):
        jsonable({"model": [1, object()]}, "config")


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


def without_nonfinite(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, list):
        return [without_nonfinite(item) for item in value]
    if isinstance(value, dict):
        return {key: without_nonfinite(item) for key, item in value.items()}
    return value


@given(plain)
def test_any_plain_value_survives_a_strict_reader(value: object) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    assert json.loads(dump_json(value), parse_constant=refuse) == without_nonfinite(value)
