"""The figures that a stored run is enough for, each with its data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from neuron_path.classes.analysis import ClassAnalysis
from neuron_path.classes.class_paths import ClassPaths
from neuron_path.classes.tables import class_table
from neuron_path.report.figures.class_distribution import class_distribution_figure
from neuron_path.report.figures.class_overlap import class_overlap_figure
from neuron_path.report.figures.class_similarity import class_similarity_figure
from neuron_path.report.figures.effects import effects_figure
from neuron_path.report.figures.usage_heat_map import usage_heat_map_figure
from neuron_path.report.gallery import Entry, keep_figure

_ROWS: Final = 60
"""Classes of the usage heat map: of more, those whose rows fit, evenly from the tree."""
_HEAT_MAP: Final = 72
"""Columns of the usage heat map, for all blocks together, whose data is kept."""


def draw_figures(
    run_dir: Path,
    summary: pd.DataFrame,
    paths: ClassPaths,
    analysis: ClassAnalysis | None,
    class_names: Sequence[str],
) -> Iterator[Entry]:
    """Draw effects, the class with most images, and overlap, usage and similarity of classes, as far as there are any.

    Args:
        run_dir: where to.
        summary: the table of effects; no row is allowed.
        paths: of the run's own method.
        analysis: of the same; None where classes cannot be compared.
        class_names: by index.
    """
    if len(summary):
        caption = "Change of the target probability, with 95 % intervals"
        yield keep_figure(run_dir, "effects", effects_figure(summary), caption, summary)
    yield _distribution(run_dir, paths, class_names)
    if analysis is not None:
        yield from _classes(run_dir, analysis, class_names)


def _distribution(run_dir: Path, paths: ClassPaths, class_names: Sequence[str]) -> Entry:
    place = int(paths.counts.argmax())
    index = int(paths.classes[place])
    name = class_names[index] if index < len(class_names) else str(index)
    own = paths.paths[paths.members == place]
    figure = class_distribution_figure(own, n_neurons=paths.n_neurons.tolist(), class_name=name)
    blocks = np.broadcast_to(np.arange(paths.n_blocks)[:, None], own.shape[1:])
    chosen = pd.DataFrame({"block": np.broadcast_to(blocks, own.shape).ravel(), "neuron": own.ravel()})
    table = chosen.value_counts(sort=False).sort_index().rename("images").reset_index()
    caption = f"Neurons chosen in each block, images of {paths.source} {name}"
    return keep_figure(run_dir, "class_distribution", figure, caption, table)


def _classes(run_dir: Path, analysis: ClassAnalysis, class_names: Sequence[str]) -> Iterator[Entry]:
    classes, order = analysis.paths.classes, analysis.tree.order
    usage, kind, overlap = analysis.usage.to_frame(), analysis.paths.source, analysis.overlap
    names = class_names or None
    table = class_table(analysis)
    numbers = {"within": overlap.within, "between": overlap.between, "p": overlap.p}
    figure = class_overlap_figure(table, **numbers, class_names=names, kind=kind)
    caption = f"Path overlap of two images of the same {kind}, and of different {kind}s"
    yield keep_figure(run_dir, "class_overlap", figure, caption, table)
    rows = order[np.unique(np.linspace(0, len(order) - 1, _ROWS).astype(int))]
    figure = usage_heat_map_figure(usage, order=classes[rows], class_names=names, kind=kind)
    part = "" if len(rows) == len(order) else f" ({len(rows)} of {len(order)} {kind}s)"
    caption = f"How often the paths of each {kind}{part} have the most used neurons of each block"
    yield keep_figure(run_dir, "usage_heat_map", figure, caption, _most_used(usage))
    figure = class_similarity_figure(
        analysis.similarity,
        analysis.tree.linkage,
        classes=classes,
        class_names=names,
        cophenetic=analysis.tree.cophenetic,
    )
    table = pd.DataFrame(analysis.similarity, columns=[str(index) for index in classes])
    table.insert(0, "class", classes)
    caption = f"Cosine similarity of the {kind}s' usage of neurons, in the order of their tree"
    yield keep_figure(run_dir, "class_similarity", figure, caption, table)


def _most_used(usage: pd.DataFrame) -> pd.DataFrame:
    """The rows of the neurons that are used most in their block, at least those that the heat map draws."""
    n_blocks = int(usage["block"].to_numpy().max()) + 1
    totals = pd.DataFrame(usage.groupby(["block", "neuron"])["frequency"].sum()).reset_index()
    totals = totals.sort_values(["block", "frequency", "neuron"], ascending=[True, False, True])
    most = totals.groupby("block").head(max(1, _HEAT_MAP // n_blocks))
    return usage.merge(most[["block", "neuron"]], on=["block", "neuron"], how="inner")
