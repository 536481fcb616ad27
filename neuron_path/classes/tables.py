"""The statistics as tables, a row per class, pair of classes or method: what is written to disk and drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from neuron_path.classes.analysis import ClassAnalysis
from neuron_path.classes.images import image_table
from neuron_path.classes.neurons import neuron_table
from neuron_path.classes.runs import MethodAnalysis, RunsAnalysis
from neuron_path.classes.usage import concentration


def class_table(found: ClassAnalysis) -> pd.DataFrame:
    """Return one row per class.

    Columns: ``class``, ``n``; ``within``, ``between``, its mean path overlap of two of its images (NaN for one image)
    and of one of them with one of another class; ``nearest``, ``nearest_similarity``, ``farthest``,
    ``farthest_similarity``; ``leaf``, its place in the tree of the classes; and the means over blocks of ``entropy``,
    ``effective_neurons``, ``gini`` and ``top_share``.
    """
    paths, overlap = found.paths, found.overlap
    n = paths.counts
    sums = overlap.class_overlap * n
    np.fill_diagonal(sums, 0)
    leaf = np.empty(paths.n_classes, dtype=np.int64)
    leaf[found.tree.order] = np.arange(paths.n_classes)
    names = ["entropy", "effective_neurons", "gini", "top_share"]
    table = pd.DataFrame(
        {
            "class": paths.classes,
            "n": n,
            "within": overlap.class_overlap.diagonal(),
            "between": sums.sum(axis=1) / (paths.n_images - n),
        }
    )
    table = table.merge(found.neighbours, on="class").assign(leaf=leaf)
    # A row for each class and block, in this order.
    means = {name: found.concentration[name].to_numpy(np.float64).reshape(len(n), -1).mean(axis=1) for name in names}
    return table.assign(**means)


def pair_table(found: ClassAnalysis) -> pd.DataFrame:
    """Return one row per pair of classes: ``class``, ``other``, ``similarity``, ``overlap``; the most similar first."""
    one, other = np.triu_indices(found.paths.n_classes, k=1)
    classes = found.paths.classes
    similarity = found.similarity[one, other]
    order = np.argsort(-similarity.round(12), kind="stable")
    table = pd.DataFrame(
        {
            "class": classes[one],
            "other": classes[other],
            "similarity": similarity,
            "overlap": found.overlap.class_overlap[one, other],
        }
    )
    return table.iloc[order].reset_index(drop=True)


def summary_table(analysis: RunsAnalysis) -> pd.DataFrame:
    """Return one row per method: what names it, and every headline number; nested names have dots."""
    rows = []
    for method in analysis.methods:
        found = method.summary(analysis.settings.seed)
        numbers = _flat({name: value for name, value in found.items() if name not in method.key})
        meaning = {} if method.meaning is None else _flat({"meaning": method.meaning.to_dict()})
        rows.append(method.key | {"run_dir": method.run_dir} | numbers | meaning)
    return pd.DataFrame(rows)


_TABLES: Final[Mapping[str, Callable[[MethodAnalysis], pd.DataFrame]]] = {
    "concentration": lambda method: concentration(method.usage),
    "usage": lambda method: method.usage.to_frame(),
    "neurons": lambda method: neuron_table(method.usage),
}
_OF_COMPARED: Final[Mapping[str, Callable[[ClassAnalysis], pd.DataFrame]]] = {
    "classes": class_table,
    "class_pairs": pair_table,
    "images": lambda found: image_table(found.paths, found.usage, found.overlap),
}


def all_tables(analysis: RunsAnalysis) -> dict[str, pd.DataFrame]:
    """Return every table by name.

    - ``summary``: a row per method
    - ``methods``: a row per pair of methods
    - ``concentration`` (per class and block), ``usage`` (per class, block and neuron), ``neurons``; where classes can
      be compared ``classes``, ``class_pairs`` and ``images``: those of each method below each other, with ``method`` as
      their first column
    """
    tables = {"summary": summary_table(analysis), "methods": analysis.pairs}
    for name, make in _TABLES.items():
        tables[name] = _stacked([(method.name, make(method)) for method in analysis.methods])
    compared = [(method.name, method.found) for method in analysis.methods if method.found is not None]
    for name, make_compared in _OF_COMPARED.items() if compared else ():
        tables[name] = _stacked([(method, make_compared(found)) for method, found in compared])
    return tables


def _stacked(parts: Sequence[tuple[str, pd.DataFrame]]) -> pd.DataFrame:
    frames = []
    for name, table in parts:
        frame = table.reset_index(drop=True)
        frame.insert(0, "method", pd.Series([name] * len(frame), dtype=object))
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def _flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in nested.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
