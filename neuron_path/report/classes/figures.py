"""The figures of an analysis, each with its caption."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from neuron_path.classes.analysis import ClassAnalysis
from neuron_path.classes.neurons import neuron_classes, neuron_table
from neuron_path.classes.runs import MethodAnalysis, RunsAnalysis
from neuron_path.classes.tables import class_table
from neuron_path.report.figures.blocks import unit_of
from neuron_path.report.figures.class_distribution import class_distribution_figure
from neuron_path.report.figures.class_overlap import class_overlap_figure
from neuron_path.report.figures.class_similarity import class_similarity_figure
from neuron_path.report.figures.neuron_evidence import neuron_evidence_figure
from neuron_path.report.figures.usage_heat_map import usage_heat_map_figure
from neuron_path.report.style import save_figure
from neuron_path.store.evidence import EVIDENCE_FILE, load_evidence

_NEURONS = 3
"""Neurons whose evidence is drawn."""
_ROWS = 60
"""Classes that a heat map draws at most."""

Figures = list[tuple[str, Path]]
"""Captions and PNG files; an SVG lies beside each."""


def draw_analysis(analysis: RunsAnalysis, folder: Path) -> dict[str, Figures]:
    """Draw the figures of each method.

    Args:
        analysis: what to draw.
        folder: where to; files are named by the method's place and the figure.

    Returns:
        By name of the method.
    """
    drawn = {}
    for place, method in enumerate(analysis.methods):
        prefix = f"{place}_{_slug(method.name)}_" if len(analysis.methods) > 1 else ""
        figures: Figures = []
        for name, caption, figure in _figures(method):
            figures.append((caption, save_figure(figure, folder / f"{prefix}{name}")[0]))
        drawn[method.name] = figures
    return drawn


def _figures(method: MethodAnalysis) -> list[tuple[str, str, Figure]]:
    paths, names, kind = method.paths, method.class_names or None, method.paths.source
    largest = int(paths.counts.argmax())
    own = paths.paths[paths.members == largest]
    index = int(paths.classes[largest])
    title = names[index] if names and index < len(names) else str(index)
    units = method.provenance.get("units", "ffn")
    violins = class_distribution_figure(own, n_neurons=paths.n_neurons.tolist(), class_name=title, units=units)
    caption = f"{unit_of(units).capitalize()}s chosen in each block, {kind} {title}, which has most images"
    compared = [] if method.found is None else _compared(method.found, names, units)
    return [
        *compared,
        ("class_distribution", caption, violins),
        *(_neurons(method) if compared else ()),
    ]


def _compared(found: ClassAnalysis, names: Sequence[str] | None, units: str) -> list[tuple[str, str, Figure]]:
    """What shows classes beside each other."""
    paths, tree, overlap, kind = found.paths, found.tree, found.overlap, found.paths.source
    labels, unit = {"class_names": names, "units": units}, unit_of(units)
    similarity = class_similarity_figure(
        found.similarity, tree.linkage, classes=paths.classes, cophenetic=tree.cophenetic, **labels
    )
    overlaps = class_overlap_figure(
        class_table(found), within=overlap.within, between=overlap.between, p=overlap.p, class_names=names, kind=kind
    )
    # Of many classes those whose rows fit, evenly from the tree.
    order = tree.order[np.unique(np.linspace(0, len(tree.order) - 1, _ROWS).astype(int))]
    part = "" if len(order) == len(tree.order) else f", {len(order)} of {len(tree.order)} {kind}s"
    usage = usage_heat_map_figure(found.usage.to_frame(), order=paths.classes[order], kind=kind, **labels)
    return [
        ("class_overlap", "Path overlap of two images of the same class, and of different classes", overlaps),
        (
            "class_similarity",
            f"Similarity of {kind}s by the {unit}s of their paths, in the order of their tree",
            similarity,
        ),
        ("usage", f"How often the paths of each {kind} have a {unit}{part}", usage),
    ]


def _neurons(method: MethodAnalysis) -> list[tuple[str, str, Figure]]:
    """What the neurons answer to that tell a class most, where the run keeps it."""
    if not (Path(method.run_dir) / EVIDENCE_FILE).exists():
        return []
    evidence, usage = load_evidence(method.run_dir), method.usage
    covered = set(zip(evidence["block"].tolist(), evidence["neuron"].tolist(), strict=True))
    table = neuron_table(usage)
    telling = np.argsort(-(table["top_frequency"] - table["mean_frequency"]).to_numpy(), kind="stable")
    blocks, neurons = (table[name].to_numpy()[telling].tolist() for name in ("block", "neuron"))
    ranked = zip(blocks, neurons, strict=True)
    figures, units = [], method.provenance.get("units", "ffn")
    for block, neuron in [pair for pair in ranked if pair in covered][:_NEURONS]:
        classes = neuron_classes(usage, block, neuron)
        figure = neuron_evidence_figure(
            evidence, block, neuron, classes=classes, class_names=method.class_names or None, units=units
        )
        name = f"{unit_of(units)} {neuron} of block {block}"
        caption = f"What activates {name} most; it is among those that tell one class best"
        figures.append((f"neuron_{block}_{neuron}", caption, figure))
    return figures


def _slug(name: str) -> str:
    return "".join(sign if sign.isascii() and sign.isalnum() else "_" for sign in name).strip("_")[:80]
