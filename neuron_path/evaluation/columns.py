"""The columns of a comparison: what is measured, in which unit, and which direction is better.

A path is good when editing it matters and keeping it suffices. So of an edit that harms (remove, the ablations) the
larger fall of the prediction is better; of ``enhance`` the larger rise; of ``keep_only`` the smaller fall.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from neuron_path.evaluation.quantity import QUANTITIES

UNITS: Final = {
    "joint_score": "units of the target function",
    "complete_score": "units of the target function",
    "probability_deviation": "percent",
    "accuracy_deviation": "percentage points",
    "logit_difference": "logits",
    **{one.measure: one.unit for one in QUANTITIES.values() if one.measure.endswith("_difference")},
    "kl_divergence": "nats",
    "necessity_area": "1",
    "sufficiency_area": "1",
}
"""Every measure in the order of the table, with its unit."""

OPERATIONS: Final = ("remove", "enhance", "mean_ablation", "resample_ablation", "keep_only")
"""Interventions in the order of the table; others follow by name."""

CURVES: Final = {"remove": "necessity_area", "keep_only": "sufficiency_area"}
"""The operations whose growing sizes make a curve, with the measure of its area."""

_RAISE: Final = ("enhance", "keep_only")


@dataclass(frozen=True, slots=True)
class Column:
    """One column: a measure of the path itself, or of what an operation on it does.

    Attributes:
        measure: one of :data:`UNITS`.
        operation: the intervention; empty for the scores of a path.
        tokens: where it edited, ``scope`` or ``all``; empty for the scores.
    """

    measure: str
    operation: str = ""
    tokens: str = ""

    @property
    def unit(self) -> str:
        """The unit of its numbers.

        >>> Column("probability_deviation", "remove", "scope").unit
        'percent'
        """
        return UNITS[self.measure]

    @property
    def larger_is_better(self) -> bool:
        """Which of two methods has the better path.

        >>> [Column("probability_deviation", name, "scope").larger_is_better for name in ("remove", "keep_only")]
        [False, True]
        >>> [Column("kl_divergence", name, "scope").larger_is_better for name in ("remove", "keep_only")]
        [True, False]
        >>> [Column(name).larger_is_better for name in ("joint_score", "necessity_area", "sufficiency_area")]
        [True, False, True]
        """
        if self.measure in ("joint_score", "complete_score", "sufficiency_area"):
            return True
        if self.measure == "necessity_area":
            return False
        if self.measure == "kl_divergence":
            return self.operation != "keep_only"
        return self.operation in _RAISE

    @property
    def place(self) -> tuple[object, ...]:
        """What columns are sorted by: scores, then operation by operation, then areas.

        >>> Column("joint_score").place < Column("kl_divergence", "remove").place < Column("necessity_area").place
        True
        """
        section = 0 if self.measure.endswith("_score") else 2 if self.measure.endswith("_area") else 1
        order = OPERATIONS.index(self.operation) if self.operation in OPERATIONS else len(OPERATIONS)
        return section, order, self.operation, self.tokens != "scope", self.tokens, list(UNITS).index(self.measure)
