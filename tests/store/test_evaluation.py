"""Rows of the evaluation's parts, and the two tables that are made of them."""

from __future__ import annotations

import pyarrow as pa

from neuron_path.store.evaluation import evaluation_schema, join_measures, split_measures
from neuron_path.store.schema import effect_schema, score_schema
from tests.store.rows import effect_table, score_table

IDS = ["a", "b", "c"]
OPERATIONS = ["remove", "enhance"]


def named(table: pa.Table, **columns: list[str]) -> pa.Table:
    for name, values in columns.items():
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(place), pa.array(values))
    return table


def rows_of(method: str, ids: list[str]) -> pa.Table:
    """The effects of an image follow each other, as they are measured."""
    scores = named(score_table(ids), scorer=[method] * len(ids))
    each = [name for name in ids for _ in OPERATIONS]
    effects = named(effect_table(each), scorer=[method] * len(each), operation=OPERATIONS * len(ids))
    return join_measures(scores, effects)


def test_effects_go_by_method_then_operation_then_image() -> None:
    methods = ["activation", "random"]
    rows = pa.concat_tables([rows_of(method, ids) for method in methods for ids in (IDS[:2], IDS[2:])])
    assert rows.schema.equals(evaluation_schema())
    scores, effects = split_measures(rows)
    assert scores.schema.equals(score_schema())
    assert scores["sample_id"].to_pylist() == IDS * 2
    assert scores["scorer"].to_pylist() == [method for method in methods for _ in IDS]
    assert effects.schema.equals(effect_schema())
    keys = zip(*(effects[name].to_pylist() for name in ("scorer", "operation", "sample_id")), strict=True)
    assert list(keys) == [(method, one, name) for method in methods for one in OPERATIONS for name in IDS]


def test_there_may_be_no_rows() -> None:
    scores, effects = split_measures(evaluation_schema().empty_table())
    assert (scores.num_rows, effects.num_rows) == (0, 0)


def test_values_of_the_target_function_come_along() -> None:
    own = {"clean_value": [3.0, 2.5], "edited_value": [-1.0, 0.5], "contrast_class": [4, None]}
    effects = pa.table(effect_table(["a", "b"]).to_pydict() | own, schema=effect_schema(valued=True))
    rows = join_measures(score_table(["a", "b"]), effects)
    assert rows.schema.equals(evaluation_schema(valued=True))
    found = split_measures(rows)[1]
    assert found.schema.equals(effect_schema(valued=True))
    assert {name: found[name].to_pylist() for name in own} == own
