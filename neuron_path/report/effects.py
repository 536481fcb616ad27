"""The table of effects, read once for figures and page: records with intervals, and how these are put into words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd

from neuron_path.errors import NeuronPathError
from neuron_path.evaluation.quantity import QUANTITIES, Quantity

_KEYS: Final = ["scorer", "search", "operation"]
_NEEDED: Final = [
    *_KEYS,
    "n",
    "probability_deviation",
    "probability_deviation_low",
    "probability_deviation_high",
]


@dataclass(frozen=True)
class Interval:
    """A mean with the limits of its 95 % interval; NaN where something is not known."""

    mean: float
    low: float
    high: float

    @property
    def known(self) -> bool:
        """Whether there are limits."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    @property
    def shows_effect(self) -> bool:
        """Whether the interval is known and lies on one side of 0.

        >>> [Interval(*numbers).shows_effect for numbers in ((-3, -4, -2), (1, 0, 2), (1, math.nan, math.nan))]
        [True, False, False]
        """
        return self.known and (self.low > 0 or self.high < 0)

    def in_words(self, unit: str = "", least: int = 1) -> str:
        """Write the mean with its limits, in as few decimals (at least so many) as show on which side of 0 each lies.

        >>> Interval(-3.14, -3.92, -2.41).in_words(" %")
        '−3.1 % [−3.9, −2.4]'
        >>> Interval(0.004, 0.001, 0.007).in_words(" %")
        '+0.004 % [+0.001, +0.007]'
        >>> Interval(0.5, math.nan, math.nan).in_words()
        '+0.5 (no interval)'
        """
        if not math.isfinite(self.mean):
            return "not known"
        shown = [number for number in (self.mean, self.low, self.high) if math.isfinite(number) and number != 0]
        decimals = next((d for d in range(least, 6) if all(abs(n) >= 0.5 * 10**-d for n in shown)), least)
        mean, low, high = (signed(number, decimals) for number in (self.mean, self.low, self.high))
        return f"{mean}{unit} [{low}, {high}]" if self.known else f"{mean}{unit} (no interval)"


@dataclass(frozen=True)
class Effect:
    """What one operation on one method's paths did.

    Attributes:
        scorer: the method's scorer, as stored.
        method: the method's name for readers.
        operation: the intervention, as stored.
        n: images.
        change: mean change of what the run attributed: of a probability in percent of the clean one, else in its unit.
        of: what changes, one of `neuron_path.evaluation.quantity.QUANTITIES`.
        accuracy: change of the top-1 accuracy, percentage points; NaN without labels.
        clean: mean of what changes before, NaN where not known; a probability is a fraction.
        edited: the same after.
    """

    scorer: str
    method: str
    operation: str
    n: int
    change: Interval
    of: str
    accuracy: Interval
    clean: float
    edited: float

    @property
    def quantity(self) -> Quantity:
        """What changes."""
        return QUANTITIES[self.of]

    def in_words(self, *, with_unit: bool = True) -> str:
        """The change with its limits, of a probability in percent; the unit of others stands beside their names.

        >>> change = Interval(-0.104, -0.112, -0.095)
        >>> Effect("activation", "activation", "remove", 9, change, "logit", change, 1.0, 1.0).in_words()
        '−0.104 [−0.112, −0.095]'
        """
        if not self.quantity.is_probability:
            return self.change.in_words(least=3)
        return self.change.in_words(" %" if with_unit else "")


def read_effects(summary: pd.DataFrame, quantity: str = "probability") -> list[Effect]:
    """Read a table of effects, one row per method (scorer and search) and operation, in the table's order.

    A method is named by its scorer, and by its search too where the table holds more than one.

    Args:
        summary: columns `scorer`, `search`, `operation`, `n`, `probability_deviation` and its `_low` and `_high`
            (fractions of the clean probability); optional: `accuracy_deviation` and its `_low` and `_high` (percentage
            points), `clean_probability`, `edited_probability` (fractions), and of what is no probability
            `value_difference` and its `_low` and `_high`, `clean_value` and `edited_value`; of a logit
            `logit_difference` does as well.
        quantity: what the effects are changes of: the run's target function, or `similarity`. Where the table does not
            have it, as an earlier version's, they are changes of the probability.

    Raises:
        NeuronPathError: a column is missing, or a method and operation is there twice.
    """
    missing = [name for name in _NEEDED if name not in summary.columns]
    if missing:
        plural = "s" if len(missing) > 1 else ""
        raise NeuronPathError(f"The table of effects lacks the column{plural} {', '.join(missing)}.")
    records: list[dict[str, Any]] = summary.rename(columns=str).to_dict("records")  # type: ignore[assignment]
    seen = set()
    for record in records:
        key = tuple(str(record[name]) for name in _KEYS)
        if key in seen:
            raise NeuronPathError(f"The table of effects has more than one row for {', '.join(key)}.")
        seen.add(key)
    several = len({record["search"] for record in records}) > 1
    wanted = QUANTITIES[quantity]
    change = wanted.measure if wanted.is_probability else wanted.column(summary.columns, end="_difference")
    of, change = ("probability", "probability_deviation") if change is None else (quantity, change)
    return [_effect(record, of, change, with_search=several) for record in records]


def _effect(record: Mapping[str, Any], of: str, change: str, *, with_search: bool) -> Effect:
    scorer, search = str(record["scorer"]), str(record["search"])
    clean, edited = (QUANTITIES[of].column(record, f"{when}_") for when in ("clean", "edited"))
    return Effect(
        scorer=scorer,
        method=(f"{scorer} ({search})" if with_search else scorer).replace("_", " "),
        operation=str(record["operation"]),
        n=int(record["n"]),
        change=_interval(record, change, 100.0 if QUANTITIES[of].is_probability else 1.0),
        of=of,
        accuracy=_interval(record, "accuracy_deviation", 1),
        clean=_number(record.get(clean or "")),
        edited=_number(record.get(edited or "")),
    )


def _interval(record: Mapping[str, Any], column: str, factor: float) -> Interval:
    mean, low, high = (factor * _number(record.get(f"{column}{end}")) for end in ("", "_low", "_high"))
    return Interval(mean, low, high)


def _number(value: Any) -> float:
    return math.nan if value is None or value is pd.NA else float(value)


def signed(value: float, decimals: int) -> str:
    """Write a number with its sign, a true minus, and no sign on zero.

    >>> signed(-3.14, 1), signed(0.26, 1), signed(-0.01, 1)
    ('−3.1', '+0.3', '0.0')
    """
    text = f"{value:+.{decimals}f}".replace("-", "−")
    return text if text.strip("+−0.") else text[1:]
