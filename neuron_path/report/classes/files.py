"""Everything that an analysis leaves on disk; the same runs give the same bytes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd
import pyarrow as pa

from neuron_path.classes.runs import RunsAnalysis
from neuron_path.classes.tables import all_tables
from neuron_path.report.cells import mean_cell, p_cell
from neuron_path.report.classes.figures import Figures, draw_analysis
from neuron_path.report.classes.sentences import method_in_words, pairs_in_words
from neuron_path.report.markdown import escape, markdown_table
from neuron_path.store.atomic import write_json, write_text
from neuron_path.store.parquet import write_parquet

_DIGITS = "%.12g"
"""More than that differs from machine to machine."""


def write_analysis(
    analysis: RunsAnalysis, directory: str | os.PathLike[str], *, figures: bool = True
) -> tuple[list[Path], dict[str, pd.DataFrame]]:
    """Write tables, figures and the page, each file whole or absent.

    - each table of :func:`neuron_path.classes.tables.all_tables` as ``NAME.csv`` and ``NAME.parquet``
    - ``figures/``: of each method
    - ``analysis.md``: what they show
    - ``analysis.json``: headline numbers, settings, notes, and the runs with their provenance

    Args:
        analysis: from :func:`neuron_path.classes.runs.analyze_runs`.
        directory: where to; it is made, and older files of these names are replaced.
        figures: whether to draw.

    Returns:
        The files, and the tables by name.

    Raises:
        NeuronPathError: when a file cannot be written.
    """
    folder = Path(directory)
    tables = all_tables(analysis)
    files = []
    stamp = {"settings": asdict(analysis.settings), "runs": _runs(analysis)}
    for name, table in tables.items():
        write_text(folder / f"{name}.csv", table.to_csv(index=False, float_format=_DIGITS, lineterminator="\n"))
        write_parquet(folder / f"{name}.parquet", pa.Table.from_pandas(table, preserve_index=False), stamp)
        files += [folder / f"{name}.csv", folder / f"{name}.parquet"]
    drawn = draw_analysis(analysis, folder / "figures") if figures else {}
    write_text(folder / "analysis.md", render_analysis(analysis, drawn, folder))
    record = stamp | {
        "methods": [method.key | method.summary(analysis.settings.seed) for method in analysis.methods],
        "sentences": {method.name: method_in_words(method) for method in analysis.methods},
        "distances": analysis.distances,
        "notes": analysis.notes,
        "missing": [asdict(run) for run in analysis.missing],
    }
    write_json(folder / "analysis.json", record)
    pictures = [file for own in drawn.values() for _, file in own]
    return [*files, *pictures, folder / "analysis.md", folder / "analysis.json"], tables


def headline_table(analysis: RunsAnalysis) -> pd.DataFrame:
    """Return the numbers that a reader looks for first, a row per method, as text."""
    rows = []
    for method in analysis.methods:
        row = {
            "Method": escape(method.name),
            "Images": str(method.paths.n_images),
            "Classes": str(method.paths.n_classes),
        }
        if (found := method.found) is not None:
            gap = found.overlap.difference
            row |= {
                "Within, %": f"{100 * found.overlap.within:.1f}",
                "Between, %": f"{100 * found.overlap.between:.1f}",
                "Difference, points": mean_cell(100 * gap.mean, 100 * gap.low, 100 * gap.high),
                "p": p_cell(found.overlap.p),
                "AMI": f"{found.agreement.ami:.2f}".replace("-", "−"),
                "Recognised, %": f"{100 * found.stability.recognised.median:.0f}",
            }
        if method.meaning is not None:
            row["Meaning, r"] = f"{method.meaning.r:.2f}".replace("-", "−")
            row["Meaning, p"] = p_cell(method.meaning.p)
        rows.append(row)
    return pd.DataFrame(rows)


def render_analysis(analysis: RunsAnalysis, figures: Mapping[str, Figures], folder: Path) -> str:
    """Write the page, in Markdown; figures are linked by their place below ``folder``."""
    kind = analysis.methods[0].paths.source
    parts = [
        "# What the paths say about classes",
        f"A class is an image's {kind}. {_settings(analysis)}",
        markdown_table(headline_table(analysis)),
    ]
    if pairs := pairs_in_words(analysis):
        parts += ["## Methods side by side", _bullets(pairs)]
    for method in analysis.methods:
        parts += [f"## {escape(method.name)[:1].upper()}{escape(method.name)[1:]}", _bullets(method_in_words(method))]
        for caption, file in figures.get(method.name, []):
            words = escape(caption)
            parts += [f"![{words}]({quote(file.relative_to(folder).as_posix())})", f"*{words}*"]
    told = [*analysis.notes, *(f"Without paths: {run.run_dir}: {run.reason}" for run in analysis.missing)]
    if told:
        parts += ["## Notes", _bullets([escape(line) for line in told])]
    runs = {method.run_dir: method.model for method in analysis.methods}
    parts += ["## Runs", _bullets([f"{escape(run_dir)}, model {escape(model)}" for run_dir, model in runs.items()])]
    return "\n\n".join(parts) + "\n"


def _settings(analysis: RunsAnalysis) -> str:
    settings = analysis.settings
    told = f" Semantic distances are from {escape(analysis.distances)}." if analysis.distances else ""
    return (
        f"Intervals are of {100 * settings.confidence:g} %; p by {settings.n_permutations} shuffles of the classes "
        f"over images; seed {settings.seed}.{told} Within, between: mean path overlap of two images of the same class "
        "and of different ones. AMI: adjusted mutual information of classes and clusters of images by path. "
        "Recognised: classes that are nearest to their own other half when the images are halved."
    )


def _bullets(lines: list[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _runs(analysis: RunsAnalysis) -> list[dict[str, Any]]:
    """Each directory once, with the methods that were analysed and what made them."""
    runs: dict[str, dict[str, Any]] = {}
    for method in analysis.methods:
        run = runs.setdefault(
            method.run_dir, {"run_dir": method.run_dir, "methods": [], "provenance": method.provenance}
        )
        run["methods"].append(method.name)
    return list(runs.values())
