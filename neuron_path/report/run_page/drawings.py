"""The figures that a stored run is enough for, each with its data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import pandas as pd

from neuron_path.classes.analysis import ClassAnalysis
from neuron_path.classes.class_paths import ClassPaths
from neuron_path.classes.tables import class_table
from neuron_path.evaluation.quantity import QUANTITIES
from neuron_path.evaluation.summary import summarise_effects
from neuron_path.report.figures.blocks import unit_of
from neuron_path.report.figures.class_distribution import class_distribution_figure
from neuron_path.report.figures.class_overlap import class_overlap_figure
from neuron_path.report.figures.class_similarity import class_similarity_figure
from neuron_path.report.figures.edit_curves import edit_curves_figure
from neuron_path.report.figures.effects import effects_figure
from neuron_path.report.figures.path_flow import path_flow_figure
from neuron_path.report.figures.usage_heat_map import usage_heat_map_figure
from neuron_path.report.run_page.gallery import Entry, keep_figure
from neuron_path.report.run_page.run import CHANGE, Run

_CURVES: Final = ["scorer", "search", "operation", "size", "n", *CHANGE]
_ROWS: Final = 60
"""Classes of the usage heat map: of more, those whose rows fit, evenly from the tree."""
_HEAT_MAP: Final = 72
"""Columns of the usage heat map, for all blocks together, whose data is kept."""


def draw_figures(run: Run) -> Iterator[Entry]:
    """Draw effects and their curves, the class with most images, and how classes differ, as far as there are any.

    Args:
        run: whose figures; they are written into its directory.
    """
    unit = unit_of(run.units)
    if len(run.summary):
        caption = f"Change of the target {QUANTITIES[run.quantity].words}, with 95 % intervals"
        yield keep_figure(run.run_dir, "effects", effects_figure(run.summary, run.quantity), caption, run.summary)
    if run.effects is not None and len(set(run.effects["size"])) > 1:
        caption = f"Necessity and sufficiency: removing, or keeping only, the first {unit}s of the paths"
        summary = summarise_effects(run.effects, {}, headline=False, seed=run.seed)
        columns = _CURVES + [name for name in summary.columns if name.startswith("value_difference")]
        figure = edit_curves_figure(run.effects, run.quantity, run.units)
        yield keep_figure(run.run_dir, "edit_curves", figure, caption, pd.DataFrame(summary, columns=columns))
    yield _distribution(run, run.classes)
    if run.analysis is not None:
        yield from _classes(run, run.analysis)
        yield _flow(run, run.analysis)


def _distribution(run: Run, paths: ClassPaths) -> Entry:
    place = int(paths.counts.argmax())
    index = int(paths.classes[place])
    name = run.class_names[index] if index < len(run.class_names) else str(index)
    own = paths.paths[paths.members == place]
    figure = class_distribution_figure(own, n_neurons=paths.n_neurons.tolist(), class_name=name, units=run.units)
    blocks = np.broadcast_to(np.arange(paths.n_blocks)[:, None], own.shape[1:])
    chosen = pd.DataFrame({"block": np.broadcast_to(blocks, own.shape).ravel(), "neuron": own.ravel()})
    caption = f"{unit_of(run.units).capitalize()}s chosen in each block, images of {paths.source} {name}"
    return keep_figure(run.run_dir, "class_distribution", figure, caption, _count(chosen))


def _classes(run: Run, analysis: ClassAnalysis) -> Iterator[Entry]:
    classes, order = analysis.paths.classes, analysis.tree.order
    usage, kind, overlap = analysis.usage.to_frame(), analysis.paths.source, analysis.overlap
    names, unit = run.class_names or None, unit_of(run.units)
    table = class_table(analysis)
    numbers = {"within": overlap.within, "between": overlap.between, "p": overlap.p}
    figure = class_overlap_figure(table, **numbers, class_names=names, kind=kind)
    caption = f"Path overlap of two images of the same {kind}, and of different {kind}s"
    yield keep_figure(run.run_dir, "class_overlap", figure, caption, table)
    rows = order[np.unique(np.linspace(0, len(order) - 1, _ROWS).astype(int))]
    figure = usage_heat_map_figure(usage, order=classes[rows], class_names=names, kind=kind, units=run.units)
    part = "" if len(rows) == len(order) else f" ({len(rows)} of {len(order)} {kind}s)"
    caption = f"How often the paths of each {kind}{part} have the most used {unit}s of each block"
    yield keep_figure(run.run_dir, "usage_heat_map", figure, caption, _most_used(usage))
    figure = class_similarity_figure(
        analysis.similarity,
        analysis.tree.linkage,
        classes=classes,
        class_names=names,
        cophenetic=analysis.tree.cophenetic,
        units=run.units,
    )
    table = pd.DataFrame(analysis.similarity, columns=[str(index) for index in classes])
    table.insert(0, "class", classes)
    caption = f"Cosine similarity of the {kind}s' usage of {unit}s, in the order of their tree"
    yield keep_figure(run.run_dir, "class_similarity", figure, caption, table)


def _flow(run: Run, analysis: ClassAnalysis) -> Entry:
    """The paths of the two classes that are most alike, and of the two that are least."""
    paths, table, kind = analysis.paths, analysis.neighbours, analysis.paths.source
    near, far = table["nearest_similarity"].to_numpy().argmax(), table["farthest_similarity"].to_numpy().argmin()
    pairs = [*table[["class", "nearest"]].to_numpy()[near], *table[["class", "farthest"]].to_numpy()[far]]
    shown = [int(index) for index in dict.fromkeys(pairs)]
    labels = paths.classes[paths.members]
    figure = path_flow_figure(paths.paths, labels, shown=shown, class_names=run.class_names or None, units=run.units)
    drawn = np.isin(labels, shown)
    best = paths.paths[drawn, :, 0]
    rows = pd.DataFrame(
        {
            "class": np.repeat(labels[drawn], paths.n_blocks),
            "block": np.tile(np.arange(paths.n_blocks), len(best)),
            "neuron": best.ravel(),
        }
    )
    caption = f"Paths of the two {kind}s that are most alike, and of the two that are least, from block to block"
    return keep_figure(run.run_dir, "path_flow", figure, caption, _count(rows))


def _count(rows: pd.DataFrame) -> pd.DataFrame:
    """Each different row once, in order, with the number of images that have it."""
    return rows.value_counts(sort=False).sort_index().rename("images").reset_index()


def _most_used(usage: pd.DataFrame) -> pd.DataFrame:
    """The rows of the neurons that are used most in their block, at least those that the heat map draws."""
    n_blocks = int(usage["block"].to_numpy().max()) + 1
    totals = pd.DataFrame(usage.groupby(["block", "neuron"])["frequency"].sum()).reset_index()
    totals = totals.sort_values(["block", "frequency", "neuron"], ascending=[True, False, True])
    most = totals.groupby("block").head(max(1, _HEAT_MAP // n_blocks))
    return usage.merge(most[["block", "neuron"]], on=["block", "neuron"], how="inner")
