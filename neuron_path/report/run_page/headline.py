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
        A row per effect: method, operation, n, the mean of what was attributed before and after where known, its change
        with its interval, and the change of accuracy with interval where there were labels.
    """
    what = effects[0].quantity.words if effects else "probability"
    before = f"Target {what}"
    columns = {
        "Method": [effect.method for effect in effects],
        "Operation": [effect.operation.replace("_", " ") for effect in effects],
        "n": [str(effect.n) for effect in effects],
        before: [f"{effect.clean:.3f} → {effect.edited:.3f}".replace("-", "−") for effect in effects],
        f"Change of target {what} [95 % interval]": [_cell(effect.change, effect.in_words()) for effect in effects],
        "Change of accuracy, points [95 % interval]": [
            _cell(effect.accuracy, effect.accuracy.in_words()) for effect in effects
        ],
    }
    if any(math.isnan(one.clean + one.edited) for one in effects):
        del columns[before]
    if all(math.isnan(effect.accuracy.mean) for effect in effects):
        del columns["Change of accuracy, points [95 % interval]"]
    return pd.DataFrame(columns)


def effects_in_words(effects: Sequence[Effect]) -> list[str]:
    """Say what the effects on the target are, one sentence per operation.

    An effect whose interval includes 0, or that has no interval, is said not to be shown.

    Args:
        effects: from `read_effects`.
    """
    sentences = []
    for operation, of in dict.fromkeys((effect.operation, effect.quantity.words) for effect in effects):
        clauses = [_clause(effect) for effect in effects if effect.operation == operation]
        subject = _SUBJECTS.get(operation) or f"The operation “{operation.replace('_', ' ')}” on the path"
        sentences.append(f"{subject} changes the target {of} by {listed(clauses)}.")
    return sentences


def _clause(effect: Effect) -> str:
    change = effect.change
    text = f"{effect.in_words()} for {effect.method}"
    if change.shows_effect:
        return text
    return f"{text} ({'interval includes 0' if change.known else f'n = {effect.n}'}: no effect shown)"


def _cell(change: Interval, text: str) -> str:
    return text + (", includes 0" if change.known and not change.shows_effect else "")
