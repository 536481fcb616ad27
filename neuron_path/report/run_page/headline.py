"""The effects of a run's interventions as a table of text cells and in sentences, for the page and the console."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import pandas as pd

from neuron_path.report.effects import Effect, Interval
from neuron_path.report.markdown import listed

_SUBJECTS: Final = {"remove": "Removing the path", "enhance": "Enhancing the path"}


def effects_table(effects: Sequence[Effect]) -> pd.DataFrame:
    """Make the headline table, of plain text cells; a cell whose interval includes 0 says `includes 0`.

    Args:
        effects: from `read_effects`.

    Returns:
        A row per effect: method, operation, n, the mean target probability before and after where known, its change
        with interval, and the change of accuracy with interval where there were labels.
    """
    columns = {
        "Method": [effect.method for effect in effects],
        "Operation": [effect.operation.replace("_", " ") for effect in effects],
        "n": [str(effect.n) for effect in effects],
        "Target probability": [
            f"{effect.clean_probability:.3f} → {effect.edited_probability:.3f}" for effect in effects
        ],
        "Change of target probability [95 % interval]": [_cell(effect.probability, " %") for effect in effects],
        "Change of accuracy, points [95 % interval]": [_cell(effect.accuracy, "") for effect in effects],
    }
    if any(math.isnan(effect.clean_probability + effect.edited_probability) for effect in effects):
        del columns["Target probability"]
    if all(math.isnan(effect.accuracy.mean) for effect in effects):
        del columns["Change of accuracy, points [95 % interval]"]
    return pd.DataFrame(columns)


def effects_in_words(effects: Sequence[Effect]) -> list[str]:
    """Say what the effects on the target probability are, one sentence per operation.

    An effect whose interval includes 0, or that has no interval, is said not to be shown.

    Args:
        effects: from `read_effects`.
    """
    sentences = []
    for operation in dict.fromkeys(effect.operation for effect in effects):
        clauses = [_clause(effect) for effect in effects if effect.operation == operation]
        subject = _SUBJECTS.get(operation) or f"The operation “{operation.replace('_', ' ')}” on the path"
        sentences.append(f"{subject} changes the target probability by {listed(clauses)}.")
    return sentences


def _clause(effect: Effect) -> str:
    change = effect.probability
    text = f"{change.in_words(' %')} for {effect.method}"
    if change.shows_effect:
        return text
    return f"{text} ({'interval includes 0' if change.known else f'n = {effect.n}'}: no effect shown)"


def _cell(change: Interval, unit: str) -> str:
    return change.in_words(unit) + (", includes 0" if change.known and not change.shows_effect else "")
