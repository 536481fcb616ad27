"""What is measured of paths, image by image: the rows of the evaluation's parts, and the two tables made of them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa

from neuron_path.store.schema import effect_schema, is_valued, score_schema

_EFFECTS = "effects"
_METHOD = ("sample_id", "scorer", "search", "top_k")


def evaluation_schema(*, valued: bool = False) -> pa.Schema:
    """The columns of the parts: one row per image and method, its scores and in a list all its effects.

    Args:
        valued: as of :func:`neuron_path.store.schema.effect_schema`.
    """
    of_effect = pa.struct([field for field in effect_schema(valued=valued) if field.name not in _METHOD])
    return score_schema().append(pa.field(_EFFECTS, pa.list_(of_effect), nullable=False))


def join_measures(scores: pa.Table, effects: pa.Table) -> pa.Table:
    """Make rows of :func:`evaluation_schema`.

    Args:
        scores: N rows of :func:`neuron_path.store.schema.score_schema`.
        effects: N · I rows of :func:`neuron_path.store.schema.effect_schema`, the I of the first image first.
    """
    effects = effects.combine_chunks()
    valued = is_valued(effects.schema.names)
    own = [field for field in effect_schema(valued=valued) if field.name not in _METHOD]
    each = pa.StructArray.from_arrays([effects[field.name].chunk(0) for field in own], fields=own)
    ends = np.linspace(0, len(each), len(scores) + 1).astype(np.int32)
    column = pa.ListArray.from_arrays(pa.array(ends), each)
    return scores.append_column(_EFFECTS, column).cast(evaluation_schema(valued=valued))


def split_measures(rows: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Return the tables of scores and of effects.

    Args:
        rows: of :func:`evaluation_schema`, method by method; all of one method have equally many effects.

    Returns:
        Scores in the order of ``rows``; effects method by method, and of each the first one of all images first.
    """
    lists = rows[_EFFECTS].combine_chunks()
    offsets = lists.offsets.to_numpy()
    order: list[np.ndarray] = []
    for run in _methods(rows):
        counts = np.diff(offsets[run.start : run.stop + 1])
        order.append((offsets[run.start : run.stop] + np.arange(counts[0])[:, None]).ravel())
    taken = pa.array(np.concatenate(order) if order else np.empty(0, dtype=np.int64))
    of_row = pa.array(np.repeat(np.arange(len(rows)), np.diff(offsets))).take(taken)
    effects = pa.Table.from_struct_array(lists.values.take(taken))
    for name in reversed(_METHOD):
        effects = effects.add_column(0, name, rows[name].take(of_row))
    schema = effect_schema(valued=is_valued(effects.schema.names))
    return rows.select(score_schema().names), effects.select(schema.names).cast(schema)


def _methods(rows: pa.Table) -> list[slice]:
    """The rows of each method, which follow each other."""
    names = list(zip(*(rows[name].to_pylist() for name in _METHOD[1:]), strict=True))
    begins = [row for row, name in enumerate(names) if row == 0 or name != names[row - 1]]
    return [slice(*ends) for ends in pairwise([*begins, len(names)])]
