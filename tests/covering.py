"""Which cases of a test run by default, where all of them are too many: as few as meet every value once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from itertools import combinations

import pytest


def covering(cases: Sequence[Sequence[Hashable]]) -> set[int]:
    """Some cases' indices: every value of every parameter is in one of them, and with ever other values beside it.

    >>> sorted(covering([("a", 1), ("a", 2), ("b", 1), ("b", 2)]))
    [0, 3]
    """
    values = [[*enumerate(case)] for case in cases]
    used = [[*case, *combinations(case, 2)] for case in values]
    unmet, met = {value for case in values for value in case}, Counter[object]()
    chosen: set[int] = set()
    while unmet:
        new = [len(unmet.intersection(case)) for case in values]
        best = max(
            (index for index, count in enumerate(new) if count),
            key=lambda index: (new[index], -sum(met[use] for use in used[index])),
        )
        chosen.add(best)
        unmet.difference_update(values[best])
        met.update(used[best])
    return chosen


def leave_the_rest_to_stress(items: Sequence[pytest.Item]) -> None:
    """Marks as slow what the marker `covering` leaves out."""
    tests: dict[str, list[pytest.Function]] = {}
    for item in items:
        if not isinstance(item, pytest.Function) or not hasattr(item, "callspec"):
            continue
        if item.get_closest_marker("covering") and not item.get_closest_marker("slow"):
            tests.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for cases in tests.values():
        kept = covering([_values(case) for case in cases])
        for index, case in enumerate(cases):
            if index not in kept:
                case.add_marker(pytest.mark.slow)


def _values(case: pytest.Function) -> list[tuple[str, int, str]]:
    """Its parameters' values by name; a fixture's tuple counts as several."""
    given = sorted(case.callspec.params.items())
    return [
        (name, place, repr(part))
        for name, value in given
        for place, part in enumerate(value if isinstance(value, tuple) else (value,))
    ]
