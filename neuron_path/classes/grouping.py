"""The paths of one method of a stored run, put in classes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from neuron_path.classes.class_paths import ClassPaths, Source, make_class_paths
from neuron_path.errors import NeuronPathError, unknown_name
from neuron_path.store.reader import load_paths

_METHOD: Final = ("scorer", "search", "top_k")
_COLUMNS: Final = ("sample_id", "label", "target", "path", *_METHOD)
_SOURCES: Final = ("auto", "label", "target")


def group_paths(
    frame: pd.DataFrame | str | os.PathLike[str],
    *,
    scorer: str | None = None,
    search: str | None = None,
    by: Literal["auto", "label", "target"] = "auto",
    n_neurons: int | Sequence[int] | None = None,
) -> ClassPaths:
    """Put the paths of one method of a run in classes.

    Args:
        frame: what :func:`neuron_path.load_paths` returns, or the same columns (``sample_id``, ``label``, ``target``,
            ``path``, ``scorer``, ``search``, ``top_k``); one row per image and method, in any order. Or what to load: a
            run directory, or its Parquet file.
        scorer: the method's scorer; may be left out when the frame has only one.
        search: the method's search; likewise.
        by: what classes are. ``auto``: labels when every image has one, else targets.
        n_neurons: FFN width F, one for all blocks or one per block. When not given it is read from the frame's
            provenance; without one it is the highest neuron chosen anywhere plus 1, which the Gini coefficient feels.

    Raises:
        NeuronPathError: for a table without rows or columns that it needs, several methods or ``top_k`` and no word
            which, an image twice, missing labels where they were asked for, and paths that are no paths.

    >>> rows = {"sample_id": ["b", "a"], "label": [1, 0], "target": [1, 1], "path": [[2, 0], [1, 0]]}
    >>> grouped = group_paths(pd.DataFrame(rows | {"scorer": "random", "search": "greedy", "top_k": 1}))
    >>> grouped.images.tolist(), grouped.classes.tolist(), grouped.source, grouped.paths[:, :, 0].tolist()
    (['a', 'b'], [0, 1], 'label', [[1, 0], [2, 0]])
    """
    if not isinstance(frame, pd.DataFrame):
        frame = load_paths(frame)
    if missing := [name for name in _COLUMNS if name not in frame.columns]:
        raise NeuronPathError(
            f"The table of paths lacks the column(s) {', '.join(missing)}; give what neuron_path.load_paths returns."
        )
    rows = _select(frame, scorer, search)
    source = _choose_source(rows, by)
    if n_neurons is None:
        n_neurons = frame.attrs.get("provenance", {}).get("n_neurons")
    method = rows.iloc[0]
    return make_class_paths(
        [_as_path(cell) for cell in rows["path"]],
        _as_classes(rows, source),
        images=rows["sample_id"].tolist(),
        n_neurons=n_neurons,
        source=source,
        scorer=str(method["scorer"]),
        search=str(method["search"]),
    )


def _select(frame: pd.DataFrame, scorer: str | None, search: str | None) -> pd.DataFrame:
    """The rows of the one method that is meant."""
    rows = frame
    if not len(rows):
        raise NeuronPathError(
            "The table of paths has no row; expected one per image. Give the paths of a finished run."
        )
    for name, wanted in (("scorer", scorer), ("search", search)):
        known = sorted(set(rows[name].astype(str)))
        if wanted is None and len(known) > 1:
            raise NeuronPathError(
                f"The table holds paths of several methods ({name} {', '.join(known)}), but classes are analysed for "
                f"one; say which with {name}='{known[0]}'."
            )
        if wanted is not None:
            if wanted not in known:
                raise unknown_name(name, wanted, known)
            rows = rows.loc[rows[name] == wanted]
    sizes = sorted(set(rows["top_k"].to_numpy(dtype=np.int64).tolist()))
    if len(sizes) > 1:
        raise NeuronPathError(
            f"The table mixes paths with top_k {', '.join(map(str, sizes))}; expected one. Select it with "
            f"frame[frame['top_k'] == {sizes[0]}]."
        )
    return rows


def _choose_source(rows: pd.DataFrame, by: str) -> Source:
    if by not in _SOURCES:
        raise unknown_name("kind of class", by, _SOURCES)
    unlabelled = int(np.count_nonzero(pd.isna(rows["label"].to_numpy())))
    if by == "target" or (by == "auto" and unlabelled):
        return "target"
    if unlabelled:
        raise NeuronPathError(
            f"{unlabelled} of {len(rows)} images have no label, so classes cannot be labels; use by='target', or leave "
            "these images out."
        )
    return "label"


def _as_classes(rows: pd.DataFrame, name: str) -> NDArray[np.int64]:
    try:
        values = rows[name].to_numpy(dtype=np.float64)
        if not (values == np.floor(values)).all():
            raise ValueError("some are no whole numbers")
    except (ValueError, TypeError) as error:
        raise NeuronPathError(f"Column '{name}' holds no class indices ({error}); expected integers.") from error
    return values.astype(np.int64)


def _as_path(cell: Any) -> Any:
    """The path of one row; a top-k path read by pandas itself is an array of arrays."""
    return np.stack(list(cell)) if isinstance(cell, np.ndarray) and cell.dtype == object else cell
