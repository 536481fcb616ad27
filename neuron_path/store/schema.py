"""The columns of the store: the one owner of their names and types.

Shapes: N rows, L blocks, k path neurons per block.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from neuron_path.errors import NeuronPathError, nearest

KEY_COLUMNS = ("sample_id", "scorer", "search")
"""What names a row of the path table: an image and a method."""
VALUE_COLUMNS = ("clean_value", "edited_value")
"""What an edit did to the target function itself, in tables of runs that attribute no probability."""
_LATER = ("complete", "rounding", "passes", "maps", "edges")
"""Columns that version 0.1 did not write, in their order: of the path table, and the last two of evidence."""
_GONE = ("greedy_objective", "search_cost")
"""Columns that it wrote, and that are passed over."""


def path_schema(top_k: int) -> pa.Schema:
    """Return the columns of ``paths.parquet``: one row per image and method.

    ``path`` is a list of L neuron indices for ``top_k`` 1; above, it is L lists of ``top_k`` indices in descending
    objective; of neurons of any blocks (``per_block=false``) a block has its own first and −1 in the places left.
    ``margins`` holds L relative gaps of best to runner-up; ``score`` is the joint score of ``path``, in
    units of the target function. ``n_steps`` is how many quadrature nodes the image took, ``score_error`` the estimated
    error of ``score`` as an integral. ``measure`` is what the search maximised; of one other than ``greedy``
    ``objective`` is its value and ``passes`` how many forward and backward passes it took. ``complete`` is the complete
    variant of ``score`` with its ``convergence_delta``, where it came along. ``rounding`` is how much float32 rounds on
    the image: the ``score`` of a path that was searched for is right to ten times that, relative to its size, and to
    1e-4 at least; null where all was computed in another type. All that this paragraph names but ``measure`` and
    ``n_steps``, and ``label`` (unlabelled images), may be null.

    Raises:
        NeuronPathError: for a ``top_k`` below 1.

    >>> path_schema(1).field("path").type == path_schema(3).field("path").type
    False
    """
    if top_k < 1:
        raise NeuronPathError(f"top_k is {top_k}; expected 1 or more. Set how many neurons per block a path holds.")
    block = pa.int32() if top_k == 1 else pa.list_(pa.int32())
    return pa.schema(
        [
            pa.field("sample_id", pa.string(), nullable=False),
            pa.field("label", pa.int32()),
            pa.field("target", pa.int32(), nullable=False),
            pa.field("prediction", pa.int32(), nullable=False),
            pa.field("target_probability", pa.float64(), nullable=False),
            pa.field("scorer", pa.string(), nullable=False),
            pa.field("search", pa.string(), nullable=False),
            pa.field("measure", pa.string(), nullable=False),
            pa.field("top_k", pa.int32(), nullable=False),
            pa.field("path", pa.list_(block), nullable=False),
            pa.field("score", pa.float64(), nullable=False),
            pa.field("score_error", pa.float64()),
            pa.field("n_steps", pa.int32(), nullable=False),
            pa.field("objective", pa.float64()),
            pa.field("margins", pa.list_(pa.float64()), nullable=False),
            pa.field("convergence_delta", pa.float64()),
            pa.field("complete", pa.float64()),
            pa.field("rounding", pa.float64()),
            pa.field("passes", pa.float64()),
        ]
    )


def effect_schema(*, valued: bool = False) -> pa.Schema:
    """Return the columns of ``effects.parquet``: one row per image, method, intervention and size.

    ``size`` is how many of the path's neurons were edited in each block, the first ones of its ``top_k``; 0 stands for
    none. ``tokens`` is where: ``scope`` or ``all``. Probabilities and logits are those of the row's ``target`` class,
    before and after the edit; ``kl_divergence`` is Σ p(clean) · log(p(clean) / p(edited)) over the classes, in nats.

    Where the target function is no probability, the table is ``valued``: ``clean_value`` and ``edited_value`` are the
    target function's, and ``contrast_class`` is the class that a contrast is with, null of other functions.

    >>> effect_schema().names[:6]
    ['sample_id', 'scorer', 'search', 'top_k', 'operation', 'size']
    """
    types = {
        "sample_id": pa.string(),
        "scorer": pa.string(),
        "search": pa.string(),
        "top_k": pa.int32(),
        "operation": pa.string(),
        "size": pa.int32(),
        "token_scope": pa.string(),
        "tokens": pa.string(),
        "target": pa.int32(),
        "clean_probability": pa.float64(),
        "edited_probability": pa.float64(),
        "clean_logit": pa.float64(),
        "edited_logit": pa.float64(),
        "kl_divergence": pa.float64(),
        "clean_prediction": pa.int32(),
        "edited_prediction": pa.int32(),
    }
    fields = [pa.field(name, kind, nullable=False) for name, kind in types.items()]
    if valued:
        fields += [pa.field(name, pa.float64(), nullable=False) for name in VALUE_COLUMNS]
        fields.append(pa.field("contrast_class", pa.int32()))
    return pa.schema(fields)


def is_valued(names: Iterable[str]) -> bool:
    """Whether a table of effects of these columns has the target function's own values."""
    return set(names) >= set(VALUE_COLUMNS)


def score_schema() -> pa.Schema:
    """Return the columns of ``scores.parquet``: both measures of each path, one row per image and method.

    ``joint`` and ``complete`` are in units of the target function, as is ``convergence_delta``, that of ``complete``.

    >>> score_schema().names[-3:]
    ['joint', 'complete', 'convergence_delta']
    """
    types = {
        "sample_id": pa.string(),
        "scorer": pa.string(),
        "search": pa.string(),
        "top_k": pa.int32(),
        "joint": pa.float64(),
        "complete": pa.float64(),
        "convergence_delta": pa.float64(),
    }
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in types.items()])


def build_table(schema: pa.Schema, columns: Mapping[str, Any]) -> pa.Table:
    """Build a table of ``schema`` from one NumPy array or list of length N per column.

    Args:
        schema: :func:`path_schema`, :func:`effect_schema` or :func:`score_schema`.
        columns: every column of ``schema`` and no other; ``path`` is (N, L) or (N, L, k), ``margins`` (N, L), the rest
            (N,). ``None`` marks a missing value where the schema allows one.

    Raises:
        NeuronPathError: for missing or unknown columns, unequal lengths, values of another type or outside its range,
            and missing values where none may be.

    >>> schema = pa.schema([pa.field("sample_id", pa.string()), pa.field("path", pa.list_(pa.int32()))])
    >>> build_table(schema, {"sample_id": ["a", "b"], "path": np.array([[3, 1], [2, 0]])}).num_rows
    2
    """
    for name in columns:
        if name not in schema.names:
            hint = nearest(str(name), schema.names)
            raise NeuronPathError(f"The store has no column '{name}'.{hint} Columns: {', '.join(schema.names)}.")
    missing = [name for name in schema.names if name not in columns]
    if missing:
        raise NeuronPathError(f"Column(s) {', '.join(missing)} missing from the rows to store; give every column.")
    for name in schema.names:
        # A string has a length too, but as a column it is one value where N belong.
        given = columns[name]
        if isinstance(given, str | bytes) or (not isinstance(given, list) and np.ndim(given) == 0):
            raise NeuronPathError(f"Column '{name}' is the single value {columns[name]!r}; give one value per row.")
    lengths = {name: len(columns[name]) for name in schema.names}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise NeuronPathError(f"The columns to store differ in length ({found}); give one value per row in each.")
    return pa.Table.from_arrays([_build_column(field, columns[field.name]) for field in schema], schema=schema)


def describe_mismatch(found: pa.Schema, expected: pa.Schema) -> str:
    """Say in a few words how ``found`` differs from ``expected``, or return an empty string.

    >>> describe_mismatch(path_schema(1), path_schema(2))
    "column 'path' is list<item: int32>, expected list<item: list<item: int32>>"
    """
    missing = [name for name in expected.names if name not in found.names]
    if missing:
        return f"column(s) {', '.join(missing)} missing"
    unknown = [name for name in found.names if name not in expected.names]
    if unknown:
        return f"unknown column(s) {', '.join(unknown)}"
    if found.names != expected.names:
        return f"columns in the order {', '.join(found.names)}, expected {', '.join(expected.names)}"
    for ours, theirs in zip(found, expected, strict=True):
        if not ours.type.equals(theirs.type):
            return f"column '{ours.name}' is {ours.type}, expected {theirs.type}"
    return ""


def conform(table: pa.Table, schema: pa.Schema, what: str, advice: str) -> pa.Table:
    """Return ``table`` with exactly the fields of ``schema`` and no metadata.

    Columns that an earlier version did not write are added, without values, and those that it alone wrote are dropped.

    Args:
        table: any table.
        schema: the columns it must have.
        what: the name that an error message gives to the table.
        advice: what an error message tells the user to do.

    Raises:
        NeuronPathError: when names, types or order differ, or a value is missing where every row must have one.
    """
    if table.schema.equals(schema) and not any(table[field.name].null_count for field in schema if not field.nullable):
        return table.replace_schema_metadata()  # the usual case, of which a search that is resumed has thousands
    if "passes" in schema.names:
        table = table.drop_columns([name for name in _GONE if name in table.schema.names])
    for name in _LATER:
        field = schema.field(name) if name in schema.names else None
        if field is not None and field.nullable and name not in table.schema.names:
            table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    mismatch = describe_mismatch(table.schema, schema)
    if not mismatch:
        lacking = [field.name for field in schema if not field.nullable and table[field.name].null_count]
        mismatch = f"missing values in column(s) {', '.join(lacking)}" if lacking else ""
    if mismatch:
        raise NeuronPathError(f"{what} does not fit the store: {mismatch}. {advice}.")
    return table.cast(schema)


def _build_column(field: pa.Field, values: Any) -> pa.Array:
    rows = values.tolist() if hasattr(values, "tolist") else list(values)
    try:
        column = pa.array(rows, type=field.type)
        # Arrow cuts Python floats down to integers in silence; an index that was a float is a mistake upstream.
        cut = pa.types.is_integer(_leaf(column).type) and pa.types.is_floating(_leaf(pa.array(rows)).type)
    except (pa.ArrowException, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise NeuronPathError(f"Column '{field.name}' must be {field.type}, but: {reason}.") from error
    if cut:
        raise NeuronPathError(f"Column '{field.name}' must be {field.type}, but floats were found; give integers.")
    lacking = 0 if field.nullable else max(column.null_count, _leaf(column).null_count)
    if lacking:
        raise NeuronPathError(f"Column '{field.name}' lacks {lacking} value(s), but every row must have one.")
    return column


def _leaf(column: pa.Array) -> pa.Array:
    """Return the values that lists, however deep, hold."""
    while pa.types.is_list(column.type):
        column = column.flatten()
    return column
