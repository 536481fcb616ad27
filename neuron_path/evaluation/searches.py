"""What better searches gain over the greedy one, what they cost, and whether a higher score is a stronger effect."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from neuron_path.errors import NeuronPathError
from neuron_path.evaluation.agreement import check_agreement, share_images
from neuron_path.evaluation.columns import Column
from neuron_path.evaluation.discovery import Missing, find_runs
from neuron_path.evaluation.methods import Method, read_methods
from neuron_path.evaluation.paired import paired_test
from neuron_path.evaluation.resampling import resampled_means
from neuron_path.evaluation.statistics import Interval, bootstrap_mean
from neuron_path.store.reader import load_paths

GREEDY: Final = "greedy"
EFFECTS: Final = ("remove", "enhance")
"""The interventions whose change of the target's probability is told."""


@dataclass(frozen=True)
class SearchComparison:
    """Searches beside the greedy one.

    Attributes:
        rows: one per model, scorer, top_k, search, measure and budget, by cost. ``objective`` is the mean of what was
            maximised, ``ratio`` that mean over the greedy search's, ``improved`` the share of images whose path scores
            more, ``moved`` the mean number of blocks with another neuron, ``cost`` and ``cost_max`` the mean and
            largest cost in greedy searches; for each of EFFECTS the mean change of the target's probability in percent,
            its ``_difference`` from greedy's image by image with ``_p`` (sign flips), and ``_correlation``, Spearman's,
            of the gain in score with the growth of the effect, over images. Intervals are ``_low`` and ``_high``; NaN
            stands for what no greedy run was there to tell, or for what is undefined.
        missing: runs that could not be taken.
        notes: what a reader must know.
    """

    rows: pd.DataFrame
    missing: list[Missing]
    notes: list[str]


@dataclass(frozen=True)
class _Searched:
    """A run's method with what its search maximised, image by image."""

    method: Method
    measure: str
    budget: float | None
    objective: NDArray[np.float64]
    greedy_objective: NDArray[np.float64]
    cost: NDArray[np.float64]


def compare_searches(
    run_dirs: Sequence[str | os.PathLike[str]], *, confidence: float = 0.95, n_bootstrap: int = 9999, seed: int = 0
) -> SearchComparison:
    """Compare every search among and below ``run_dirs`` with the greedy search of the same model, scorer and top_k.

    Args:
        run_dirs: run directories or folders above them, such as a sweep's.
        confidence: of the intervals, which redraw images, in (0, 1).
        n_bootstrap: redrawn samples for each.
        seed: of the draws.

    Raises:
        NeuronPathError: no run holds a search that maximised the score, or runs of one model do not agree in what makes
            them comparable.
    """
    found, missing = find_runs(run_dirs)
    greedy: dict[tuple[str, str, int], Method] = {}
    searched: list[_Searched] = []
    for run_dir in found:
        try:
            methods, _ = read_methods(run_dir)
            own = list(_searched(run_dir, methods))
        except NeuronPathError as error:  # torn or foreign: of a sweep, the other runs are not lost by it
            missing.append(Missing(str(run_dir), str(error)))
            continue
        searched += own
        greedy |= {_subject(method): method for method in methods if method.search == GREEDY}
    if not searched:
        raise NeuronPathError(
            f"None of {len(found) + len(missing)} runs holds a search that maximises the score: run one with "
            "search=exchange, for example."
        )
    notes = []
    rows: list[dict[str, Any]] = []
    for subject in dict.fromkeys(_subject(one.method) for one in searched):
        base = greedy.get(subject)
        own = [one for one in searched if _subject(one.method) == subject]
        if base is None:
            notes.append(f"No greedy run of {own[0].method.scorer}: moved blocks and effects are not compared.")
        else:
            rows.append(_greedy_row(base, confidence, n_bootstrap, seed))
        beside = [_row(one, base, confidence, n_bootstrap, seed) for one in own]
        rows += sorted(beside, key=lambda row: row["cost"])
    return SearchComparison(pd.DataFrame(rows), missing, notes)


def ratio_of_means(
    one: NDArray[np.float64], other: NDArray[np.float64], *, confidence: float, n_bootstrap: int, seed: int
) -> Interval:
    """Mean of ``one`` over the mean of ``other``, (n,) each, with the interval over redrawn images.

    NaN where the mean of ``other`` is not positive, also in a redraw: a ratio says nothing there.

    >>> ratio_of_means(np.array([2.0, 4.0]), np.array([1.0, 2.0]), confidence=0.95, n_bootstrap=99, seed=0).mean
    2.0
    """
    nan = float("nan")
    if not other.mean() > 0:
        return Interval(nan, nan, nan, len(one), confidence)
    ratio = float(one.mean() / other.mean())
    above, below = resampled_means(np.stack([one, other]), n_bootstrap, seed)
    if len(one) == 1 or not (below > 0).all():
        return Interval(ratio, nan, nan, len(one), confidence)
    low, high = np.quantile(above / below, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(ratio, float(low), float(high), len(one), confidence)


def _searched(run_dir: Path, methods: Sequence[Method]) -> Iterator[_Searched]:
    """The methods of a run whose search has maximised the score."""
    if all(method.search == GREEDY for method in methods):
        return
    table = load_paths(run_dir)
    for method in methods:
        if method.search == GREEDY:
            continue
        own = (table["scorer"] == method.scorer) & (table["search"] == method.search)
        rows = table.loc[own & (table["top_k"] == method.top_k)].set_index("sample_id").loc[method.images]
        options = (method.provenance.get("config") or {}).get("search") or {}
        yield _Searched(
            method,
            str(options.get("measure", "joint")),
            options.get("budget"),
            *(rows[name].to_numpy(dtype=np.float64) for name in ("objective", "greedy_objective", "search_cost")),
        )


def _subject(method: Method) -> tuple[str, str, int]:
    """What a search and its greedy counterpart have in common."""
    return str(method.provenance.get("weight_hash")), method.scorer, method.top_k


def _greedy_row(method: Method, confidence: float, n_bootstrap: int, seed: int) -> dict[str, Any]:
    """The greedy search itself: cost 1, no gain."""
    row = _name(method) | {"measure": "joint", "budget": float("nan"), "n": len(method.images)}
    scores = method.values.get(Column("joint_score"))
    if scores is not None:
        interval = bootstrap_mean(scores, confidence=confidence, n_resamples=n_bootstrap, seed=seed)
        row |= _bounds("objective", interval)
    row |= {"ratio": 1.0, "improved": 0.0, "moved": 0.0, "cost": 1.0, "cost_max": 1.0}
    for operation, effects in _effects(method):
        row |= _bounds(operation, bootstrap_mean(effects, confidence=confidence, n_resamples=n_bootstrap, seed=seed))
    return row


def _row(one: _Searched, greedy: Method | None, confidence: float, n_bootstrap: int, seed: int) -> dict[str, Any]:
    method = one.method

    def mean(values: NDArray[Any]) -> Interval:
        return bootstrap_mean(values, confidence=confidence, n_resamples=n_bootstrap, seed=seed)

    ratio = ratio_of_means(
        one.objective, one.greedy_objective, confidence=confidence, n_bootstrap=n_bootstrap, seed=seed
    )
    row = _name(method) | {
        "measure": one.measure,
        "budget": float("nan") if one.budget is None else float(one.budget),
        "n": len(method.images),
        **_bounds("objective", mean(one.objective)),
        **_bounds("ratio", ratio),
        **_bounds("improved", mean((one.objective > one.greedy_objective).astype(float))),
        **_bounds("cost", mean(one.cost)),
        "cost_max": float(one.cost.max()),
    }
    for operation, effects in _effects(method):
        row |= _bounds(operation, mean(effects))
    return row if greedy is None else row | _beside(one, greedy, confidence, n_bootstrap, seed)


def _beside(one: _Searched, greedy: Method, confidence: float, n_bootstrap: int, seed: int) -> dict[str, Any]:
    """How far paths move from greedy's, and their effects."""
    model = str(greedy.provenance.get("model"))
    check_agreement(model, [greedy, one.method])
    (base, method), _ = share_images(model, [greedy, one.method])
    row: dict[str, Any] = {}
    if base.paths is not None and method.paths is not None:
        pairs = (np.sort(paths.reshape(*paths.shape[:2], -1), axis=2) for paths in (base.paths, method.paths))
        moved = np.not_equal(*pairs).any(axis=2).sum(axis=1)
        row |= _bounds("moved", bootstrap_mean(moved, confidence=confidence, n_resamples=n_bootstrap, seed=seed))
    gain = (one.objective - one.greedy_objective)[np.isin(one.method.images, method.images)]
    before = dict(_effects(base))
    for operation, effects in _effects(method):
        if operation not in before:
            continue
        test = paired_test(effects, before[operation], confidence=confidence, n_bootstrap=n_bootstrap, seed=seed)
        row |= _bounds(f"{operation}_difference", test.difference) | {f"{operation}_p": test.p}
        sign = 1 if Column("probability_deviation", operation, "scope").larger_is_better else -1
        row[f"{operation}_correlation"] = rank_correlation(gain, sign * (effects - before[operation]))
    return row


def rank_correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Spearman's correlation of (n,) with (n,); NaN where one of them does not vary.

    >>> round(rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([1.0, 4.0, 9.0])), 9)
    1.0
    """
    if len(one) < 2 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return float("nan")
    found: Any = stats.spearmanr(one, other)
    return float(found.statistic)


def _effects(method: Method) -> Iterator[tuple[str, NDArray[np.float64]]]:
    for operation in EFFECTS:
        found = method.values.get(Column("probability_deviation", operation, "scope"))
        if found is not None:
            yield operation, found


def _name(method: Method) -> dict[str, Any]:
    return {
        "model": method.provenance.get("model"),
        "scorer": method.scorer,
        "top_k": method.top_k,
        "search": method.search,
    }


def _bounds(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}
