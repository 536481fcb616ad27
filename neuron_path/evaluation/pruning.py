"""How accurate pruned models are, method by method and share by share, with intervals over seeds and images."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from neuron_path.errors import NeuronPathError
from neuron_path.stats.crossed import crossed_means
from neuron_path.stats.intervals import Interval

ORIGINAL: Final = "original"
"""The method that prunes nothing."""

RECORD_COLUMNS: Final = ("seed", "method", "keep", "sample_id", "group", "label", "prediction", "probability")
"""One row per seed, method, kept share and image; ``probability`` is that of the label."""


def summarise_pruning(
    records: pd.DataFrame, reference: str, *, confidence: float = 0.95, n_resamples: int = 1999
) -> pd.DataFrame:
    """Average the records of pruned models over seeds and images.

    Args:
        records: :data:`RECORD_COLUMNS`; every method and share has seen the same images with the same seeds, and the
            method ``original`` with the share 1 as well.
        reference: the method that all others are compared with.
        confidence: of the intervals.
        n_resamples: redraws per interval.

    Returns:
        One row per group of images, method and share, in the order in which they appear, with ``n_seeds``, ``n``
        (images); ``accuracy`` in percent, ``probability`` (mean probability of the label), ``accuracy_deviation`` from
        the original in percentage points, and ``ahead``, how far the accuracy of the reference at this share is above
        this one's, in percentage points, paired; each with ``_low`` and ``_high``. Without the reference at that share
        ``ahead`` is NaN. ``verdict`` says whether the reference ``wins``, ``ties`` or ``loses``: by whether the
        interval of ``ahead`` lies above 0, holds it, or lies below; it is empty for the reference and the original.

    Raises:
        NeuronPathError: missing columns, no records, or methods that have seen different images.
    """
    if missing := [name for name in RECORD_COLUMNS if name not in records.columns]:
        raise NeuronPathError(f"The records of pruned models lack column(s) {', '.join(missing)}.")
    if records.empty:
        raise NeuronPathError("There are no records of pruned models: evaluate at least one image.")
    rows: list[dict[str, Any]] = []
    for group, members in records.groupby("group", sort=False):
        rows += [{"group": group} | row for row in _summarise(members, reference, confidence, n_resamples)]
    return pd.DataFrame(rows)


def _summarise(records: pd.DataFrame, reference: str, confidence: float, n_resamples: int) -> list[dict[str, Any]]:
    keys, hits, probabilities = _tables(records)
    if (ORIGINAL, 1.0) not in keys:
        raise NeuronPathError(f"The records lack the method '{ORIGINAL}' with the share 1, to compare with.")
    before = hits[keys.index((ORIGINAL, 1.0))]
    # Both at once, so that a difference and its parts come from the same redraws.
    against = [
        keys.index((reference, keep)) if (reference, keep) in keys else place for place, (_, keep) in enumerate(keys)
    ]
    values = np.concatenate([hits, probabilities, hits - before, hits[against] - hits])
    intervals = crossed_means(values, confidence=confidence, n_resamples=n_resamples)
    columns = [intervals[begin : begin + len(keys)] for begin in range(0, len(intervals), len(keys))]
    rows = []
    for place, (method, keep) in enumerate(keys):
        accuracy, probability, deviation, ahead = (column[place] for column in columns)
        known = (reference, keep) in keys and method not in (reference, ORIGINAL)
        rows.append(
            {"method": method, "keep": keep, "n_seeds": hits.shape[1], "n": accuracy.n}
            | _columns("accuracy", accuracy)
            | _columns("probability", probability)
            | _columns("accuracy_deviation", deviation)
            | _columns("ahead", ahead if known else None)
            | {"verdict": _verdict(ahead) if known else ""}
        )
    return rows


def _tables(records: pd.DataFrame) -> tuple[list[tuple[str, float]], NDArray[np.float64], NDArray[np.float64]]:
    """Methods with their shares, and for each whether (100 or 0) and how likely each seed's images were right."""
    seeds, images = (np.unique(records[name].to_numpy()) for name in ("seed", "sample_id"))
    keys, hits, probabilities = [], [], []
    for _, own in records.groupby(["method", "keep"], sort=False):
        place = np.searchsorted(seeds, own["seed"].to_numpy()), np.searchsorted(images, own["sample_id"].to_numpy())
        right, likely = (np.full((len(seeds), len(images)), np.nan) for _ in range(2))
        right[place] = 100.0 * (own["prediction"].to_numpy() == own["label"].to_numpy())
        likely[place] = own["probability"].to_numpy()
        keys.append((str(own["method"].iloc[0]), float(own["keep"].iloc[0])))
        hits.append(right)
        probabilities.append(likely)
    return keys, np.stack(hits), np.stack(probabilities)


def _verdict(ahead: Interval) -> str:
    return "wins" if ahead.low > 0 else "loses" if ahead.high < 0 else "ties"


def _columns(name: str, interval: Interval | None) -> dict[str, float]:
    nan = float("nan")
    mean, low, high = (nan, nan, nan) if interval is None else (interval.mean, interval.low, interval.high)
    return {name: mean, f"{name}_low": low, f"{name}_high": high}
