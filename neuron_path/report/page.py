"""The report page: what was run, what came out, and how to go on, as Markdown."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Final
from urllib.parse import quote

import pandas as pd

from neuron_path.report.effects import Effect, Interval, read_effects
from neuron_path.report.markdown import escape, heading, listed, markdown_table, plain_number

_FACTS: Final = {
    "model": "Model",
    "weight_hash": "Weights (hash)",
    "data": "Data",
    "folder": "Folder",
    "n_images": "Images",
    "scorer": "Scorer",
    "search": "Search",
    "measure": "Measure of the score",
    "quadrature": "Quadrature",
    "n_steps": "Quadrature nodes",
    "target": "Target function",
    "token_scope": "Token scope",
    "top_k": "Neurons per block",
    "seed": "Seed",
    "device": "Device",
    "git_commit": "Commit",
    "versions": "Versions",
}
_HASHES: Final = ("weight_hash", "git_commit")
_DIGEST: Final = 12
_SUBJECTS: Final = {"remove": "Removing the path", "enhance": "Enhancing the path"}
_LISTED: Final = 20
_METRICS: Final = {"images_per_second": "Images per second", "wall_seconds": "Wall time (s)"}


def render_report(
    *,
    title: str,
    provenance: Mapping[str, object],
    summary: pd.DataFrame,
    metrics: Mapping[str, object],
    figures: Sequence[tuple[str, str | os.PathLike[str]]],
    n_skipped: int = 0,
    errors: Sequence[str] = (),
    directory: str = "DIR",
) -> str:
    """Write the report of one run as Markdown; text from data is escaped, and no number is left unqualified.

    Args:
        title: the page's heading.
        provenance: what was run. Known keys (`model`, `weight_hash`, `data`, `n_images`, `scorer`, `search`, `measure`,
            `quadrature`, `n_steps`, `token_scope`, `top_k`, `seed`, `device`, `git_commit`, `versions`) come first and
            in this order; hashes are shortened to 12 characters; other single values follow. Mappings are not shown,
            but for `versions`; neither are missing values.
        summary: the table of effects, a row per method and operation, with the columns of `effects_figure` and,
            where they exist, `clean_probability` and `edited_probability` (fractions) and `accuracy_deviation`,
            `accuracy_deviation_low`, `accuracy_deviation_high` (percentage points; NaN without labels). No row is
            allowed.
        metrics: further results; `images_per_second` and `wall_seconds` come first. Nested mappings are flattened.
        figures: (caption, path relative to the page) of each figure.
        n_skipped: images that could not be read and were left out.
        errors: a line for each of them.
        directory: where the run's results lie, for the lines that load them.

    Returns:
        The page, ending in a newline.

    Raises:
        NeuronPathError: the table of effects lacks a column or has a row twice.
    """
    sections = [
        f"# {escape(title)}",
        _provenance(provenance),
        _skipped(n_skipped, errors),
        _effects(summary),
        _metrics(metrics),
        _figures(figures),
        _loading(directory),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _effects(summary: pd.DataFrame) -> str:
    effects = read_effects(summary)
    if not effects:
        return "## Effect of the paths\n\nNo intervention was measured in this run."
    bullets = "\n".join(f"- {sentence}" for sentence in effects_in_words(effects))
    note = (
        "The change is the mean over images of p(edited) / p(clean) − 1. Each interval is for its own row; whether two "
        "methods differ is a question for their paired difference, which `neuron-path compare` answers."
    )
    return f"## Effect of the paths\n\n{markdown_table(effects_table(effects))}\n\n{bullets}\n\n{note}"


def effects_table(effects: Sequence[Effect]) -> pd.DataFrame:
    """Make the table that the page prints, of text cells; a cell whose interval includes 0 says `includes 0`.

    Args:
        effects: from `read_effects`.

    Returns:
        A row per effect: method, operation, n, the mean target probability before and after where known, its change
        with interval, and the change of accuracy with interval where there were labels.
    """
    columns = {
        "Method": [escape(effect.method) for effect in effects],
        "Operation": [escape(effect.operation.replace("_", " ")) for effect in effects],
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
        subject = _SUBJECTS.get(operation) or f"The operation “{escape(operation.replace('_', ' '))}” on the path"
        sentences.append(f"{subject} changes the target probability by {listed(clauses)}.")
    return sentences


def _clause(effect: Effect) -> str:
    change = effect.probability
    text = f"{change.in_words(' %')} for {escape(effect.method)}"
    if change.shows_effect:
        return text
    return f"{text} ({'interval includes 0' if change.known else f'n = {effect.n}'}: no effect shown)"


def _cell(change: Interval, unit: str) -> str:
    return change.in_words(unit) + (", includes 0" if change.known and not change.shows_effect else "")


def _provenance(provenance: Mapping[str, object]) -> str:
    ordered = {key: provenance[key] for key in _FACTS if key in provenance}
    ordered |= {key: value for key, value in provenance.items() if key not in ordered}
    rows = [
        (_FACTS.get(key, heading(key)), _fact(key, value))
        for key, value in ordered.items()
        if value is not None and (key == "versions" or not isinstance(value, Mapping))
    ]
    return f"## What was run\n\n{markdown_table(pd.DataFrame(rows, columns=['Setting', 'Value']))}" if rows else ""


def _fact(key: str, value: object) -> str:
    if isinstance(value, Mapping):
        return escape(", ".join(f"{name} {version}" for name, version in value.items()))
    if isinstance(value, str) or not isinstance(value, Iterable):
        text = str(value)
        return escape(text[:_DIGEST] if key in _HASHES else text)
    return escape(", ".join(map(str, value)))


def _skipped(n_skipped: int, errors: Sequence[str]) -> str:
    if not n_skipped and not errors:
        return ""
    count = max(n_skipped, len(errors))
    lines = [f"**{count} image{'s were' if count > 1 else ' was'} skipped** and not counted in any number below.", ""]
    lines += [f"- {escape(error)}" for error in errors[:_LISTED]]
    if len(errors) > _LISTED:
        lines.append(f"- and {len(errors) - _LISTED} more")
    return "\n".join(lines).rstrip()


def _metrics(metrics: Mapping[str, object]) -> str:
    flat = _flatten(metrics)
    first = {key: flat[key] for key in _METRICS if key in flat}
    rows = [(_METRICS.get(key, heading(key)), plain_number(value)) for key, value in (first | flat).items()]
    return (
        f"## Speed and other measures\n\n{markdown_table(pd.DataFrame(rows, columns=['Measure', 'Value']))}"
        if rows
        else ""
    )


def _flatten(metrics: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in metrics.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}: ")
        elif value is not None:
            flat[f"{prefix}{key}"] = value
    return flat


def _figures(figures: Sequence[tuple[str, str | os.PathLike[str]]]) -> str:
    if not figures:
        return ""
    blocks = []
    for caption, path in figures:
        words = escape(caption)
        blocks.append(f"![{words}]({quote(PurePath(path).as_posix())})\n\n*{words}*")
    return "\n\n".join(["## Figures", *blocks])


def _loading(directory: str) -> str:
    place = json.dumps(directory, ensure_ascii=False)
    lines = ["import neuron_path", "", f"paths = neuron_path.load_paths({place})  # one row per image and method"]
    return "\n".join(["## Use the results", "", "```python", *lines, "```"])
