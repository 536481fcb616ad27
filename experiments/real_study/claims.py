"""What the paper claims, one test each, and what the study says to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import pandas as pd

from neuron_path.classes.class_paths import make_class_paths
from neuron_path.classes.overlap import overlap_test
from neuron_path.stats.paired import holm, paired_test
from real_study.methods import METHODS, PAPER
from real_study.results import Floats, Results
from real_study.tables import meaning_test

RIVALS: Final = ("activation", "influence_pattern")  # the paper's baselines
OTHERS: Final = ("random", "activation_matched_random", "gradient_x_activation", "effect_remove")
EFFECT_SEARCHES: Final = {"effect_remove": "remove", "effect_mean": "mean_ablation"}
_EDITS: Final = {"remove": (-1, "Removing it lowers"), "enhance": (1, "Enhancing it raises")}
_ALPHA: Final = 0.05


def claims_table(results: Results, distances: str | None = None) -> pd.DataFrame:
    """A row for each claim: the difference that it asserts, its interval and Holm-corrected p-value, and the verdict.

    The verdict is "holds" or "the opposite holds" where p < 0.05, else "not shown". Images are those that the model
    classifies rightly; of class overlaps, all. With a file of semantic distances, that of the classes is among them.
    """
    rows = [*_superior(results), *_preserved(results), *_of_classes(results)]
    chunks = results.chunks("paths", PAPER, 1) if distances is not None else []
    if chunks and (test := meaning_test(results, PAPER, 1, chunks, str(distances))):
        claim = "Classes of like meaning use like neurons (correlation with their distance)"
        none = float("nan")
        bounds = {"difference": test.r, "low": none, "high": none, "p": test.p, "n": test.n_classes}
        rows.append({"claim": claim, "k": 1, "sign": -1, "unit": "r", **bounds})
    if not rows:
        return pd.DataFrame()
    table = pd.DataFrame(rows)
    table["p"] = holm(table["p"].to_numpy())
    table["verdict"] = [
        "not shown" if row["p"] >= _ALPHA else "holds" if row["difference"] * row["sign"] > 0 else "the opposite holds"
        for row in table.to_dict("records")
    ]
    return table.drop(columns="sign")


def searches_table(results: Results) -> pd.DataFrame:
    """The paths that an effect search finds against those of every other method, by the edit that it maximises.

    p-values are Holm-corrected over the table. Images are those that the model classifies rightly.
    """
    rows = []
    for k in results.sizes("effects"):
        chunks, methods = results.common("effects", k), results.methods("effects", k)
        chosen = results.rows(chunks, "right") if chunks else []
        for own, edit in (name for name in EFFECT_SEARCHES.items() if name[0] in methods and len(chosen)):
            ours = results.deviation(own, k, chunks, edit)[chosen]
            for other in (name for name in methods if name != own):
                theirs = results.deviation(other, k, chunks, edit)[chosen]
                rows.append({"search": own, "edit": edit, "method": other} | _row("", k, -1, "points", ours, theirs))
    table = pd.DataFrame(rows)
    if len(table):
        table["p"] = holm(table["p"].to_numpy())
        table = table.drop(columns=["claim", "sign"])
    return table


def _superior(results: Results) -> Iterator[dict[str, Any]]:
    """Scores and effects of the paper's paths, alone and against the others."""
    for k in results.sizes("effects"):
        chunks, methods = results.common("effects", k), results.methods("effects", k)
        if not chunks or PAPER not in methods:
            continue
        rows = results.rows(chunks, "right")
        if k == 1:
            for rival in (name for name in RIVALS if name in methods):
                own, theirs = (results.scores(name, 1, chunks)[rows] for name in (PAPER, rival))
                yield _row(f"Its joint score is higher than that of paths by {_name(rival)}", k, 1, "of p", own, theirs)
        for edit, (sign, words) in _EDITS.items():
            own = results.deviation(PAPER, k, chunks, edit)[rows]
            yield _row(f"{words} the target's probability", k, sign, "%", own, np.zeros_like(own))
            for rival in (name for name in (*RIVALS, *OTHERS) if name in methods):
                if rival in OTHERS[2:] and edit == "enhance":
                    continue
                theirs = results.deviation(rival, k, chunks, edit)[rows]
                yield _row(f"{words} it more than paths by {_name(rival)}", k, sign, "%", own, theirs)


def _preserved(results: Results) -> Iterator[dict[str, Any]]:
    """What is left where only the largest paths are kept."""
    sizes = [k for k in results.sizes("effects") if PAPER in results.methods("effects", k)]
    if not sizes or not (chunks := results.common("effects", sizes[-1])):
        return
    k, rows = sizes[-1], results.rows(chunks, "right")
    own = results.deviation(PAPER, k, chunks, "keep_only")[rows]
    for rival in (name for name in (*RIVALS, "random") if name in results.methods("effects", k)):
        theirs = results.deviation(rival, k, chunks, "keep_only")[rows]
        yield _row(f"Keeping only it leaves more of the probability than {_name(rival)}", k, 1, "%", own, theirs)


def _of_classes(results: Results) -> Iterator[dict[str, Any]]:
    """Whether paths are of classes."""
    chunks = results.chunks("paths", PAPER, 1)
    labels = results.labels(chunks) if chunks else np.array([])
    if len(labels) > len(set(labels.tolist())):
        found = overlap_test(
            make_class_paths(results.paths(PAPER, 1, chunks), labels, n_neurons=results.identity["n_neurons"])
        )
        percent = {
            name: 100 * value
            for name, value in (
                ("difference", found.difference.mean),
                ("low", found.difference.low),
                ("high", found.difference.high),
            )
        }
        claim = "Paths of one class share more neurons than paths of different classes"
        yield {"claim": claim, "k": 1, "sign": 1, "unit": "points", **percent, "p": found.p, "n": len(labels)}
    for k in results.sizes("transfer"):
        chunks = results.chunks("transfer", PAPER, k)
        if not chunks:
            continue
        given = np.all(
            [
                results.joined("transfer", PAPER, k, chunks, f"{kind}_from") >= 0
                for kind in ("own_class", "other_class")
            ],
            axis=0,
        )
        rows = np.flatnonzero(given & results.right(chunks))
        own, other = (
            results.change(results.joined("transfer", PAPER, k, chunks, kind), chunks)[rows]
            for kind in ("own_class", "other_class")
        )
        if len(rows) > 1:
            claim = "Removing the path of another picture of the class lowers it more than that of another class"
            yield _row(claim, k, -1, "%", own, other)


def _row(claim: str, k: int, sign: int, unit: str, own: Floats, other: Floats) -> dict[str, Any]:
    test = paired_test(own, other)
    difference = test.difference
    return {
        "claim": claim,
        "k": k,
        "sign": sign,
        "unit": unit,
        "difference": difference.mean,
        "low": difference.low,
        "high": difference.high,
        "p": test.p,
        "n": difference.n,
    }


def _name(method: str) -> str:
    return METHODS[method].label
