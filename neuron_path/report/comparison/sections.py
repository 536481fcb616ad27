"""The tables of a comparison as text: every way to print them takes these cells."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd

from neuron_path.evaluation.columns import CURVES, Column
from neuron_path.evaluation.comparison import Comparison
from neuron_path.evaluation.quantity import QUANTITIES
from neuron_path.report.cells import ABSENT, decimals_of, mean_cell, method_name, p_cell, to_records

_TITLES: Final = {
    "joint_score": "joint score",
    "complete_score": "complete score",
    "probability_deviation": "probability, %",
    "accuracy_deviation": "accuracy, points",
    "logit_difference": "logit",
    "margin_difference": "margin, logits",
    "contrast_difference": "contrast, logits",
    "similarity_difference": "similarity, cosine",
    "kl_divergence": "KL, nats",
    "necessity_area": "necessity area",
    "sufficiency_area": "sufficiency area",
}
_CHANGES: Final = ("_deviation", "_difference")
_DEFINED: Final = {
    "margin": " margin: change of the target's log-odds over the other classes;",
    "contrast": " contrast: change of the target's logit − that of the class it is contrasted with;",
    "similarity": " similarity: change of the cosine of the image's features and the target's reference;",
}
_PATHS: Final = ("joint_score", "complete_score", *CURVES.values())
_KEY: Final = ("model", "scorer", "search", "top_k")

Record = dict[str, Any]


@dataclass(frozen=True)
class Section:
    """One table.

    Attributes:
        name: what it is called in labels and identifiers.
        caption: what it shows.
        table: text cells, a row per method.
        bold: which of them are best; the same shape.
        n_labels: how many of the first columns name the row.
    """

    name: str
    caption: str
    table: pd.DataFrame
    bold: pd.DataFrame
    n_labels: int


def make_sections(comparison: Comparison) -> list[Section]:
    """Make the tables: the main one, scores and areas, one per operation, then the tests of the main one's columns.

    All are made from ``comparison.cells``; a method or column that lacks a number has a dash there.
    """
    cells = to_records(comparison.cells)
    columns = sorted({_column_of(cell) for cell in cells}, key=lambda column: column.place)
    change = QUANTITIES[comparison.quantity].measure
    wanted = ((change, "remove"), ("accuracy_deviation", "remove"), (change, "enhance"), ("joint_score", ""))
    main = [column for name in wanted for column in columns if (column.measure, column.operation) == name]
    paths = [column for column in columns if column.measure in _PATHS]
    sections = [_means("main", "Methods compared", cells, main)] if main else []
    if paths:
        sections.append(_means("paths", "Scores of the paths, and areas under their curves", cells, paths))
    for operation, tokens in dict.fromkeys((column.operation, column.tokens) for column in columns):
        own = [column for column in columns if (column.operation, column.tokens) == (operation, tokens)]
        own = [column for column in own if column.measure not in _PATHS]
        if own:
            name = f"{operation}-{tokens}".removesuffix("-scope")
            sections.append(_means(name, f"Effects of: {_words(operation, tokens)}", cells, own, bare=True))
    return sections + [_tests(comparison, cells, column) for column in main]


def title(column: Column, *, bare: bool = False) -> str:
    """Write a column's heading; ``bare`` leaves out the operation, where the caption has it.

    >>> title(Column("probability_deviation", "mean_ablation", "all"))
    'Mean ablation, all tokens: probability, %'
    >>> title(Column("joint_score")), title(Column("kl_divergence", "remove", "scope"), bare=True)
    ('Joint score', 'KL, nats')
    """
    words = _TITLES[column.measure]
    if column.operation and not bare and column.measure not in _PATHS:
        words = f"{_words(column.operation, column.tokens)}: {words}"
    elif column.measure in _PATHS and column.tokens not in ("", "scope"):
        words = f"{words}, {column.tokens} tokens"
    return words[:1].upper() + words[1:]


def legend(comparison: Comparison) -> str:
    """Say how the numbers are to be read."""
    settings = comparison.settings
    percent = f"{100 * settings.confidence:g} %"
    return (
        f"Each cell is a mean over n images with its {percent} bootstrap interval. Probability: p(edited) / p(clean) "
        f"− 1 of the target class; accuracy: change of top-1; logit: change of the target's;"
        f"{_DEFINED.get(comparison.quantity, '')} KL: sum of p(clean) "
        "log(p(clean) / p(edited)); areas: under p(edited) / p(clean) against the share of the path removed "
        "(necessity) or kept alone (sufficiency). Bold: better than each other method of the same model and number of "
        f"neurons per block, by paired tests (Holm-corrected over all pairs of the column, p < {settings.alpha:g}). "
        "p-values: sign-flip permutation tests on the same images (of two methods that could be exchanged on each "
        "image; with few images and a skewed difference they are too small, and intervals too short, so below some 30 "
        "images take both as a hint), Holm-corrected over the tests of the column against "
        f"{' and '.join(method_name(name) for name in (settings.reference, *_nulls(comparison)))}."
    )


def _words(operation: str, tokens: str) -> str:
    words = operation.replace("_", " ")
    words = words[:1].upper() + words[1:]
    return words if tokens in ("", "scope") else f"{words}, {tokens} tokens"


def _column_of(cell: Record) -> Column:
    return Column(cell["measure"], cell["operation"], cell["tokens"])


def _nulls(comparison: Comparison) -> list[str]:
    present = set(comparison.cells["scorer"])
    return [null for null in comparison.settings.nulls if null in present and null != comparison.settings.reference]


def _means(
    name: str, caption: str, cells: Sequence[Record], columns: Sequence[Column], *, bare: bool = False
) -> Section:
    chosen = {column: _of(cells, column) for column in columns}
    decimals = {column: _common_decimals(by_key.values()) for column, by_key in chosen.items()}
    rows, bold, counts = [], [], []
    for key, labels in _labels(cells):
        found = {column: by_key[key] for column, by_key in chosen.items() if key in by_key}
        if not found:
            continue
        counts.append(max(cell["n"] for cell in found.values()))
        row, best = {**labels, "n": str(counts[-1])}, dict.fromkeys([*labels, "n"], False)
        for column in columns:
            heading, cell = title(column, bare=bare), found.get(column)
            row[heading] = ABSENT if cell is None else _mean(cell, counts[-1], decimals[column])
            best[heading] = cell is not None and bool(cell["best"])
        rows.append(row)
        bold.append(best)
    return _section(name, caption, cells, rows, bold, counts, len(columns))


def _tests(comparison: Comparison, cells: Sequence[Record], column: Column) -> Section:
    """The reference's row stays, for its p-values against the nulls."""
    nulls = _nulls(comparison)
    reference = method_name(comparison.settings.reference)
    chosen = _of(cells, column)
    rows, counts = [], []
    for key, labels in _labels(cells):
        if key in chosen:
            cell = chosen[key]
            counts.append(cell["n"])
            difference = mean_cell(cell["difference"], cell["difference_low"], cell["difference_high"])
            row = {**labels, "n": str(counts[-1]), "Difference": difference, "p": p_cell(cell["p_reference"])}
            rows.append(row | {f"p against {method_name(null)}": p_cell(cell[f"p_{null}"]) for null in nulls})
    caption = f"{title(column)}: paired difference from {reference}, with corrected p"
    name = "-".join(filter(None, ("tests", column.measure, column.operation, column.tokens.replace("scope", ""))))
    bold = [dict.fromkeys(row, False) for row in rows]
    return _section(name, caption, cells, rows, bold, counts, 2 + len(nulls))


def _section(
    name: str,
    caption: str,
    cells: Sequence[Record],
    rows: list[dict[str, str]],
    bold: list[dict[str, bool]],
    counts: list[int],
    n_values: int,
) -> Section:
    """What all rows share goes into the caption."""
    models, sizes = ({cell[key] for cell in cells} for key in ("model", "top_k"))
    details = [str(model) for model in models if len(models) == 1]
    if len(sizes) == 1:
        (top_k,) = sizes
        details.append(f"{top_k} neuron{'s' if top_k > 1 else ''} per block")
    table, marks = pd.DataFrame(rows, dtype=object), pd.DataFrame(bold)
    if len(set(counts)) == 1:
        details.append(f"n = {counts[0]}")
        table, marks = table.drop(columns="n"), marks.drop(columns="n")
    caption = f"{caption} ({', '.join(details)})" if details else caption
    return Section(name, caption, table, marks, len(table.columns) - n_values)


def _common_decimals(cells: Iterable[Record]) -> int:
    """Those of the middle cell, so that a column's numbers are alike."""
    found = sorted(decimals_of(cell["mean"], cell["low"], cell["high"]) for cell in cells)
    return found[len(found) // 2]


def _of(cells: Sequence[Record], column: Column) -> dict[tuple[Any, ...], Record]:
    """The cells of a column by model and method."""
    return {_key(cell): cell for cell in cells if _column_of(cell) == column}


def _key(cell: Record) -> tuple[Any, ...]:
    return tuple(cell[name] for name in _KEY)


def _labels(cells: Sequence[Record]) -> Iterator[tuple[tuple[Any, ...], dict[str, str]]]:
    """Each row's key, and the columns that name it: only what differs among rows."""
    several = {name: len({cell[name] for cell in cells}) > 1 for name in _KEY}
    for key in dict.fromkeys(map(_key, cells)):
        model, scorer, search, top_k = key
        labels = {"Model": str(model)} if several["model"] else {}
        labels["Method"] = method_name(scorer, search if several["search"] else "")
        yield key, labels | ({"k": str(top_k)} if several["top_k"] else {})


def _mean(cell: Record, n: int, decimals: int) -> str:
    text = mean_cell(
        cell["mean"], cell["low"], cell["high"], sign=cell["measure"].endswith(_CHANGES), decimals=decimals
    )
    return text if cell["n"] == n else f"{text} (n = {cell['n']})"
