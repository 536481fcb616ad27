"""What a comparison shows of the reference method, in plain words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from neuron_path.evaluation.comparison import Comparison
from neuron_path.evaluation.quantity import QUANTITIES, Quantity
from neuron_path.report.cells import mean_cell, method_name, p_phrase, to_records
from neuron_path.report.markdown import listed

CLAIM: Final = 0.01
"""The corrected p-value below which a sentence says that the reference beats a method."""

Record = dict[str, Any]


def in_words(comparison: Comparison) -> list[str]:
    """Say for each model and top_k which methods the reference's removal effect beats, and which it does not.

    It beats a method when removing its paths lowers what was attributed more, with a corrected p-value below 0.01;
    every other outcome is said with its numbers too.
    """
    cells = to_records(comparison.cells)
    several = len({cell["search"] for cell in cells}) > 1
    reference, quantity = comparison.settings.reference, QUANTITIES[comparison.quantity]
    sentences = []
    for model, top_k in dict.fromkeys((cell["model"], cell["top_k"]) for cell in cells):
        name = f"{model}, {top_k} neuron{'s' if top_k != 1 else ''} per block"
        own = [cell for cell in cells if (cell["model"], cell["top_k"]) == (model, top_k)]
        removed = [c for c in own if (c["measure"], c["operation"]) == (quantity.measure, "remove")]
        if all(cell["scorer"] != reference for cell in own):
            sentences.append(f"{name}: no run holds {method_name(reference)}, so nothing is tested against it.")
        elif all(cell["scorer"] != reference for cell in removed):
            sentences.append(f"{name}: the removal of paths was not measured for {method_name(reference)}.")
        else:
            for tokens in dict.fromkeys(cell["tokens"] for cell in removed):
                where = "" if tokens == "scope" else f", at {tokens} tokens"
                rows = [cell for cell in removed if cell["tokens"] == tokens]
                sentences += _verdicts(name + where, rows, reference, quantity, several)
    return sentences


def _verdicts(name: str, rows: Sequence[Record], reference: str, quantity: Quantity, several: bool) -> list[str]:
    others = [row for row in rows if not math.isnan(row["difference"])]
    first = next((row for row in rows if row["scorer"] == reference and math.isnan(row["difference"])), None)
    if first is None:
        return []
    effect = mean_cell(first["mean"], first["low"], first["high"])
    effect += " %" if quantity.is_probability else ""
    unit = "points" if quantity.is_probability else quantity.unit
    head = f"{name}: removing the path of {_method(first, several)} changes the target {quantity.words} by {effect}"
    if not others:
        return [f"{head} (n = {first['n']}); no other method was run."]
    beaten = [row for row in others if row["difference"] > 0 and row["p_reference"] < CLAIM]
    stronger = [row for row in others if row["difference"] < 0 and row["p_reference"] < CLAIM]
    undecided = [row for row in others if row["p_reference"] >= CLAIM]
    verdict = ""
    if beaten:
        # "Every other method" would claim those, too, that nobody ran.
        n_others = f"{len(others)} other methods" if len(others) > 1 else "other method"
        whole = f"the {n_others} compared" if len(beaten) == len(others) else f"{len(beaten)} of {n_others}"
        verdict = f": it beats {whole} (corrected p < {CLAIM:g}), by {_list(beaten, unit, several)}"
    sentences = [f"{head} (n = {first['n']}){verdict}."]
    if undecided:
        sentences.append(
            f"{name}: it is not shown to beat the following (corrected p ≥ {CLAIM:g}); the differences, "
            f"positive where it lowers the {quantity.name} more, are {_list(undecided, unit, several)}."
        )
    if stronger:
        sentences.append(
            f"{name}: it does not beat the following, whose removal lowers the {quantity.name} more; the differences "
            f"are {_list(stronger, unit, several)}."
        )
    return sentences


def _list(rows: Sequence[Record], unit: str, several: bool) -> str:
    """By how much (of a probability: points of percent) the reference lowers the target more than each method."""
    return listed(
        [f"{_difference(row)} {unit} over {_method(row, several)} ({p_phrase(row['p_reference'])})" for row in rows]
    )


def _difference(row: Record) -> str:
    return mean_cell(row["difference"], row["difference_low"], row["difference_high"], sign=False)


def _method(row: Record, several: bool) -> str:
    return method_name(row["scorer"], row["search"] if several else "")
