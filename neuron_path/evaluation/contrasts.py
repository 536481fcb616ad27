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
from itertools import combinations, islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from neuron_path.evaluation.columns import Column
from neuron_path.evaluation.methods import UNLABELLED, Method
from neuron_path.stats.intervals import Interval, bootstrap_tables
from neuron_path.stats.paired import PairedTest, holm, paired_tests
from neuron_path.stats.resampling import alike

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
    columns = [Values(column, present, _finite(rows)) for column, present, rows in _columns(methods)]
    columns = [values for values in columns if values.rows.size]
    for values, (intervals, tested) in zip(columns, _test_columns(columns, settings), strict=True):
        best = {id(method) for method in _best(values.column, values.methods, intervals, tested, settings)}
        for method, interval in zip(values.methods, intervals, strict=True):
            head = _name(method) | _head(values.column) | _means(interval)
            cells.append(head | _against_roles(method, methods, tested, settings) | {"best": id(method) in best})
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
    order = np.argsort(classes, kind="stable")
    present, begins = np.unique(classes[order], return_index=True)
    columns = [(_head(column), [*map(_name, own)], rows[:, order]) for column, own, rows in _columns(methods)]
    heads: list[Records] = []
    tables: list[NDArray[np.float64]] = []
    for index, begin, end in zip(present.tolist(), begins, [*begins[1:], len(order)], strict=True):
        group = {"class_kind": kind, "class": index, "class_name": names[index] if index < len(names) else str(index)}
        for head, own, rows in columns:
            if (known := _finite(rows[:, begin:end])).size:
                heads.append([name | group | head for name in own])
                tables.append(known)
    intervals = bootstrap_tables(
        tables, confidence=settings.confidence, n_resamples=settings.n_bootstrap, seed=settings.seed
    )
    return [
        head | _means(interval)
        for group, found in zip(heads, intervals, strict=True)
        for head, interval in zip(group, found, strict=True)
    ]


class Values(NamedTuple):
    """A column with the methods that have it: ``rows`` (K, n), theirs image by image."""

    column: Column
    methods: list[Method]
    rows: NDArray[np.float64]

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Which rows are tested against each other."""
        sizes = [method.top_k for method in self.methods]
        return [(i, j) for i, j in combinations(range(len(sizes)), 2) if sizes[i] == sizes[j]]


def _columns(methods: Sequence[Method]) -> Iterator[Values]:
    for column in sorted({column for method in methods for column in method.values}, key=lambda column: column.place):
        present = [method for method in methods if column in method.values]
        yield Values(column, present, np.stack([method.values[column] for method in present]))


def _finite(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """The images that all methods have a value for."""
    return rows[:, np.isfinite(rows).all(axis=0)]


Tested = list[tuple[Method, Method, dict[str, Any]]]


def _test_columns(columns: Sequence[Values], settings: Settings) -> list[tuple[list[Interval], Tested]]:
    """The intervals of each column's methods, and the tests of its pairs."""
    planned = [np.array([_is_planned(own, i, j, settings) for i, j in own.pairs], dtype=bool) for own in columns]
    draws = [max(settings.n_permutations, DRAWS_PER_TEST * int(chosen.sum())) for chosen in planned]
    found: list[tuple[list[Interval], Tested]] = [([], [])] * len(columns)
    for same in alike((own.rows.shape[1], drawn) for own, drawn in zip(columns, draws, strict=True)):
        begins = [0, *np.cumsum([len(columns[index].rows) for index in same]).tolist()]
        averaged, outcomes = paired_tests(
            np.concatenate([columns[index].rows for index in same]),
            [
                (i + begin, j + begin)
                for index, begin in zip(same, begins, strict=False)
                for i, j in columns[index].pairs
            ],
            confidence=settings.confidence,
            n_bootstrap=settings.n_bootstrap,
            n_permutations=draws[same[0]],
            seed=settings.seed,
        )
        intervals, tests = iter(averaged), iter(outcomes)
        for index in same:
            own = columns[index]
            tested = _correct(own, planned[index], list(islice(tests, len(own.pairs))))
            found[index] = list(islice(intervals, len(own.rows))), tested
    return found


def _correct(own: Values, planned: NDArray[np.bool_], outcomes: Sequence[PairedTest]) -> Tested:
    p_values = np.array([outcome.p for outcome in outcomes])
    corrected = np.full(len(outcomes), np.nan)
    corrected[planned] = holm(p_values[planned])
    of_all = holm(p_values)
    return [
        (own.methods[i], own.methods[j], _test(own.column, own.methods[i], own.methods[j], outcome, *corrections))
        for (i, j), outcome, *corrections in zip(own.pairs, outcomes, corrected.tolist(), of_all.tolist(), strict=True)
    ]


def _is_planned(own: Values, i: int, j: int, settings: Settings) -> bool:
    one, other = own.methods[i], own.methods[j]
    roles = [find_role(own.methods, scorer, one.top_k) for scorer in (settings.reference, *settings.nulls)]
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
