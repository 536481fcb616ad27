"""The main tables on the console, cut into as many as the width asks for."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from neuron_path.evaluation.comparison import Comparison
from neuron_path.evaluation.quantity import QUANTITIES
from neuron_path.report.cells import ABSENT, to_records
from neuron_path.report.comparison.sections import Section
from neuron_path.report.comparison.sentences import in_words

_GAP = 2


def print_comparison(console: Console, comparison: Comparison, sections: list[Section]) -> None:
    """Print the main table, scores and areas, the tests of removal, then sentences, notes and what is missing.

    Args:
        console: where to; no table is wider than it, unless one column alone is.
        comparison: the comparison.
        sections: its tables.
    """
    shown = ("main", "paths", f"tests-{QUANTITIES[comparison.quantity].measure}-remove")
    printed: set[str] = set()
    for section in sections:
        values = [str(name) for name in section.table.columns[section.n_labels :] if name not in printed]
        if section.name not in shown or not values:
            continue
        printed.update(values)
        console.print(Text(section.caption, style="bold"))
        for names in _parts(section, values, console.width):
            console.print(_table(section, names))
            console.print()
    for line in in_words(comparison):
        console.print(Text(line))
    for line in comparison.notes:
        console.print(Text(f"Note: {line}"))
    for run in comparison.missing:
        console.print(Text(f"Missing: {run.run_dir}: {run.reason}"))


def _parts(section: Section, values: list[str], width: int) -> Iterator[list[str]]:
    """Columns of values that fit side by side, after those that name the row."""
    room = width - sum(_width(section, str(name)) + _GAP for name in section.table.columns[: section.n_labels])
    taken: list[str] = []
    for name in values:
        if taken and sum(_width(section, other) + _GAP for other in [*taken, name]) > room:
            yield taken
            taken = []
        taken.append(name)
    yield taken


def _width(section: Section, name: str) -> int:
    """Of the widest number; a heading may be broken between words."""
    return max(map(len, [*name.split(), *section.table[name]]))


def _table(section: Section, values: list[str]) -> Table:
    labels = [str(name) for name in section.table.columns[: section.n_labels]]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, collapse_padding=True)
    for name in [*labels, *values]:
        heading = Text("\n".join(textwrap.wrap(name, _width(section, name))))
        is_word = name in labels and name not in ("n", "k")
        table.add_column(heading, no_wrap=not is_word, justify="left" if is_word else "right", vertical="bottom")
    for row, best in zip(to_records(section.table), to_records(section.bold), strict=True):
        if any(row[name] != ABSENT for name in values):
            table.add_row(*(Text(row[name], style="bold" if best[name] else "") for name in [*labels, *values]))
    return table
