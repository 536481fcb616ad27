"""The tables in Markdown."""

from __future__ import annotations

import pandas as pd

from neuron_path.evaluation.comparison import Comparison
from neuron_path.report.comparison.sections import Section, legend
from neuron_path.report.comparison.sentences import in_words
from neuron_path.report.markdown import escape, markdown_table


def to_markdown(comparison: Comparison, sections: list[Section]) -> str:
    """Write the comparison as a page: what it shows, the tables with the best in bold, and what is missing."""
    parts = ["# Comparison of methods", _list(in_words(comparison))]
    parts += [f"## {escape(section.caption)}\n\n{_table(section)}" for section in sections]
    parts.append(escape(legend(comparison)))
    if comparison.notes:
        parts.append(f"## Notes\n\n{_list(comparison.notes)}")
    if comparison.missing:
        missing = [f"{run.run_dir}: {run.reason}" for run in comparison.missing]
        parts.append(f"## Runs without results\n\n{_list(missing)}")
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(section: Section) -> str:
    cells = section.table.map(escape).rename(columns=escape)
    bold = section.bold.set_axis(cells.columns, axis=1).astype(bool)
    return markdown_table(pd.DataFrame(cells.where(~bold, "**" + cells + "**")))


def _list(lines: list[str]) -> str:
    return "\n".join(f"- {escape(line)}" for line in lines)
