"""Numbers of a comparison as text, in as many decimals as their interval deserves."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from neuron_path.report.effects import signed

ABSENT = "–"
_MOST = 6


def mean_cell(mean: float, low: float, high: float, *, sign: bool = True, decimals: int | None = None) -> str:
    """Write a mean with its interval.

    Args:
        mean: the mean.
        low: the interval's lower bound, NaN where it is unknown.
        high: the upper one.
        sign: whether a positive number has a plus.
        decimals: how many; None suits them to this interval. Where it lies on one side of 0, a number that would be
            written as 0 has as many as show its first digit.

    >>> mean_cell(-1.8234, -2.3123, -1.4456)
    '−1.8 [−2.3, −1.4]'
    >>> mean_cell(0.5231, 0.5114, 0.5342, sign=False)
    '0.52 [0.51, 0.53]'
    >>> mean_cell(3.0, 0.02, 6.1)
    '+3.0 [+0.02, +6.1]'
    >>> mean_cell(0.25, math.nan, math.nan), mean_cell(math.nan, math.nan, math.nan)
    ('+0.25 (no interval)', '–')
    """
    if not math.isfinite(mean):
        return ABSENT
    decimals = decimals_of(mean, low, high) if decimals is None else decimals
    aside = low > 0 or high < 0
    shown, *bounds = (_number(number, decimals, sign, aside) for number in (mean, low, high))
    return f"{shown} [{', '.join(bounds)}]" if math.isfinite(low) and math.isfinite(high) else f"{shown} (no interval)"


def decimals_of(mean: float, low: float, high: float) -> int:
    """Return how many decimals suit an interval: those that show one digit of its half-width, and for numbers below 100
    one at least.

    >>> decimals_of(-1.8, -2.3, -1.4), decimals_of(0.5231, 0.5114, 0.5342), decimals_of(310.0, 290.0, 330.0)
    (1, 2, 0)
    """
    half = (high - low) / 2
    least = 1 if abs(mean) < 100 else 0
    wanted = 1 - _magnitude(mean) if not math.isfinite(half) else -_magnitude(half) if half else least
    return min(max(wanted, least), _MOST)


def p_cell(p: float) -> str:
    """Write a p-value.

    >>> [p_cell(p) for p in (0.00004, 0.0324, 0.9, 1.0, math.nan)]
    ['< 0.001', '0.0324', '0.9', '1', '–']
    """
    if not math.isfinite(p):
        return ABSENT
    return "< 0.001" if p < 0.001 else f"{p:.3g}"


def p_phrase(p: float) -> str:
    """Write a p-value with its name.

    >>> p_phrase(0.00004), p_phrase(0.0324)
    ('p < 0.001', 'p = 0.0324')
    """
    text = p_cell(p)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def to_records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a table's rows as plain mappings.

    >>> to_records(pd.DataFrame({"n": [3]}))
    [{'n': 3}]
    """
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def method_name(scorer: str, search: str = "") -> str:
    """Write a method for readers, with its search where one is given.

    >>> method_name("joint_attribution"), method_name("random", "beam")
    ('joint attribution', 'random (beam)')
    """
    return (f"{scorer} ({search})" if search else scorer).replace("_", " ")


def _magnitude(value: float) -> int:
    return math.floor(math.log10(abs(value))) if value else 0


def _number(value: float, decimals: int, sign: bool, aside: bool) -> str:
    if aside and 0 < abs(value) < 0.5 * 10**-decimals:
        decimals = -_magnitude(value)
    text = signed(value, decimals) if decimals <= _MOST else f"{value:+.0e}".replace("-", "−")
    return text if sign else text.removeprefix("+")
