"""The report of a run: one HTML page, `report.html`, that opens without a network."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from neuron_path.report.cells import method_name
from neuron_path.report.classes.words import classes_in_words
from neuron_path.report.comparison.sections import Section, legend, make_sections
from neuron_path.report.comparison.sentences import in_words
from neuron_path.report.effects import Effect, read_effects
from neuron_path.report.figures.blocks import unit_of
from neuron_path.report.run_page.drawings import draw_figures
from neuron_path.report.run_page.evidence import (
    MOST_MAP_BYTES,
    MOST_PICTURE_BYTES,
    edges_data,
    evidence_data,
    maps_data,
    picture_uris,
)
from neuron_path.report.run_page.explorer import explorer_data
from neuron_path.report.run_page.facts import run_facts, run_metrics
from neuron_path.report.run_page.figures import Shown, show_figures
from neuron_path.report.run_page.gallery import list_figures
from neuron_path.report.run_page.headline import effects_in_words, effects_table
from neuron_path.report.run_page.render import render_page
from neuron_path.report.run_page.run import Run, read_run
from neuron_path.store.atomic import write_text
from neuron_path.store.evidence import thumbnails_of
from neuron_path.store.skipped import read_skipped

REPORT_FILE: Final = "report.html"
_LISTED: Final = 20

Content = dict[str, Any]


def write_report(run_dir: str | os.PathLike[str], out: str | os.PathLike[str] | None = None) -> Path:
    """Draw the figures of a finished run that its files are enough for, and write its report.

    Args:
        run_dir: a run directory.
        out: the page's file; ``report.html`` in the run directory when not given.

    Returns:
        The page.

    Raises:
        NeuronPathError: no finished run, a file that is torn or foreign, or a place that cannot be written.
    """
    run = read_run(run_dir)
    figures = show_figures(run.run_dir, list_figures(run.run_dir, list(draw_figures(run))))
    page = Path(out) if out is not None else run.run_dir / REPORT_FILE
    write_text(page, render_report(run, figures))
    return page


def render_report(run: Run, figures: Sequence[Shown]) -> str:
    """Return the report of a run as HTML; text from data is escaped, and no number is left without its interval or n.

    Args:
        run: what the run holds.
        figures: to be shown, in this order.
    """
    explorer = explorer_data(
        run.paths,
        n_neurons=run.provenance.get("n_neurons"),
        class_names=run.class_names,
        own=run.classes.scorer,
        units=run.units,
    )
    data = {"explorer": explorer, "evidence": None, "pictures": {}, "order": None}
    if run.analysis is not None:
        data["order"] = run.analysis.tree.order.tolist()
    if run.evidence is not None:
        maps = maps_data(run.evidence)
        data["evidence"] = evidence_data(run.evidence) | {"maps": maps, "edges": edges_data(run.evidence)}
        wanted = [*run.evidence.sort_values("rank", kind="stable")["sample_id"], *explorer["images"]["id"]]
        room = MOST_PICTURE_BYTES - (MOST_MAP_BYTES if maps else 0)
        data["pictures"] = picture_uris(thumbnails_of(run.evidence), wanted, most_bytes=room)
    data["tables"] = {figure.name: figure.table for figure in figures if figure.table}
    return render_page(_content(run, figures, len(explorer["images"]["id"])), data)


def _content(run: Run, figures: Sequence[Shown], n_shown: int) -> Content:
    effects, facts = read_effects(run.summary, run.quantity), run.provenance
    blocks, total, unit = run.classes.n_blocks, run.classes.n_images, unit_of(run.units)
    sampled = (
        f"The explorer holds {n_shown:,} of {total:,} images, drawn at random, of each class the same share and at "
        "least one. Its numbers, and the similarities drawn below, are of these; all others are of all images."
    )
    return {
        "title": f"{unit.capitalize()} paths of {facts.get('model', 'a model')}",
        "subtitle": (
            f"{total:,} image{'s' if total > 1 else ''} · {blocks} blocks · {method_name(run.classes.scorer)}, "
            f"{run.classes.search} search"
        ),
        "top_k": run.classes.top_k,
        "unit": unit,
        "tiles": _tiles(run, effects),
        "problems": _problems(run),
        "effects": _table(effects_table(effects)) | {"sentences": effects_in_words(effects)},
        "tests": _tests(run),
        "sampled": sampled if n_shown < total else "",
        "evidence": run.evidence is not None,
        "edges": run.evidence is not None and bool(run.evidence["edges"].notna().any()),
        "classes": [run.no_analysis] if run.analysis is None else classes_in_words(run.analysis, run.class_names, unit),
        "figures": figures,
        "facts": run_facts(_flat(facts)),
        "metrics": run_metrics(run.metrics),
        "directory": json.dumps(str(run.run_dir), ensure_ascii=False),
    }


def _tiles(run: Run, effects: Sequence[Effect]) -> list[dict[str, str]]:
    """The few numbers to see first."""
    grouped = run.classes
    n_classes = f"{grouped.n_classes} {grouped.source}{'s' if grouped.n_classes > 1 else ''}"
    tiles = [("Images", f"{grouped.n_images:,}", f"of {n_classes}")]
    rows = run.paths.drop_duplicates("sample_id")
    labelled = rows.loc[rows["label"].notna()]
    if len(labelled):
        right = int((labelled["label"] == labelled["prediction"]).sum())
        tiles.append(("Predicted correctly", f"{100 * right / len(labelled):.1f} %", f"{right:,} of {len(labelled):,}"))
    for effect in effects:
        if effect.scorer == grouped.scorer and effect.operation == "remove":
            value, _, interval = effect.in_words().partition(" [")
            words = f"change of the target {effect.quantity.words}"
            words = f"[{interval} {words}" if interval else words
            tiles.append(("Without the path", value, words))
    if run.analysis is not None:
        overlap = run.analysis.overlap
        words = f"of their path; {100 * overlap.between:.0f} % in different classes"
        tiles.append(("Images of a class share", f"{100 * overlap.within:.0f} %", words))
    return [dict(zip(("label", "value", "note"), tile, strict=True)) for tile in tiles]


def _tests(run: Run) -> Content:
    """The methods of the run tested against each other, where there are several."""
    if run.comparison is None:
        return {"sentences": []}
    sections = make_sections(run.comparison)
    tables = [
        _table(section.table, section) | {"caption": section.caption, "words": section.n_labels} for section in sections
    ]
    return {
        "sentences": [*in_words(run.comparison), *run.comparison.notes],
        "tables": tables,
        "legend": legend(run.comparison),
    }


def _table(table: pd.DataFrame, section: Section | None = None) -> Content:
    bold = np.zeros(table.shape, dtype=bool) if section is None else section.bold.to_numpy(dtype=bool)
    cells = table.to_numpy().tolist()
    rows = [
        [{"text": text, "bold": best} for text, best in zip(row, marks, strict=True)]
        for row, marks in zip(cells, bold.tolist(), strict=True)
    ]
    return {"columns": [str(name) for name in table.columns], "rows": rows}


def _problems(run: Run) -> Content:
    lines = [f"{name}: {reason}" for name, reason in read_skipped(run.run_dir)]
    counted = run.metrics.get("skipped_images", 0)
    return {
        "count": max(counted if isinstance(counted, int) else 0, len(lines)),
        "lines": lines[:_LISTED],
        "more": max(0, len(lines) - _LISTED),
    }


def _flat(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """What of the provenance is a fact on one line."""
    widths = provenance.get("n_neurons") or []
    facts = {name: value for name, value in provenance.items() if name not in ("n_neurons", "classes")}
    differences = [change for one in provenance.get("forced") or () for change in one["differences"]]
    return facts | {
        "resumed": len(provenance.get("resumed") or ()) or None,
        "forced": "; ".join(differences) or None,
        "git_commit": (provenance.get("git") or {}).get("commit"),
        "created": (provenance.get("environment") or {}).get("created"),
        "n_blocks": len(widths) or None,
        "ffn_width": sorted(set(widths)),
    }
