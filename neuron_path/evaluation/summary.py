"""The effects of a run's interventions in one table: a row per method and operation."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from neuron_path.errors import NeuronPathError
from neuron_path.evaluation.measures import accuracy_deviation, logit_difference, probability_deviation
from neuron_path.stats.intervals import Interval, bootstrap_tables
from neuron_path.store.schema import is_valued

GROUP_COLUMNS = ["scorer", "search", "top_k", "token_scope", "operation", "size", "tokens"]
"""What a row of the summary stands for; effects of different sizes of path, edit or scope are never averaged."""

_VALUE_COLUMNS = [
    "sample_id", "target", "clean_probability", "edited_probability", "clean_logit", "edited_logit", "kl_divergence",
    "clean_prediction", "edited_prediction",
]  # fmt: skip


def summarise_effects(
    effects: pd.DataFrame,
    labels: Mapping[str, Any] | pd.Series,
    *,
    by: Literal["class"] | None = None,
    headline: bool = True,
    confidence: float = 0.95,
    n_resamples: int = 9999,
    seed: int = 0,
) -> pd.DataFrame:
    """Average the effects of interventions over images, with bootstrap intervals.

    Args:
        effects: the columns of ``effects.parquet``; see :func:`neuron_path.store.reader.load_effects`.
        labels: the true class of each ``sample_id``, as a mapping or a series with ``sample_id`` as its index. Images
            that it lacks or holds as missing count as unlabelled.
        by: ``"class"`` gives each class a row of its own; None averages over all images.
        headline: take only the edits of the whole path (``size`` = ``top_k``). False takes all sizes, which are the
            points of the necessity (remove) and sufficiency (keep_only) curves: 1 + ``probability_deviation`` against
            ``size``.
        confidence: of the intervals, in (0, 1).
        n_resamples: bootstrap samples per interval.
        seed: of the bootstrap.

    Returns:
        One row per scorer, search and operation (and top_k, token_scope, size and tokens, where they vary; and class,
        if asked), in the order in which they appear (classes in ascending order), with

        - ``class_kind`` and ``class``, if asked: ``label`` and the true class where every image has one, else
          ``target`` and the class whose probability was measured;
        - ``n``, ``clean_probability``, ``edited_probability``: images and mean target probabilities;
        - ``probability_deviation``, with ``_low`` and ``_high``: mean of p_edit / p_clean − 1, dimensionless;
        - ``includes_zero``: whether that interval cannot exclude no effect;
        - ``logit_difference``, with ``_low`` and ``_high``: mean of edited − clean target logit;
        - where the effects have the target function's own values, ``clean_value`` and ``edited_value``, their means,
          and ``value_difference``, with ``_low`` and ``_high``, in units of the target function;
        - ``kl_divergence``, with ``_low`` and ``_high``: mean of that of the edited prediction from the clean, in nats;
        - ``n_labelled``, ``clean_accuracy``, ``edited_accuracy``: labelled images and top-1 in percent;
        - ``accuracy_deviation``, with ``_low`` and ``_high``, in percentage points, and ``accuracy_includes_zero``.
          With no labelled image these are NaN, and ``accuracy_includes_zero`` is true.

    Raises:
        NeuronPathError: when a column is missing, there are no effects, a group holds an image twice, or ``by`` is
            unknown.
    """
    missing = [name for name in GROUP_COLUMNS + _VALUE_COLUMNS if name not in effects.columns]
    if missing:
        raise NeuronPathError(f"The effects lack column(s) {', '.join(missing)}; give the table of load_effects.")
    if by not in (None, "class"):
        raise NeuronPathError(f"Effects are not summarised by '{by}'; expected 'class', or None.")
    if headline:
        effects = effects.loc[effects["size"] == effects["top_k"]]
    if effects.empty:
        raise NeuronPathError("There are no effects to summarise; expected at least one image. Run the interventions.")
    known = dict(labels.items())
    # As a column of its own, so that rows keep their label whatever the index of the table that was given.
    effects = effects.assign(label=pd.array([known.get(name) for name in effects["sample_id"]], dtype="Int64"))
    kind = "label" if not effects["label"].isna().to_numpy().any() else "target"
    heads: list[dict[str, Any]] = []
    groups: list[pd.DataFrame] = []
    for _, group in effects.groupby(GROUP_COLUMNS, sort=False, dropna=False):
        names = {name: group[name].iloc[0] for name in GROUP_COLUMNS}
        if doubled := group["sample_id"][group["sample_id"].duplicated()].tolist():
            raise NeuronPathError(
                f"Image {doubled[0]!r} appears more than once for {names}; expected one row per image and method."
            )
        # The bootstrap draws by position: in one order of the images the digits are always the same.
        images = group.sort_values("sample_id")
        for index, members in [(None, images)] if by is None else images.groupby(kind):
            heads.append(names if by is None else names | {"class_kind": kind, "class": index})
            groups.append(members)
    changes, accuracies = [_changes(group) for group in groups], [_accuracy_changes(group) for group in groups]
    tables = [*changes, *(table for table in accuracies if table.size)]
    intervals = iter(bootstrap_tables(tables, confidence=confidence, n_resamples=n_resamples, seed=seed))
    means = list(islice(intervals, len(groups)))
    nan = float("nan")
    unknown = [Interval(nan, nan, nan, 0, confidence)]
    means = [mean + (next(intervals) if table.size else unknown) for mean, table in zip(means, accuracies, strict=True)]
    return pd.DataFrame(
        [head | _summarise(group, *mean) for head, group, mean in zip(heads, groups, means, strict=True)]
    )


def _changes(group: pd.DataFrame) -> NDArray[np.float64]:
    """Of probability, logit and all classes, and of the target function where it is known: (3 or 4, n)."""
    probability = probability_deviation(group["clean_probability"].to_numpy(), group["edited_probability"].to_numpy())
    logits = logit_difference(group["clean_logit"].to_numpy(), group["edited_logit"].to_numpy())
    values = [group["edited_value"].to_numpy() - group["clean_value"].to_numpy()] if is_valued(group.columns) else []
    return np.stack([probability, logits, group["kl_divergence"].to_numpy(), *values])


def _accuracy_changes(group: pd.DataFrame) -> NDArray[np.float64]:
    """Of the labelled images: (1, n)."""
    return accuracy_deviation(*_predictions(group))[None]


def _predictions(group: pd.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Before the edit, after it, and what is right, for labelled images."""
    labelled = group.loc[group["label"].notna()]
    names = ("clean_prediction", "edited_prediction", "label")
    clean, edited, right = (labelled[name].to_numpy(dtype=np.int64) for name in names)
    return clean, edited, right


def _summarise(
    group: pd.DataFrame,
    probability: Interval,
    logit: Interval,
    divergence: Interval,
    *values_and_accuracy: Interval,
) -> dict[str, Any]:
    *values, accuracy = values_and_accuracy
    clean, edited, right = _predictions(group)
    nan = float("nan")
    return {
        "n": len(group),
        "clean_probability": float(group["clean_probability"].to_numpy().mean()),
        "edited_probability": float(group["edited_probability"].to_numpy().mean()),
        **_columns("probability_deviation", probability),
        "includes_zero": probability.includes_zero,
        **_columns("logit_difference", logit),
        **{f"{when}_value": float(group[f"{when}_value"].to_numpy().mean()) for when in ("clean", "edited") if values},
        **{name: number for value in values for name, number in _columns("value_difference", value).items()},
        **_columns("kl_divergence", divergence),
        "n_labelled": len(right),
        "clean_accuracy": 100.0 * float((clean == right).mean()) if len(right) else nan,
        "edited_accuracy": 100.0 * float((edited == right).mean()) if len(right) else nan,
        **_columns("accuracy_deviation", accuracy),
        "accuracy_includes_zero": accuracy.includes_zero,
    }


def _columns(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}
