"""Everything that a comparison leaves on disk; the same comparison gives the same bytes."""

from __future__ import annotations

import math
import os
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from neuron_path.evaluation.comparison import Comparison
from neuron_path.report.comparison.latex import to_latex
from neuron_path.report.comparison.markdown import to_markdown
from neuron_path.report.comparison.page import to_html
from neuron_path.report.comparison.sections import Section, make_sections
from neuron_path.report.comparison.sentences import in_words
from neuron_path.store.atomic import write_json, write_text

_DIGITS = "%.12g"
"""More than that differs from machine to machine."""


def write_comparison(
    comparison: Comparison, directory: str | os.PathLike[str], sections: list[Section] | None = None
) -> list[Path]:
    """Write the tables and what they were made from, each file whole or absent.

    - ``table.md``, ``table.tex``, ``table.html``: the tables for readers
    - ``table.csv``: every cell as numbers; ``tests.csv``: every paired test; ``classes.csv``: every cell by class
    - ``comparison.json``: runs with their provenance, settings, sentences, notes and what is missing

    Args:
        comparison: from :func:`neuron_path.evaluation.comparison.compare`.
        directory: where to; it is made, and older files of these names are replaced.
        sections: the tables, where they were made already.

    Returns:
        The files.

    Raises:
        NeuronPathError: when a file cannot be written.
    """
    folder = Path(directory)
    sections = make_sections(comparison) if sections is None else sections
    texts = {
        "table.md": to_markdown(comparison, sections),
        "table.csv": _csv(comparison.cells),
        "table.tex": to_latex(comparison, sections),
        "table.html": to_html(comparison, sections),
        "tests.csv": _csv(comparison.tests),
        "classes.csv": _csv(comparison.classes),
    }
    for name, text in texts.items():
        write_text(folder / name, text)
    record = {
        "settings": asdict(comparison.settings),
        "sentences": in_words(comparison),
        "notes": comparison.notes,
        "missing": [asdict(run) for run in comparison.missing],
        "runs": comparison.runs,
    }
    write_json(folder / "comparison.json", record)
    return [folder / name for name in (*texts, "comparison.json")]


def _csv(table: pd.DataFrame) -> str:
    """What ``to_csv`` writes with ``float_format``, in a fraction of the time."""
    floats = {
        name: ["" if math.isnan(value) else _DIGITS % value for value in table[name].tolist()]
        for name in table.select_dtypes("float")
    }
    return table.assign(**floats).to_csv(index=False, lineterminator="\n")
