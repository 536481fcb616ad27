"""Tables are built from whole, well-typed columns or not at all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from neuron_path.errors import NeuronPathError
from neuron_path.store.schema import build_table, conform, describe_mismatch, effect_schema, path_schema, score_schema
from tests.store.rows import path_columns, path_table


def test_columns_of_the_path_table() -> None:
    assert path_schema(1).names == [
        "sample_id", "label", "target", "prediction", "target_probability", "scorer", "search", "measure", "top_k",
        "path", "score", "score_error", "n_steps", "objective", "margins",
        "convergence_delta",
        "complete",
        "rounding",
        "passes",
    ]  # fmt: skip
    assert [field.name for field in path_schema(1) if field.nullable] == [
        "label",
        "score_error",
        "objective",
        "convergence_delta",
        "complete",
        "rounding",
        "passes",
    ]
    assert path_schema(1).field("path").type == pa.list_(pa.int32())
    assert path_schema(5).field("path").type == pa.list_(pa.list_(pa.int32()))
    assert not any(field.nullable for schema in (effect_schema(), score_schema()) for field in schema)
    assert {"operation", "size", "tokens"} < set(effect_schema().names)


@pytest.mark.parametrize("top_k", [1, 3])
def test_arrays_and_lists_keep_their_values(top_k: int) -> None:
    columns = path_columns(["a", "b", "c"], top_k=top_k)
    table = build_table(path_schema(top_k), columns)
    assert table.schema.equals(path_schema(top_k))
    assert table["path"].to_pylist() == columns["path"].tolist()
    assert table["label"].to_pylist() == columns["label"]
    np.testing.assert_array_equal(table["score"].to_numpy(), columns["score"])


def test_no_rows_are_a_table_too() -> None:
    assert path_table([]).num_rows == 0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"scores": [1.0]}, "no column 'scores'. Did you mean 'score'"),
        ({"score": [1.0, 2.0]}, "score 2"),
        ({"sample_id": [None]}, "'sample_id' lacks 1"),
        ({"path": [[0, None, 1, 2]]}, "'path' lacks 1"),
        ({"path": [[0.5, 1.0]]}, "floats were found"),
        ({"path": [["a"]]}, "'path' must be"),
        ({"path": [[[0]]]}, "'path' must be"),
        ({"label": [float("nan")]}, "'label' must be"),
        ({"target": [2**31]}, "too large"),
        ({"target": [True]}, "'target' must be"),
        ({"sample_id": ["\udce9"]}, "'sample_id' must be"),
        ({"scorer": "x"}, "one value per row"),
        ({"score": 1.0}, "one value per row"),
    ],
)
def test_a_wrong_column_is_one_line(change: dict[str, Any], told: str) -> None:
    with pytest.raises(NeuronPathError) as error:
        build_table(path_schema(1), path_columns(["a"]) | change)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_columns_are_named() -> None:
    columns = path_columns(["a"])
    del columns["score"], columns["path"]
    with pytest.raises(NeuronPathError, match="path, score missing"):
        build_table(path_schema(1), columns)


def test_top_k_starts_at_one() -> None:
    with pytest.raises(NeuronPathError, match="top_k is 0"):
        path_schema(0)


def test_mismatch_names_the_column() -> None:
    schema = path_schema(1)
    assert describe_mismatch(schema, schema) == ""
    assert describe_mismatch(schema.remove(0), schema) == "column(s) sample_id missing"
    assert describe_mismatch(schema, schema.remove(0)) == "unknown column(s) sample_id"
    assert "in the order" in describe_mismatch(pa.schema(list(schema)[::-1]), schema)


def test_a_table_of_an_earlier_version_gets_the_columns_that_it_lacks_and_loses_its_own() -> None:
    schema = path_schema(1)
    old = schema.empty_table().drop_columns(["complete", "rounding", "passes"])
    for name in ("greedy_objective", "search_cost"):
        old = old.add_column(14, pa.field(name, pa.float64()), pa.array([], pa.float64()))
    assert conform(old, schema, "The table", "").schema == schema
    with pytest.raises(NeuronPathError, match=r"column\(s\) score missing"):
        conform(old.drop_columns(["score"]), schema, "The table", "")


def test_conforming_refuses_nulls_that_a_foreign_schema_allowed() -> None:
    loose = pa.schema([field.with_nullable(True) for field in path_schema(1)])
    table = path_table(["a"]).cast(loose)
    assert conform(table, path_schema(1), "It", "Mend it").schema.equals(path_schema(1))
    broken = table.set_column(0, loose.field(0), pa.array([None], type=pa.string()))
    with pytest.raises(NeuronPathError, match=r"missing values in column\(s\) sample_id"):
        conform(broken, path_schema(1), "It", "Mend it")


def test_only_what_is_no_probability_has_columns_of_its_own() -> None:
    default = [
        "sample_id", "scorer", "search", "top_k", "operation", "size", "token_scope", "tokens", "target",
        "clean_probability", "edited_probability", "clean_logit", "edited_logit", "kl_divergence",
        "clean_prediction", "edited_prediction",
    ]  # fmt: skip
    assert effect_schema().names == default
    assert effect_schema(valued=True).names == [*default, "clean_value", "edited_value", "contrast_class"]
