"""The numbers of a comparison for one model: means with intervals, paired tests, and which method is best.

Two families of tests are corrected (Holm), each within one model and one column of the table, over all its top_k:

- *planned*: each method against the reference, and each against every null. What the sentences claim rests on these.
- *all pairs*: each method against each other of the same top_k. A best method is told by these, because which one is
  best was not known before.

Every pair is tested once; the two corrections start from the same p-value. A drawn p-value is never below 1 / (draws
+ 1), and its correction multiplies it by up to the size of the family; so large families get more draws.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuron_path.evaluation.columns import Column
from neuron_path.evaluation.methods import UNLABELLED, Method
from neuron_path.stats.intervals import Interval, bootstrap_means
from neuron_path.stats.paired import PairedTest, holm, paired_tests

Records = list[dict[str, Any]]

DRAWS_PER_TEST = 400
"""Random choices of signs for each planned test of a column: the smallest corrected p-value is 1 / 400 at most."""


@dataclass(frozen=True)
class Settings:
    """How methods are compared.

    Attributes:
        reference: the scorer that others are tested against.
        nulls: the scorers that make paths by chance.
        confidence: of every interval, in (0, 1).
        n_bootstrap: redrawn samples for each.
        n_permutations: random choices of signs of each test, or more for large families.
        alpha: the corrected p-value below which a best method is marked.
        seed: of all draws.
    """

    reference: str = "joint_attribution"
    nulls: tuple[str, ...] = ("random", "activation_matched_random")
    confidence: float = 0.95
    n_bootstrap: int = 9999
    n_permutations: int = 19_999
    alpha: float = 0.05
    seed: int = 0


def order_methods(methods: Sequence[Method], settings: Settings) -> list[Method]:
    """Sort the methods of a model as rows of a table: by top_k; the reference first, then by name, the nulls last."""

    def place(method: Method) -> tuple[object, ...]:
        null = settings.nulls.index(method.scorer) if method.scorer in settings.nulls else -1
        return method.top_k, method.scorer != settings.reference, null, method.scorer, method.search

    return sorted(methods, key=place)


def find_role(methods: Sequence[Method], scorer: str, top_k: int) -> Method | None:
    """Return the method that stands for a scorer: its greedy search where there is one, else its first by name."""
    own = [method for method in methods if method.scorer == scorer and method.top_k == top_k]
    return min(own, key=lambda method: (method.search != "greedy", method.search), default=None)


def contrast(methods: Sequence[Method], settings: Settings) -> tuple[Records, Records]:
    """Average and test every column of one model.

    Args:
        methods: of one model, on the same images, in the order of the table.
        settings: how they are compared.

    Returns:
        The cells, one for each method and column that it has; and the tests, one for each column and pair of methods
        of the same top_k. Without the model's name.
    """
    cells: Records = []
    tests: Records = []
    for column, present, rows in _columns(methods):
        intervals = bootstrap_means(
            rows, confidence=settings.confidence, n_resamples=settings.n_bootstrap, seed=settings.seed
        )
        tested = _test_pairs(column, present, rows, settings)
        best = {id(method) for method in _best(column, present, intervals, tested, settings)}
        for method, interval in zip(present, intervals, strict=True):
            against = _against_roles(method, methods, tested, settings)
            cells.append(_name(method) | _head(column) | _means(interval) | against | {"best": id(method) in best})
        tests += [record for _, _, record in tested]
    return cells, tests


def contrast_classes(methods: Sequence[Method], settings: Settings) -> Records:
    """Average every column of one model class by class.

    A class is the label where every image has one, else the target.

    Returns:
        A record for each class, method and column; ``class_kind`` is ``label`` or ``target``. Without the model's name.
    """
    first = methods[0]
    kind = "label" if (first.labels != UNLABELLED).all() else "target"
    classes = first.labels if kind == "label" else first.targets
    names = first.provenance.get("classes") or []
    records: Records = []
    for index in np.unique(classes).tolist():
        group = {"class_kind": kind, "class": index, "class_name": names[index] if index < len(names) else str(index)}
        images = first.images[classes == index]
        members = [method.at(images) for method in methods]
        for column, present, rows in _columns(members):
            intervals = bootstrap_means(
                rows, confidence=settings.confidence, n_resamples=settings.n_bootstrap, seed=settings.seed
            )
            for method, interval in zip(present, intervals, strict=True):
                records.append(_name(method) | group | _head(column) | _means(interval))
    return records


def _columns(methods: Sequence[Method]) -> Iterator[tuple[Column, list[Method], NDArray[np.float64]]]:
    """Each column with the methods that have it and their values for the images that all of these have."""
    for column in sorted({column for method in methods for column in method.values}, key=lambda column: column.place):
        present = [method for method in methods if column in method.values]
        rows = np.stack([method.values[column] for method in present])
        rows = rows[:, np.isfinite(rows).all(axis=0)]
        if rows.size:
            yield column, present, rows


Tested = list[tuple[Method, Method, dict[str, Any]]]


def _test_pairs(column: Column, methods: Sequence[Method], rows: NDArray[np.float64], settings: Settings) -> Tested:
    pairs = [(i, j) for i, j in combinations(range(len(methods)), 2) if methods[i].top_k == methods[j].top_k]
    if not pairs:
        return []
    planned = np.array([_is_planned(methods[i], methods[j], methods, settings) for i, j in pairs])
    outcomes = paired_tests(
        np.stack([rows[i] - rows[j] for i, j in pairs]),
        confidence=settings.confidence,
        n_bootstrap=settings.n_bootstrap,
        n_permutations=max(settings.n_permutations, DRAWS_PER_TEST * int(planned.sum())),
        seed=settings.seed,
    )
    p_values = np.array([outcome.p for outcome in outcomes])
    corrected = np.full(len(pairs), np.nan)
    corrected[planned] = holm(p_values[planned])
    of_all = holm(p_values)
    return [
        (methods[i], methods[j], _test(column, methods[i], methods[j], outcome, float(p), float(p_all)))
        for (i, j), outcome, p, p_all in zip(pairs, outcomes, corrected, of_all, strict=True)
    ]


def _is_planned(one: Method, other: Method, methods: Sequence[Method], settings: Settings) -> bool:
    roles = [find_role(methods, scorer, one.top_k) for scorer in (settings.reference, *settings.nulls)]
    return any(role is one or role is other for role in roles)


def _best(
    column: Column, methods: Sequence[Method], intervals: Sequence[Interval], tested: Tested, settings: Settings
) -> Iterator[Method]:
    """The best method of each top_k, where it differs from every other one."""
    sign = 1 if column.larger_is_better else -1
    for top_k in dict.fromkeys(method.top_k for method in methods):
        means = [
            (sign * interval.mean, index)
            for index, (method, interval) in enumerate(zip(methods, intervals, strict=True))
            if method.top_k == top_k
        ]
        first = methods[max(means)[1]]
        p_values = [test["p_all_pairs"] for one, other, test in tested if first is one or first is other]
        if p_values and max(p_values) < settings.alpha:
            yield first


def _against_roles(method: Method, methods: Sequence[Method], tested: Tested, settings: Settings) -> dict[str, float]:
    nan = float("nan")
    found = {"difference": nan, "difference_low": nan, "difference_high": nan, "p_reference": nan}
    found |= {f"p_{null}": nan for null in settings.nulls}
    for one, other, test in tested:
        if method is not one and method is not other:
            continue
        against = other if method is one else one
        if against is find_role(methods, settings.reference, method.top_k):
            low, high = test["low"], test["high"]
            found["difference"] = test["difference"] if method is one else -test["difference"]
            found["difference_low"], found["difference_high"] = (low, high) if method is one else (-high, -low)
            found["p_reference"] = test["p_planned"]
        for null in settings.nulls:
            if against is find_role(methods, null, method.top_k):
                found[f"p_{null}"] = test["p_planned"]
    return found


def _name(method: Method) -> dict[str, Any]:
    return {
        "scorer": method.scorer,
        "search": method.search,
        "top_k": method.top_k,
        "token_scope": method.token_scope,
    }


def _head(column: Column) -> dict[str, str]:
    return {
        "operation": column.operation,
        "tokens": column.tokens,
        "measure": column.measure,
        "unit": column.unit,
        "better": "larger" if column.larger_is_better else "smaller",
    }


def _means(interval: Interval) -> dict[str, float | int]:
    return {"mean": interval.mean, "low": interval.low, "high": interval.high, "n": interval.n}


def _test(
    column: Column, one: Method, other: Method, outcome: PairedTest, p_planned: float, p_all_pairs: float
) -> dict[str, Any]:
    second = {"other_scorer": other.scorer, "other_search": other.search}
    difference = outcome.difference
    numbers = {"difference": difference.mean, "low": difference.low, "high": difference.high, "n": difference.n}
    p_values = {"p": outcome.p, "p_planned": p_planned, "p_all_pairs": p_all_pairs}
    return _name(one) | second | _head(column) | numbers | p_values
