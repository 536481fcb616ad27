"""What a run has attributed, and in which unit the effects on it are told: a change of a logit is no percentage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd


@dataclass(frozen=True, slots=True)
class Quantity:
    """What of an image an edit changes, for readers.

    Attributes:
        name: what changes.
        unit: of its changes.
        measure: the change as a column of a comparison.
        source: the columns of a table of effects that hold it before and after the edit, without ``clean_`` and
            ``edited_``, the first that is there.
    """

    name: str
    unit: str
    measure: str
    source: tuple[str, ...]

    @property
    def is_probability(self) -> bool:
        """Whether changes are told relative to the clean value, in percent."""
        return self.measure == "probability_deviation"

    @property
    def words(self) -> str:
        """The name, with the unit where the numbers themselves do not tell it.

        >>> [QUANTITIES[name].words for name in ("probability", "logit", "margin")]
        ['probability', 'logit', 'margin (logits)']
        """
        return self.name if self.is_probability or self.unit.startswith(self.name) else f"{self.name} ({self.unit})"

    def column(self, names: Iterable[str], start: str = "", end: str = "") -> str | None:
        """The first of its sources that a table has, between ``start`` and ``end``; None where it has none."""
        held = set(names)
        return next((name for source in self.source if (name := f"{start}{source}{end}") in held), None)


QUANTITIES: Final = {
    "probability": Quantity("probability", "percent", "probability_deviation", ("probability",)),
    "sigmoid": Quantity("sigmoid probability", "percent", "probability_deviation", ("probability",)),
    "logit": Quantity("logit", "logits", "logit_difference", ("value", "logit")),
    "margin": Quantity("margin", "logits", "margin_difference", ("value",)),
    "contrast": Quantity("contrast", "logits", "contrast_difference", ("value",)),
    "similarity": Quantity("similarity", "cosine", "similarity_difference", ("value", "logit")),
}
"""By target function; a logit that is a cosine is a similarity."""


def quantity_of(provenance: Mapping[str, Any], effects: pd.DataFrame | None = None) -> str:
    """What the effects of a run are told as changes of, one of :data:`QUANTITIES`.

    Args:
        provenance: what made it.
        effects: its table of effects; one that an earlier version wrote may lack the target function's own values, and
            has the probability alone.
    """
    target, head = str(provenance.get("target") or "probability"), provenance.get("head") or {}
    if target == "logit" and head.get("name") == "similarity" and head.get("scale") == 1:
        target = "similarity"
    found = QUANTITIES.get(target)
    has_it = found is not None and (effects is None or found.column(effects.columns, "clean_") is not None)
    return target if has_it else "probability"
