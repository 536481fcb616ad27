"""Which classes use the same neurons: their similarities in the order of a tree, with the tree beside them."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy.cluster import hierarchy

from neuron_path.errors import NeuronPathError
from neuron_path.report.figures.blocks import unit_of
from neuron_path.report.figures.inputs import Floats, Neurons
from neuron_path.report.figures.matrix import (
    BAR,
    LABEL,
    SCALE,
    check_finite,
    draw_bar,
    frame,
    label_note,
    name_classes,
    shown_labels,
    widest,
)
from neuron_path.report.figures.picture import ClassNames
from neuron_path.report.style import FAINT, INK, MUTED, axes_in_inches, figure_style, new_figure
from neuron_path.report.text import wrap

_EDGE: Final = 0.12
_TREE: Final = 1.0
_CELL: Final = 0.3
_LARGEST: Final = 6.4
_SMALLEST: Final = 1.5
_WRITTEN: Final = 0.24
_BOTH_SIDES: Final = 50
_TITLE: Final = 0.34
_NOTE: Final = 6.5
_LEADING: Final = 0.12
_NARROWEST: Final = 3.6


def class_similarity_figure(
    similarity: npt.ArrayLike,
    linkage: npt.ArrayLike,
    *,
    classes: npt.ArrayLike | None = None,
    class_names: ClassNames | None = None,
    cophenetic: float | None = None,
    units: str = "ffn",
) -> Figure:
    """Draw the similarity of classes as a matrix in the order of their tree, and the tree to its left.

    Darker is more similar. The scale spans the similarities of different classes, so that small differences are seen;
    the diagonal, where each class meets itself, is left grey. Where cells are large enough they hold their numbers.

    Args:
        similarity: (C, C) symmetric, such as :func:`neuron_path.classes.similarity.class_similarity` returns.
        linkage: (C − 1, 4) the tree as scipy writes it, from distances 1 − similarity.
        classes: (C,) the class of each row, for its name; 0 … C − 1 when not given.
        class_names: names of classes by index.
        cophenetic: cophenetic correlation of the tree, to be written beneath; left out when not given or NaN.
        units: what the neurons are, "ffn", "heads" or "ffn+heads".

    Returns:
        The figure, to be shown or written with `save_figure`.

    Raises:
        NeuronPathError: another shape, values that are not finite or not symmetric, or a linkage that is no tree of
            these classes, or no such units.
    """
    matrix = check_finite(similarity, "similarity")
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or len(matrix) < 2:
        raise NeuronPathError(f"similarity has shape {matrix.shape}, expected (C, C) for two classes or more.")
    if not np.allclose(matrix, matrix.T, rtol=0, atol=1e-9):
        raise NeuronPathError("similarity is not symmetric, expected the same value for (c, d) and (d, c).")
    merges = check_finite(linkage, "linkage")
    if merges.shape != (len(matrix) - 1, 4) or not _is_tree(merges):
        raise NeuronPathError(
            f"linkage has shape {merges.shape} or is no tree, expected ({len(matrix) - 1}, 4) as scipy's linkage."
        )
    shown = np.arange(len(matrix)) if classes is None else np.asarray(classes)
    if shown.shape != (len(matrix),):
        raise NeuronPathError(f"classes has shape {shown.shape}, expected ({len(matrix)},): one class per row.")
    order = hierarchy.leaves_list(merges).astype(np.int64)
    words = "" if cophenetic is None or np.isnan(cophenetic) else f"; cophenetic correlation {cophenetic:.2f}"
    with figure_style():
        return _draw(
            matrix[np.ix_(order, order)], merges, order, name_classes(shown[order], class_names), words, unit_of(units)
        )


def _is_tree(merges: Floats) -> bool:
    """Whether each merge joins two nodes that are there by then, and no node is joined twice."""
    nodes = merges[:, :2]
    there = len(merges) + 1 + np.arange(len(merges))
    return bool(((nodes >= 0) & (nodes < there[:, None])).all()) and len(np.unique(nodes)) == nodes.size


def _draw(matrix: Floats, merges: Floats, order: Neurons, names: list[str], words: str, unit: str) -> Figure:
    n = len(matrix)
    cell = min(_CELL, _LARGEST / n)
    side = max(cell * n, _SMALLEST)
    cell = side / n
    shown = shown_labels(n, cell)
    beside = widest([names[index] for index in shown]) + 0.1
    width = max(_EDGE + _TREE + side + beside + _EDGE, _NARROWEST)
    note = f"Distance in the tree: 1 − similarity{words}. Grey: each class with itself."
    extra = label_note(n, shown)
    note += " Columns are in the order of the rows." if n > _BOTH_SIDES else ""
    note += f" {extra[0].upper()}{extra[1:]}." if extra else ""
    lines = wrap(note, width - 2 * _EDGE, _NOTE, lines=3)
    foot = 0.06 + _LEADING * len(lines)
    below = beside if n <= _BOTH_SIDES else 0.3
    bottom = foot + BAR + below
    figure = new_figure(width, bottom + side + _TITLE)
    left = _EDGE + _TREE
    panel = axes_in_inches(figure, left, bottom, side, side)
    others = ~np.eye(n, dtype=bool)
    low, high = float(matrix[others].min()), float(matrix[others].max())
    # A scale needs two ends: where all are equal they get the middle of the colours.
    low, high = (low, high) if high - low > 1e-9 else (low - 0.05, high + 0.05)
    cells = np.ma.masked_array(matrix, ~others)
    image = panel.imshow(cells, cmap=SCALE, vmin=low, vmax=high, aspect="auto", interpolation="none")
    panel.set_facecolor(FAINT)
    frame(panel)
    panel.yaxis.tick_right()
    panel.set_yticks(shown, [names[index] for index in shown], fontsize=LABEL)
    beneath = shown if n <= _BOTH_SIDES else []
    panel.set_xticks(beneath, [names[index] for index in beneath], fontsize=LABEL, rotation=90)
    if cell >= _WRITTEN:
        _write_numbers(panel, matrix, low, high)
    tree = axes_in_inches(figure, _EDGE, bottom, _TREE - 0.05, side)
    _draw_tree(tree, merges, order)
    draw_bar(figure, image, left, foot + 0.2, "cosine similarity")
    title = {"fontsize": 9, "va": "top", "fontweight": "bold"}
    up = figure.get_figheight()
    figure.text(_EDGE / width, 1 - 0.08 / up, f"Classes that use the same {unit}s", **title)
    for index, line in enumerate(reversed(lines)):
        figure.text(_EDGE / width, (0.06 + _LEADING * index) / up, line, fontsize=_NOTE, color=MUTED, va="bottom")
    return figure


def _write_numbers(panel: Axes, matrix: Floats, low: float, high: float) -> None:
    for row, column in zip(*np.nonzero(~np.eye(len(matrix), dtype=bool)), strict=True):
        value = float(matrix[row, column])
        colour = SCALE((value - low) / (high - low))
        light = np.dot(to_rgb(colour), (0.299, 0.587, 0.114))
        text = f"{value:.2f}".replace("0.", ".", 1) if 0 <= value < 0.995 else f"{value:.1f}"
        panel.text(
            column, row, text, ha="center", va="center_baseline", fontsize=6, color=INK if light > 0.5 else "white"
        )


def _draw_tree(axes: Axes, merges: Floats, order: Neurons) -> None:
    """Draw the tree with its leaves at the rows of the matrix and its root to the left."""
    n = len(order)
    heights, places = np.zeros(2 * n - 1), np.zeros(2 * n - 1)
    places[order] = np.arange(n)
    lines = []
    for index, (one, other, height, _) in enumerate(merges):
        pair = [int(one), int(other)]
        heights[n + index], places[n + index] = height, places[pair].mean()
        upper, lower = places[pair]
        lines.append([(heights[pair[0]], upper), (height, upper), (height, lower), (heights[pair[1]], lower)])
    axes.add_collection(LineCollection(lines, colors=INK, linewidths=0.8 if n <= 60 else 0.5))
    top = float(heights.max()) or 1.0
    axes.set(xlim=(top * 1.04, 0), ylim=(n - 0.5, -0.5), yticks=[])
    axes.spines["left"].set_visible(False)
    # No 0: it would lie beside the names beneath the matrix.
    axes.set_xticks([tick for tick in MaxNLocator(nbins=3).tick_values(0, top) if 0 < tick <= top])
    axes.set_xlabel("distance", fontsize=7, labelpad=2)
