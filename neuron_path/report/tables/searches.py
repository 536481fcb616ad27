"""Searches beside the greedy one as a table for readers."""

from __future__ import annotations

import math
from typing import Any, Final

import pandas as pd

from neuron_path.evaluation.searches import EFFECTS, SearchComparison
from neuron_path.report.tables.cells import ABSENT, mean_cell, method_name, p_phrase, to_records

LEGEND: Final = (
    "Score: mean final score over greedy's by the same scorer; improved: images whose path scores more; moved: blocks "
    "with another neuron; cost: greedy searches an image, in brackets the most that one took. Change of the target's "
    "probability when the path is removed or enhanced, and the difference from greedy's paths image by image. "
    "Correlation: Spearman's, of the gain in score with the growth of the effect of removal, over images. Intervals "
    "are 95 % bootstrap intervals over images; p by sign flips, as it is."
)


def search_table(comparison: SearchComparison) -> pd.DataFrame:
    """Text cells, a row for each search; columns that would be the same in all rows are left out."""
    records = to_records(comparison.rows)
    table = pd.DataFrame([_labels(record) | _numbers(record) for record in records], dtype=object)
    same = [name for name in ("model", "k", "measure") if len(set(table[name])) == 1]
    return table.drop(columns=same)


def search_label(record: dict[str, Any]) -> str:
    """A search with its budget.

    >>> search_label({"search": "beam_exchange", "budget": 3.0}), search_label({"search": "beam", "budget": math.nan})
    ('beam exchange, budget 3', 'beam')
    """
    budget = record["budget"]
    return method_name(record["search"]) + ("" if math.isnan(budget) else f", budget {budget:g}")


def _labels(record: dict[str, Any]) -> dict[str, str]:
    return {
        "model": str(record["model"]),
        "scorer": method_name(record["scorer"]),
        "k": str(record["top_k"]),
        "measure": record["measure"],
        "search": search_label(record),
    }


def _numbers(record: dict[str, Any]) -> dict[str, str]:
    if record["search"] == "greedy":
        cells = {"score / greedy": "1", "improved, %": ABSENT, "moved": ABSENT, "cost": "1"}
    else:
        cells = {
            "score / greedy": _cell(record, "ratio", decimals=3),
            "improved, %": _cell(record, "improved", scale=100, decimals=1),
            "moved": _cell(record, "moved", decimals=1),
            "cost": f"{record['cost']:.1f} ({record['cost_max']:.1f})",
        }
    for operation in EFFECTS:
        cells[f"{operation}, %"] = _cell(record, operation, decimals=2, sign=True)
        difference = _cell(record, f"{operation}_difference", decimals=2, sign=True)
        known = difference != ABSENT
        cells[f"{operation}: difference, points"] = (
            f"{difference}, {p_phrase(record[f'{operation}_p'])}" if known else ABSENT
        )
    correlation = record.get("remove_correlation", math.nan)
    cells["correlation"] = ABSENT if math.isnan(correlation) else f"{correlation:+.2f}".replace("-", "−")
    return cells


def _cell(record: dict[str, Any], name: str, *, decimals: int, scale: float = 1, sign: bool = False) -> str:
    mean, low, high = (scale * record.get(key, math.nan) for key in (name, f"{name}_low", f"{name}_high"))
    return mean_cell(mean, low, high, sign=sign, decimals=decimals)
