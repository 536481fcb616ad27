"""The paper's pruning protocol in numbers: what masking does, with intervals, and what the paper published."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from neuron_path.errors import NeuronPathError
from neuron_path.models.imagenet import imagenet_classes
from neuron_path.stats.crossed import crossed_means
from sweep import PAPER_FILES

SETTING: Final = ["model", "protocol", "top_k", "depth", "share"]
"""What a row of the summary stands for; share 0 is the unpruned model, depth the number of masked blocks."""

RECORD_COLUMNS: Final = (*SETTING, "seed", "sample_id", "label", "prediction", "probability")
"""One row per setting, seed and image; ``probability`` is that of the label."""

_PUBLISHED: Final = ("vit_b_16", "vit_b_32")
_HUB: Final = {"vit_base_patch16_224.orig_in21k_ft_in1k": "vit_b_16"}
"""The paper's weights where they are fetched from timm's hub, which has no ViT-B/32 of them."""
_FIRST_SYNSET: Final = "n01440764"
_BESIDE: Final = [
    "model", "top_k", "depth", "share", "status", "published", "probability", "probability_low", "probability_high",
    "n", "verdict", "direction",
]  # fmt: skip
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

    They are where the weights are those of ViT-B/16 or ViT-B/32 as the authors load them, known by the name of Google's
    file or timm's of the hub, and the classes are ImageNet's 1,000. Which pictures, and how many, the paper does not
    say.

    >>> published_as({"model": "digits_vit", "data": "digits", "classes": list("0123456789")}) is None
    True
    """
    classes = [str(name) for name in provenance.get("classes") or ()]
    synsets = len(classes) == 1000 and all(_SYNSET.fullmatch(name) for name in classes)
    known = imagenet_classes([_FIRST_SYNSET], 1000)
    if not synsets and (known is None or classes != known[1]):
        return None
    file = ((provenance.get("config") or {}).get("model") or {}).get("checkpoint")
    if file is None:
        return _HUB.get(str(provenance.get("model")))
    return {PAPER_FILES[name]: name for name in _PUBLISHED}.get(Path(file).name)


def beside_published(summary: pd.DataFrame, published: Mapping[str, str | None]) -> pd.DataFrame:
    """Put the paper's numbers beside ours: a row for each number of the models that it has, measured or not.

    Args:
        summary: from :func:`summarise_protocol`, of one protocol.
        published: for each model its name in the paper, or None.

    Returns:
        ``model``, ``top_k``, ``depth``, ``share``, ``status``; ``published`` and ``probability`` with ``_low``,
        ``_high`` and ``n``, NaN where it was not measured; ``verdict``: whether the paper's number lies ``within`` the
        interval or ``outside``; ``direction``: whether masking changes the probability to the ``same`` side as in the
        paper, or the ``opposite``; empty for the unpruned model and what was not measured.
    """
    rows: list[dict[str, Any]] = []
    theirs = published_numbers()
    for model, name in published.items():
        own, known = summary.loc[summary["model"] == model], theirs.loc[theirs["model"] == name]
        ours = {_cell(row, masked=row["share"] > 0): row for row in own.to_dict("records")}
        before = next(iter(known.loc[known["share"] == 0, "probability"]), np.nan)
        unpruned = next((row["probability"] for row in ours.values() if row["share"] == 0), np.nan)
        for row in known.to_dict("records"):
            found = ours.get(_cell(row, masked=row["share"] > 0), {})
            numbers = {f"probability{end}": found.get(f"probability{end}", np.nan) for end in ("", "_low", "_high")}
            setting = {"model": model, **{key: row[key] for key in ("top_k", "depth", "share", "status")}}
            rows.append(setting | {"published": row["probability"], **numbers, "n": found.get("n", 0)})
            low, high = numbers["probability_low"], numbers["probability_high"]
            same = (row["probability"] - before) * (numbers["probability"] - unpruned) > 0
            rows[-1]["verdict"] = "" if not found else "within" if low <= row["probability"] <= high else "outside"
            rows[-1]["direction"] = "" if not found or not row["share"] else "same" if same else "opposite"
    return pd.DataFrame(rows, columns=_BESIDE)


def _cell(row: Mapping[Any, Any], *, masked: bool) -> tuple[int, int, float]:
    """What a number stands for; the unpruned model has neither size of path nor depth."""
    return (int(row["top_k"]), int(row["depth"]), float(row["share"])) if masked else (0, 0, 0.0)
