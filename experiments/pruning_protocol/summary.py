"""The paper's pruning protocol in numbers: what masking does, with intervals, and what the paper published."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from neuron_path.errors import NeuronPathError
from neuron_path.stats.crossed import crossed_means

SETTING: Final = ["model", "protocol", "top_k", "depth", "share"]
"""What a row of the summary stands for; share 0 is the unpruned model, depth the number of masked blocks."""

RECORD_COLUMNS: Final = (*SETTING, "seed", "sample_id", "label", "prediction", "probability")
"""One row per setting, seed and image; ``probability`` is that of the label."""

_PUBLISHED: Final = {
    "vit_base_patch16_224.orig_in21k_ft_in1k": "vit_b_16",
    "vit_base_patch32_224.orig_in21k_ft_in1k": "vit_b_32",
}
_SYNSET: Final = re.compile(r"n\d{8}")


def summarise_protocol(records: pd.DataFrame, *, confidence: float = 0.95, n_resamples: int = 1999) -> pd.DataFrame:
    """Average the records of masked models over seeds and images.

    Args:
        records: :data:`RECORD_COLUMNS`.
        confidence: of the intervals.
        n_resamples: redraws per interval.

    Returns:
        One row per model, protocol, size of path, depth and share, with ``n_seeds``, ``n`` (images), ``accuracy`` in
        percent and ``probability``, the mean probability of the label, each with ``_low`` and ``_high``.

    Raises:
        NeuronPathError: missing columns, or no records.
    """
    if missing := [name for name in RECORD_COLUMNS if name not in records.columns]:
        raise NeuronPathError(f"The records of the protocol lack column(s) {', '.join(missing)}.")
    if records.empty:
        raise NeuronPathError("There are no records of the protocol: measure at least one run.")
    rows = []
    for _, own in records.groupby(SETTING, sort=True):
        seeds, seed = np.unique(own["seed"], return_inverse=True)
        images, image = np.unique(own["sample_id"].to_numpy(dtype=str), return_inverse=True)
        values = np.full((2, len(seeds), len(images)), np.nan)
        values[0, seed, image] = 100.0 * (own["prediction"] == own["label"])
        values[1, seed, image] = own["probability"]
        accuracy, probability = crossed_means(values, confidence=confidence, n_resamples=n_resamples)
        row: dict[str, Any] = {name: own[name].iloc[0] for name in SETTING} | {"n_seeds": len(seeds), "n": accuracy.n}
        for name, interval in (("accuracy", accuracy), ("probability", probability)):
            row |= {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}
        rows.append(row)
    return pd.DataFrame(rows)


def published_numbers() -> pd.DataFrame:
    """Return the paper's numbers: ``status`` (``exact``, or ``read_off_figure``), ``model``, ``top_k``, ``depth``,
    ``share`` and ``probability``, the mean target probability, which the paper calls accuracy.

    Share 0 is the unpruned model, whose ``top_k`` and ``depth`` are missing.

    >>> published = published_numbers()
    >>> len(published), published["model"].unique().tolist()
    (36, ['vit_b_32', 'vit_b_16'])
    """
    table = pd.read_csv(Path(__file__).with_name("paper_pruning.csv"))
    sizes = [pd.NA if size == "unpruned" else int(size) for size in table["top_k"]]
    return pd.DataFrame(
        {
            "status": table["status"],
            "model": table["model"],
            "top_k": pd.array(sizes, dtype="Int64"),
            "depth": table["depth"].astype("Int64"),
            "share": table["mask_percent"] / 100,
            "probability": table["mean_target_probability"],
        }
    )


def published_as(provenance: Mapping[str, Any]) -> str | None:
    """Under which name the paper has a run's model, if model and data are the paper's; else None.

    They are where the model is ViT-B/16 or ViT-B/32 as the authors load it and the pictures lie in ImageNet's 1,000
    class folders. Which of them, and how many, the paper does not say.

    >>> published_as({"model": "digits_vit", "data": "digits", "classes": list("0123456789")}) is None
    True
    """
    classes: Sequence[str] = provenance.get("classes") or ()
    is_imagenet = len(classes) == 1000 and all(_SYNSET.fullmatch(str(name)) for name in classes)
    return _PUBLISHED.get(str(provenance.get("model"))) if is_imagenet else None
