"""The methods of a run directory: per-image values, one array for each column of a comparison."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from neuron_path.errors import NeuronPathError
from neuron_path.evaluation.columns import CURVES, Column
from neuron_path.evaluation.measures import accuracy_deviation, curve_area, logit_difference, probability_deviation
from neuron_path.evaluation.quantity import QUANTITIES, quantity_of
from neuron_path.store.layout import PATHS_FILE, SCORES_FILE
from neuron_path.store.reader import load_effects, load_paths, load_scores
from neuron_path.store.schema import VALUE_COLUMNS, is_valued

UNLABELLED = -1

_MEASURED: Final = (
    "target", "clean_probability", "edited_probability", "clean_logit", "edited_logit", "kl_divergence",
    "clean_prediction", "edited_prediction",
)  # fmt: skip


@dataclass(frozen=True)
class Method:
    """What one method's paths did to n images.

    Attributes:
        run_dir: where it is stored.
        provenance: what made its effects.
        scorer: its scorer.
        search: its search, with what that maximises where it is not the joint score: "linearized, effect of remove".
        top_k: neurons per block.
        token_scope: the scope of its paths.
        images: (n,) sample ids, ascending: the order of all that follows.
        targets: (n,) the attributed classes.
        labels: (n,) the true classes, −1 where there is none.
        paths: (n, L) or (n, L, k) neurons; None where they are not stored.
        sizes: for each operation with a curve, its sizes.
        values: (n,) for each column; NaN where accuracy has no label.
        quantity: what its effects are told as changes of; see :mod:`neuron_path.evaluation.quantity`.
    """

    run_dir: str
    provenance: dict[str, Any]
    scorer: str
    search: str
    top_k: int
    token_scope: str
    images: NDArray[np.str_]
    targets: NDArray[np.int64]
    labels: NDArray[np.int64]
    paths: NDArray[np.int32] | None
    sizes: dict[str, tuple[int, ...]]
    values: dict[Column, NDArray[np.float64]]
    quantity: str = "probability"

    @property
    def key(self) -> tuple[str, str, int]:
        """What tells methods of one model apart."""
        return self.scorer, self.search, self.top_k

    def at(self, images: NDArray[np.str_]) -> Method:
        """The method on some of its images, given in ascending order."""
        if len(images) == len(self.images):
            return self
        kept = np.isin(self.images, images, assume_unique=True)
        return replace(
            self,
            images=self.images[kept],
            targets=self.targets[kept],
            labels=self.labels[kept],
            paths=None if self.paths is None else self.paths[kept],
            values={column: values[kept] for column, values in self.values.items()},
        )


def read_methods(run_dir: Path) -> tuple[list[Method], list[str]]:
    """Read every method whose effects a run directory holds.

    Probability deviations are in percent here, as the table shows them.

    Returns:
        The methods, and a line for each thing that the directory lacks.

    Raises:
        NeuronPathError: for torn or foreign files, and for effects that hold an image twice or a value that is no
            finite number.
    """
    effects = load_effects(run_dir)
    paths = load_paths(run_dir) if (run_dir / PATHS_FILE).exists() else None
    scores = load_scores(run_dir) if (run_dir / SCORES_FILE).exists() else None
    provenance = effects.attrs["provenance"]
    for table in (effects, paths, scores):
        if table is not None:
            table.attrs = {}  # pandas copies them, all class names too, with every step
    shown = os.fspath(run_dir)
    notes = []
    if paths is None:
        notes.append(f"{shown} holds no {PATHS_FILE}: its images count as unlabelled.")
    if scores is None:
        notes.append(f"{shown} holds no {SCORES_FILE}: its methods have no scores in the table.")
    names = ["scorer", "search", "top_k"]
    methods = []
    for _, group in effects.groupby(names):
        key = group[names].iloc[0].tolist()
        methods.append(_read(shown, group, _of(paths, key, names), _of(scores, key, names), provenance))
    if paths is not None:
        found = set(effects[names].itertuples(index=False, name=None))
        for scorer, search, top_k in sorted({*zip(*(paths[name].tolist() for name in names), strict=True)} - found):
            notes.append(f"{shown} holds paths of {scorer} ({search}, top_k {top_k}), but no effects of them.")
    return methods, notes


def _of(table: pd.DataFrame | None, key: list[Any], names: list[str]) -> pd.DataFrame | None:
    """The rows of one method by image; None where there are none."""
    if table is None:
        return None
    rows = table.loc[(table[names] == key).all(axis=1)].set_index("sample_id")
    return rows if len(rows) else None


def _read(
    run_dir: str,
    effects: pd.DataFrame,
    paths: pd.DataFrame | None,
    scores: pd.DataFrame | None,
    provenance: dict[str, Any],
) -> Method:
    first = effects.iloc[0]
    name = f"{first['scorer']} ({first['search']}, top_k {first['top_k']}) in {run_dir!r}"
    images, edits = _rows(name, effects)
    top_k = int(first["top_k"])
    headline = {(operation, tokens): rows for (operation, tokens, size), rows in edits.items() if size == top_k}
    if not headline or not len(images):
        raise NeuronPathError(f"The effects of {name} hold no edit of whole paths; evaluate that run again.")
    fields = [*_MEASURED, *VALUE_COLUMNS] if is_valued(effects.columns) else _MEASURED
    column = {field: effects[field].to_numpy() for field in fields}
    quantity = quantity_of(provenance, effects)
    targets = column["target"][next(iter(headline.values()))].astype(np.int64)
    labels = np.full(len(images), UNLABELLED)
    if paths is not None:
        labels = paths["label"].reindex(images).fillna(UNLABELLED).to_numpy(dtype=np.int64)
    values: dict[Column, NDArray[np.float64]] = {}
    if scores is not None:
        for measure in ("joint", "complete"):
            values[Column(f"{measure}_score")] = scores[measure].reindex(images).to_numpy(dtype=np.float64)
    for (operation, tokens), rows in headline.items():
        values |= _measures(operation, tokens, {field: held[rows] for field, held in column.items()}, labels, quantity)
    sizes = {}
    clean, edited = column["clean_probability"], column["edited_probability"]
    for operation, measure in CURVES.items():
        for tokens in dict.fromkeys(tokens for edit, tokens, _ in edits if edit == operation):
            curve = {size: rows for (edit, where, size), rows in edits.items() if (edit, where) == (operation, tokens)}
            if len(curve) > 1:
                sizes[operation] = tuple(curve)
                retained = [1 + probability_deviation(clean[rows], edited[rows]) for rows in curve.values()]
                values[Column(measure, operation, tokens)] = curve_area(sizes[operation], np.stack(retained, axis=1))
    _check_finite(name, values)
    return Method(
        run_dir=run_dir,
        provenance=provenance,
        scorer=str(first["scorer"]),
        search=_search(str(first["search"]), provenance),
        top_k=top_k,
        token_scope=str(first["token_scope"]),
        images=images,
        targets=targets,
        labels=labels,
        paths=None if paths is None or not set(images) <= set(paths.index) else np.stack(paths["path"].loc[images]),
        sizes=sizes,
        values=values,
        quantity=quantity,
    )


def _search(name: str, provenance: Mapping[str, Any]) -> str:
    """See `Method.search`; a run's baselines have another search than its own, or are rated by their scorer."""
    measure = provenance.get("measure", "joint")
    return name if measure == "joint" or name != provenance.get("search") else f"{name}, {measure}"


def _rows(name: str, effects: pd.DataFrame) -> tuple[NDArray[np.str_], dict[tuple[str, str, int], NDArray[np.int64]]]:
    """The images that every edit has seen, ascending, and for each edit, in order, the rows of these images."""
    groups = effects.groupby(["operation", "tokens", "size"])
    codes, ids = pd.factorize(effects["sample_id"], sort=True)
    rows = np.full((groups.ngroups, len(ids)), -1)
    rows[groups.ngroup().to_numpy(), codes] = np.arange(len(effects))
    if doubled := len(effects) - int((rows >= 0).sum()):
        raise NeuronPathError(f"The effects of {name} hold {doubled} row(s) twice; evaluate that run again.")
    seen = np.flatnonzero((rows >= 0).all(axis=0))
    edits: list[Any] = groups.size().index.tolist()
    return np.array(ids[seen], dtype=np.str_), dict(zip(edits, rows[:, seen], strict=True))


def _measures(
    operation: str, tokens: str, column: Mapping[str, NDArray[Any]], labels: NDArray[np.int64], quantity: str
) -> dict[Column, NDArray[np.float64]]:
    accuracy = accuracy_deviation(column["clean_prediction"], column["edited_prediction"], labels)
    measured = {
        "probability_deviation": 100 * probability_deviation(column["clean_probability"], column["edited_probability"]),
        "accuracy_deviation": np.where(labels == UNLABELLED, np.nan, accuracy),
        "logit_difference": logit_difference(column["clean_logit"], column["edited_logit"]),
        "kl_divergence": column["kl_divergence"].astype(np.float64),
    }
    wanted = QUANTITIES[quantity]
    if (source := wanted.column(column, "clean_")) and not wanted.is_probability:
        measured[wanted.measure] = column[source.replace("clean", "edited")] - column[source]
    return {Column(measure, operation, tokens): values for measure, values in measured.items()}


def _check_finite(name: str, values: dict[Column, NDArray[np.float64]]) -> None:
    for column, numbers in values.items():
        wrong = int((~np.isfinite(numbers)).sum())
        if wrong and column.measure != "accuracy_deviation":
            what = f"{column.measure} of {column.operation}" if column.operation else column.measure
            raise NeuronPathError(
                f"{wrong} of {len(numbers)} values of {what} of {name} are missing or infinite; expected finite "
                "numbers. Evaluate that run again, in float64 where probabilities vanish."
            )
