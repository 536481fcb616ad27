"""From what was measured of images to tables of means, intervals and tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.integrate import trapezoid
from scipy.stats import binomtest, kendalltau, rankdata, spearmanr

from neuron_path.classes.class_paths import make_class_paths
from neuron_path.classes.distances import read_distances
from neuron_path.classes.overlap import overlap_test
from neuron_path.classes.similarity import class_similarity
from neuron_path.classes.usage import count_usage
from neuron_path.stats.intervals import Interval, bootstrap_mean, percentiles
from neuron_path.stats.mantel import Mantel, mantel
from neuron_path.stats.paired import holm, paired_tests
from neuron_path.stats.resampling import resampled_means
from path_stability import path_overlap
from real_study.methods import METHODS, NULLS, PAPER
from real_study.plan import RANKINGS, TRUTH_SAMPLE
from real_study.results import Floats, Groups, Results, log_probability
from real_study.store import Cell
from real_study.subject import CHANGES

EDITS: Final = ("remove", "enhance", "mean_ablation", "resample_ablation", "keep_only", "flipped")
_CONFIDENCE: Final = 0.95
_DRAWS: Final = 9999
_LEAST_CLASSES: Final = 4
_QUANTILE: Final = 0.9  # of random sets that a path has to beat
Row = dict[str, Any]


def effects_table(results: Results, sizes: Sequence[int] | None = None) -> pd.DataFrame:
    """A row for each measure, edit, group of images, size (None: all) and method, with tests against the paper's path.

    p-values are Holm-corrected over all tests of a measure, an edit and a group.
    """
    rows: list[Row] = []
    measures: dict[str, tuple[str, Callable[[str, int, Sequence[int], str], Floats]]] = {
        "probability": ("%", lambda name, k, chunks, edit: results.deviation(name, k, chunks, edit, _view(edit))),
        "accuracy": ("points", results.accuracy),
    }
    for measure, (unit, values_of) in measures.items():
        for edit in EDITS:
            if measure == "accuracy" and edit == "flipped":
                continue
            for group in Groups:
                family: list[Row] = []
                for k in sizes or results.sizes("effects"):
                    chunks, methods = results.common("effects", k), results.methods("effects", k)
                    chosen = results.rows(chunks, group) if chunks else []
                    if not len(chosen):
                        continue
                    values = np.stack([values_of(name, k, chunks, edit)[chosen] for name in methods])
                    family += compared(
                        values, methods, {"measure": measure, "unit": unit, "edit": edit, "group": group, "k": k}
                    )
                rows += corrected(family)
    return pd.DataFrame(rows)


def scorers_table(results: Results, every: Results) -> pd.DataFrame:
    """The effects of one neuron a block where scorers were tried beside the methods of the study, by all of them.

    Args:
        results: of the study's methods.
        every: of all there are.
    """
    if every.methods("effects", 1) == results.methods("effects", 1):
        return pd.DataFrame()
    effects = effects_table(every, [1])
    return effects.loc[(effects["measure"] == "probability") & (effects["group"] == "right")]


def scores_table(results: Results) -> pd.DataFrame:
    """Joint attribution scores of the paths of one neuron a block, by all quadratures right to two percent."""
    chunks, methods = results.common("effects", 1), results.methods("effects", 1)
    if not chunks:
        return pd.DataFrame()
    values = np.stack([results.scores(name, 1, chunks) for name in methods])
    return pd.DataFrame(corrected(compared(values, methods, {"measure": "joint score", "k": 1})))


def compared(values: Floats, methods: Sequence[str], head: Row) -> list[Row]:
    """A row for each method: its mean, and how it differs from the paper's and from the nulls.

    Args:
        values: (methods, n).
        methods: their names.
        head: what else the rows have.
    """
    references = [name for name in (PAPER, *NULLS) if name in methods]
    pairs = [(methods.index(name), methods.index(other)) for name in methods for other in references if name != other]
    intervals, tests = paired_tests(values, pairs or [(0, 0)])
    rows = {
        name: head | {"method": name} | _bounds(interval) for name, interval in zip(methods, intervals, strict=True)
    }
    for (own, other), test in zip(pairs, tests, strict=False):
        row, against = rows[methods[own]], methods[other]
        row[f"p_{against}"] = test.p
        if against == PAPER:
            row |= _bounds(test.difference, "difference")
    return list(rows.values())


def corrected(rows: list[Row]) -> list[Row]:
    """Holm's correction over all p-values of the rows; a pair that two rows hold is one test."""
    cells = [(row, key) for row in rows for key in row if key.startswith("p_")]
    unique: dict[tuple[Any, ...], list[tuple[Row, str]]] = {}
    for row, key in cells:
        unique.setdefault((row["k"], *sorted((row["method"], key[2:]))), []).append((row, key))
    values = holm([places[0][0][places[0][1]] for places in unique.values()]) if unique else []
    for places, value in zip(unique.values(), values, strict=True):
        for row, key in places:
            row[key] = float(value)
    return rows


def agreement_table(results: Results, effects: pd.DataFrame) -> pd.DataFrame:
    """Kendall's τ between the orders that two edits put the methods in, by their mean changes."""
    own = effects.loc[(effects["measure"] == "probability") & (effects["group"] == "right")]
    names = ("remove", "mean_ablation", "resample_ablation", "enhance", "flipped")
    rows = []
    for k in sorted(set(own["k"])):
        means = {
            edit: own.loc[(own["k"] == k) & (own["edit"] == edit)].set_index("method")["mean"]
            * (-1 if edit == "enhance" else 1)
            for edit in names
        }
        for place, one in enumerate(names):
            for other in names[place + 1 :]:
                if len(means[one]) > 2:
                    found: Any = kendalltau(means[one], means[other].loc[means[one].index])
                    rows.append(
                        {
                            "k": k,
                            "one": one,
                            "other": other,
                            "tau": float(found.statistic),
                            "p": float(found.pvalue),
                            "methods": len(means[one]),
                        }
                    )
    return pd.DataFrame(rows)


def selectivity_table(results: Results) -> pd.DataFrame:
    """What removing the path does to the target's logit and to those of the other classes."""
    rows = []
    for k in results.sizes("effects"):
        chunks = results.common("effects", k)
        for name in results.methods("effects", k) if chunks else []:
            chosen = results.rows(chunks, "right")
            labels = results.labels(chunks)[chosen]
            moved = (results.joined("effects", name, k, chunks, "remove").astype(np.float64) - results.clean(chunks))[
                chosen
            ]
            at = np.arange(len(labels))
            target = moved[at, labels]
            others = (moved.sum(1) - target) / (moved.shape[1] - 1)
            row: Row = {"k": k, "method": name}
            row |= _bounds(bootstrap_mean(target), "target") | _bounds(bootstrap_mean(others), "others")
            row |= _bounds(bootstrap_mean((moved.argmin(1) == labels).astype(float)), "falls_most")
            rows.append(row | {"n": len(labels), "classes": moved.shape[1]})
    return pd.DataFrame(rows)


def transfer_table(results: Results) -> pd.DataFrame:
    """Change of the target's probability, in percent, when the path of another photograph is removed."""
    rows = []
    for k in results.sizes("transfer"):
        for name in results.methods("transfer", k):
            chunks = results.chunks("transfer", name, k)
            given = (results.joined("transfer", name, k, chunks, "own_class_from") >= 0) & (
                results.joined("transfer", name, k, chunks, "other_class_from") >= 0
            )
            chosen = np.flatnonzero(given & results.right(chunks))
            if len(chosen) < 2:
                continue
            values = np.stack(
                [
                    results.deviation(name, k, chunks, "remove"),
                    *(
                        results.change(results.joined("transfer", name, k, chunks, kind), chunks)
                        for kind in ("own_class", "other_class")
                    ),
                ]
            )[:, chosen]
            intervals, (test,) = paired_tests(values, [(1, 2)])
            row: Row = {"k": k, "method": name}
            for kind, interval in zip(("own", "own_class", "other_class"), intervals, strict=True):
                row |= _bounds(interval, kind)
            rows.append(row | _bounds(test.difference, "difference") | {"p": test.p, "n": len(chosen)})
    return pd.DataFrame(rows)


def circuits_table(results: Results) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Faithfulness of circuits of growing size, and the areas that MIB sums it up by.

    f = (m(circuit) − m(∅)) / (m(model) − m(∅)), m the mean over images of the target's logit over the next class's.
    """
    curve: list[Row] = []
    areas: list[Row] = []
    methods = [name for name in RANKINGS if results.chunks("circuits", name, 0)]
    for name in methods:
        chunks = results.common("circuits", 0)
        if not chunks:
            break
        sizes = results.read(Cell("circuits", name, 0, chunks[0]))["sizes"]
        kept = results.lead(results.joined("circuits", name, 0, chunks, "kept", axis=1), chunks)
        whole = results.lead(results.clean(chunks), chunks)
        n_neurons = results.identity["n_neurons"]
        values = np.vstack([kept, whole])[:, results.rows(chunks, "right")]
        shares = np.append(sizes, n_neurons) / n_neurons

        def faithful(means: Floats) -> Floats:
            return (means - means[0]) / (means[-1] - means[0])

        redrawn = faithful(resampled_means(values, _DRAWS, 0))
        shown = faithful(values.mean(1, keepdims=True))
        low, high = percentiles(redrawn.copy(), _CONFIDENCE)
        n = values.shape[1]
        for place, share in enumerate(shares):
            curve.append(
                {
                    "method": name,
                    "size": round(share * n_neurons),
                    "share": share,
                    "faithfulness": shown[place, 0],
                    "low": low[place],
                    "high": high[place],
                    "n": n,
                }
            )
        for measure, area in AREAS.items():
            below, above = percentiles(area(shares, redrawn)[None], _CONFIDENCE)
            areas.append(
                {
                    "measure": measure,
                    "method": name,
                    "mean": float(area(shares, shown)[0]),
                    "low": float(below[0]),
                    "high": float(above[0]),
                    "n": n,
                }
            )
    return pd.DataFrame(curve), pd.DataFrame(areas)


def _linear(shares: Floats, f: Floats) -> Floats:
    return np.asarray(trapezoid(f, shares, axis=0))


def _logarithmic(shares: Floats, f: Floats) -> Floats:
    places = np.log(shares[1:])
    return np.asarray(trapezoid(f[1:], places, axis=0)) / (places[-1] - places[0])


AREAS: Final[dict[str, Callable[[Floats, Floats], Floats]]] = {
    "CPR": _linear,
    "CMD": lambda shares, f: _linear(shares, np.abs(1 - f)),
    "CPR on log k": _logarithmic,
    "CMD on log k": lambda shares, f: _logarithmic(shares, np.abs(1 - f)),
}
"""MIB's areas under f and between f and 1, against the share of neurons kept; and the same against its logarithm, from
the smallest circuit on, divided by the length of that axis."""


def tests_table(results: Results) -> pd.DataFrame:
    """The tests of Shi et al. for each method and size, over rightly classified images.

    A path is one image's, so each image is one trial, and binomial tests count them.
    """
    rows: list[Row] = []
    for k in results.sizes("nulls"):
        for name in results.methods("effects", k):
            chunks = sorted(set(results.chunks("nulls", "", k)) & set(results.chunks("effects", name, k)))
            chosen = results.rows(chunks, "right") if chunks else []
            if not len(chosen):
                continue
            labels, n = results.labels(chunks), len(chosen)
            head = {"k": k, "method": name, "n": n}
            removed, kept = (
                log_probability(results.joined("effects", name, k, chunks, edit), labels)[chosen]
                for edit in ("remove", "keep_mean")
            )
            random_removed, random_kept = (
                log_probability(results.joined("nulls", "", k, chunks, edit, axis=1), labels)[:, chosen]
                for edit in ("removed", "kept")
            )
            clean = log_probability(results.clean(chunks), labels)[chosen]
            better = int((kept >= clean).sum())
            rows.append(head | {"test": "equivalence", "share": better / n, "p": binomtest(better, n, 0.5).pvalue})
            for test, beaten in (("sufficiency", random_kept < kept), ("partial necessity", random_removed > removed)):
                won = int((beaten.mean(0) >= _QUANTILE).sum())
                found = binomtest(won, n, 1 - _QUANTILE, alternative="greater")
                rows.append(head | {"test": test, "share": won / n, "p": found.pvalue})
    for name in results.methods("minimality", 1):
        chunks = results.chunks("minimality", name, 1)
        chosen, labels = results.rows(chunks, "right"), results.labels(chunks)
        whole = log_probability(results.joined("effects", name, 1, chunks, "remove"), labels)[chosen]
        needed, extra = (
            np.abs(
                log_probability(results.joined("minimality", name, 1, chunks, kind, axis=1), labels)[:, chosen] - whole
            )
            for kind in ("without", "added")
        )
        # A block's neuron is needed on an image where sparing it moves more than a random one in addition.
        share = (needed > extra).mean(0)
        won = int((share > 0.5).sum())
        rows.append(
            {
                "k": 1,
                "method": name,
                "n": len(chosen),
                "test": "minimality",
                "share": float(share.mean()),
                "p": binomtest(won, len(chosen), 0.5, alternative="greater").pvalue,
            }
        )
    table = pd.DataFrame(rows)
    for _, own in table.groupby("test") if len(table) else []:
        table.loc[own.index, "p"] = holm(own["p"].to_numpy())
    return table


def truth_table(results: Results) -> pd.DataFrame:
    """Spearman's correlation of a scorer's ratings with the exact effect of removing single neurons."""
    chunks = results.chunks("truth", "", TRUTH_SAMPLE)
    rows = []
    for name in RANKINGS:
        if not set(chunks) <= set(results.chunks("rated", name, TRUTH_SAMPLE)):
            continue
        overall: dict[str, list[float]] = {
            "all blocks, any neurons": [],
            "all blocks, strong neurons": [],
            "within a block": [],
        }
        for chunk in chunks:
            truth = results.read(Cell("truth", "", TRUTH_SAMPLE, chunk))
            rated = results.read(Cell("rated", name, TRUTH_SAMPLE, chunk))["rated"].astype(np.float64)
            for image in np.unique(truth["image"]):
                own = truth["image"] == image
                strong = truth["strong"]
                for what, some in (
                    ("all blocks, any neurons", own & ~strong),
                    ("all blocks, strong neurons", own & strong),
                ):
                    overall[what].append(_rank_correlation(rated[some], truth["lost"][some]))
                one, other = (_ranks_within(values[own], truth["block"][own]) for values in (rated, truth["lost"]))
                overall["within a block"].append(float(np.corrcoef(one, other)[0, 1]))
        for what, values in overall.items():
            if values:
                rows.append({"method": name, "what": what} | _bounds(bootstrap_mean(np.nan_to_num(values))))
    return pd.DataFrame(rows)


def _rank_correlation(one: Floats, other: Floats) -> float:
    found: Any = spearmanr(one, other)
    return float(found.statistic)


def _ranks_within(values: Floats, blocks: NDArray[Any]) -> Floats:
    ranks = np.empty(len(values))
    for block in np.unique(blocks):
        own = blocks == block
        ranks[own] = rankdata(values[own]) - (own.sum() + 1) / 2
    return ranks


def stability_table(results: Results) -> pd.DataFrame:
    """Overlap of paths of one neuron a block with those of changed photographs and of other quadratures."""
    rows = []
    for name in results.methods("paths", 1):
        for change in CHANGES:
            chunks = results.chunks("changed", f"{name}.{change}", 1)
            if chunks:
                changed = results.joined("changed", f"{name}.{change}", 1, chunks, "paths")
                overlap = path_overlap(results.paths(name, 1, chunks)[..., 0], changed)
                rows.append({"method": name, "what": change} | _bounds(bootstrap_mean(overlap)))
    for rule in results.store.cells("rules"):
        if results.chunks("paths", PAPER, 1):
            arrays = results.read(rule)
            own = results.paths(PAPER, 1, [rule.chunk])[..., 0]
            overlap = path_overlap(own, arrays["paths"])
            rows.append({"method": PAPER, "what": f"{rule.method}, {rule.k} nodes"} | _bounds(bootstrap_mean(overlap)))
    return pd.DataFrame(rows)


def classes_table(results: Results) -> pd.DataFrame:
    """Overlap of the paths of photographs of one class and of different classes."""
    rows = []
    for k in results.sizes("effects"):
        chunks = results.common("effects", k)
        labels = results.labels(chunks) if chunks else np.array([])
        if len(labels) == len(set(labels.tolist())):
            continue
        for name in results.methods("effects", k):
            paths = make_class_paths(results.paths(name, k, chunks), labels, n_neurons=results.identity["n_neurons"])
            test = overlap_test(paths)
            rows.append(
                {"k": k, "method": name, "within": test.within, "between": test.between}
                | _bounds(test.difference, "difference")
                | {"p": test.p, "n": len(labels)}
            )
    return pd.DataFrame(rows)


def meaning_table(results: Results, distances: str | None) -> pd.DataFrame:
    """Whether classes of like meaning use like neurons: Mantel's test of class similarity against a distance.

    Args:
        results: of the study.
        distances: a file that `neuron-path analyze --distances` takes; None: nothing to compare with.
    """
    rows = []
    for k in results.sizes("effects") if distances is not None else []:
        chunks = results.common("effects", k)
        for name in results.methods("effects", k) if chunks else []:
            if test := meaning_test(results, name, k, chunks, str(distances)):
                n = len(results.labels(chunks))
                rows.append({"k": k, "method": name, "r": test.r, "p": test.p, "classes": test.n_classes, "n": n})
    if rows:
        for row, p in zip(rows, holm([row["p"] for row in rows]), strict=True):
            row["p"] = float(p)
    return pd.DataFrame(rows)


def meaning_test(results: Results, name: str, k: int, chunks: Sequence[int], distances: str) -> Mantel | None:
    """The test of one method's paths; None where few classes or paths without a common neuron leave nothing to test."""
    labels, identity = results.labels(chunks), results.identity
    paths = make_class_paths(results.paths(name, k, chunks), labels, n_neurons=identity["n_neurons"])
    if paths.n_classes < _LEAST_CLASSES:
        return None
    similarity = class_similarity(count_usage(paths))
    if np.ptp(similarity[np.triu_indices(len(similarity), k=1)]) == 0:
        return None
    return mantel(similarity, read_distances(distances, paths.classes.tolist(), identity["classes"]).values)


def reasons_table(results: Results) -> pd.DataFrame:
    """What paths of one neuron a block are made of, at the clean point: activations w and gradients g.

    `expected` is Σ w·g in points of probability, what removal takes away to first order; `joint` the joint score's
    (Σ w)·(Σ g); `harmful` the share of a path's neurons with w·g < 0, without which the probability would rise;
    `crossed` the share of joint that is not expected: products of one block's activation with another's gradient.
    """
    chunks = results.common("reasons", 1)
    rows = []
    chosen = results.rows(chunks, "right") if chunks else []
    for name in results.methods("reasons", 1) if chunks else []:
        own_w, own_wg = (
            results.joined("reasons", name, 1, chunks, kind).astype(np.float64)[chosen, :, 0] for kind in ("w", "wg")
        )
        own_g = np.divide(own_wg, own_w, out=np.zeros_like(own_w), where=own_w != 0)
        expected, joint = own_wg.sum(1), own_w.sum(1) * own_g.sum(1)
        lost = -results.deviation(name, 1, chunks, "remove")[chosen]
        row: Row = {"method": name}
        row |= _bounds(bootstrap_mean((own_wg < 0).mean(1)), "harmful") | _bounds(
            bootstrap_mean(100 * expected), "expected"
        )
        row |= _bounds(bootstrap_mean(100 * joint), "joint") | _bounds(bootstrap_mean((own_w < 0).mean(1)), "negative")
        row["crossed"] = float(1 - expected.mean() / joint.mean())
        row["correlation_expected"], row["correlation_joint"] = (
            _rank_correlation(one, lost) for one in (expected, joint)
        )
        rows.append(row | {"n": len(chosen)})
    return pd.DataFrame(rows)


def cost_table(results: Results) -> pd.DataFrame:
    """Seconds of one CPU core a photograph, by the median over cells."""
    rows = []
    for k in results.sizes("paths"):
        for name in results.methods("paths", k):
            if METHODS[name].is_ranking and k > 1:
                continue
            seconds = [
                results.read(Cell("paths", name, k, chunk))["seconds"][1] / len(results.labels([chunk]))
                for chunk in results.chunks("paths", name, k)
            ]
            size = 0 if METHODS[name].is_ranking else k  # a ranking gives all sizes at once
            rows.append({"method": name, "k": size, "seconds": float(np.median(seconds)), "cells": len(seconds)})
    return pd.DataFrame(rows)


def _view(edit: str) -> str:
    return "flip" if edit == "flipped" else ""


def _bounds(interval: Interval, name: str = "") -> Row:
    if not name:
        return {"mean": interval.mean, "low": interval.low, "high": interval.high, "n": interval.n}
    return {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}
