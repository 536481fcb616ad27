"""How the paths of several classes run through the blocks, part and meet: an alluvial figure."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path

from neuron_path.errors import NeuronPathError
from neuron_path.report.figures.blocks import LABEL_SIZE, LINE, unit_of
from neuron_path.report.figures.inputs import Floats, Neurons, check_paths
from neuron_path.report.figures.matrix import name_classes, widest
from neuron_path.report.figures.picture import ClassNames
from neuron_path.report.style import (
    BLACK,
    BLUE,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    SKY,
    VERMILION,
    axes_in_inches,
    figure_style,
    new_figure,
)
from neuron_path.report.text import text_width, wrap

_EDGE: Final = 0.12
_PITCH: Final = 0.66
_BAR: Final = 0.06
_GAP: Final = 0.075
_HEIGHT: Final = 3.1
_FOOT: Final = 0.36
_TITLE: Final = 0.42
_NOTE: Final = 6.5
_LEADING: Final = 0.12
_OTHER: Final = -1
_BOLDER: Final = 1.15
# From dark to light and back, so that neighbours differ in grey too.
_COLOURS: Final = (BLUE, ORANGE, BLACK, SKY, VERMILION, GREEN)


@dataclass(frozen=True, eq=False)
class _Column:
    """The nodes of one block, from top to bottom, in inches.

    Attributes:
        neurons: neuron of each node, −1 for all others.
        node: (n,) each image's node.
        top: upper edge of each node.
        height: of each node.
    """

    neurons: Neurons
    node: Neurons
    top: Floats
    height: Floats


@dataclass(frozen=True, slots=True)
class _Band:
    """What flows from one bar to the next: its class, and inches of thickness and of its upper edge at both ends."""

    member: int
    thickness: float
    begin: float
    end: float


def path_flow_figure(
    paths: npt.ArrayLike,
    classes: npt.ArrayLike,
    *,
    shown: Sequence[int] | None = None,
    per_block: int = 4,
    class_names: ClassNames | None = None,
    units: str = "ffn",
) -> Figure:
    """Draw the paths of up to six classes as bands from block to block, as wide as the share of the class's images.

    Each block has a bar for each of its most used neurons, with the neuron's index, and one for all others together.
    Every class has the same height, however many images it has, and within a bar classes keep their order.

    Args:
        paths: (n, L) or (n, L, k) integers, one path per image; of k neurons in a block the best is drawn.
        classes: (n,) integers, the class of each image.
        shown: the classes to draw, from top to bottom; all when not given, six at most.
        per_block: neurons of a block with a bar of their own: those of the largest share over the classes drawn.
        class_names: names of classes by index.
        units: what the neurons are, "ffn", "heads" or "ffn+heads".

    Returns:
        The figure, to be shown or written with `save_figure`.

    Raises:
        NeuronPathError: a shape is wrong, a class has no image, more than six classes, or no such units.
    """
    best = check_paths(paths, 2, name="paths")[:, :, 0]
    labels = np.asarray(classes)
    if labels.shape != (len(best),) or not np.issubdtype(labels.dtype, np.integer):
        raise NeuronPathError(f"classes has shape {labels.shape}, expected ({len(best)},) integers: one per path.")
    drawn = np.unique(labels) if shown is None else np.asarray(shown)
    if drawn.ndim != 1 or not 1 <= len(drawn) <= len(_COLOURS) or len(set(drawn.tolist())) < len(drawn):
        raise NeuronPathError(
            f"{drawn.size} classes are to be drawn, expected 1 to {len(_COLOURS)}, each once; choose them with shown=."
        )
    if lacking := sorted(set(drawn.tolist()) - set(labels.tolist())):
        raise NeuronPathError(f"Class {lacking[0]} has no path among those given.")
    if per_block < 1:
        raise NeuronPathError(f"per_block is {per_block}, expected 1 or more neurons for each block.")
    kept = np.isin(labels, drawn)
    place = {index: position for position, index in enumerate(drawn.tolist())}
    members = np.array([place[index] for index in labels[kept].tolist()])
    counts = np.bincount(members)
    names = name_classes(drawn, class_names)
    with figure_style():
        return _draw(best[kept], members, 1 / counts[members], names, counts, per_block, unit_of(units))


def _draw(
    best: Neurons,
    members: Neurons,
    weights: Floats,
    names: Sequence[str],
    counts: Neurons,
    per_block: int,
    unit: str,
) -> Figure:
    n_blocks = best.shape[1]
    scale = (_HEIGHT - _GAP * max(per_block, len(names) - 1)) / len(names)
    start = _place(members, np.arange(len(names)), weights * scale)
    columns = [start]
    for block in range(n_blocks):
        columns.append(_column(best[:, block], columns[-1], weights * scale, per_block))
    beside = max(widest(names), 0.5) + 0.1
    across = _PITCH * n_blocks + 0.4
    title = "Paths of classes through the blocks"
    width = _EDGE + max(beside + across, _BOLDER * text_width(title, 9)) + _EDGE
    images = ", ".join(f"{name}: {count}" for name, count in zip(names, counts.tolist(), strict=True))
    note = f"Band: share of the class's images with this {unit} on the path. Bar at the foot: all other {unit}s."
    lines = wrap(f"{note} Images: {images}.", width - 2 * _EDGE, _NOTE, lines=3)
    bottom = _FOOT + _LEADING * len(lines)
    figure = new_figure(width, bottom + _HEIGHT + _TITLE)
    axes = axes_in_inches(figure, _EDGE + beside, bottom, across, _HEIGHT)
    axes.set(xlim=(-_BAR, across - _BAR), ylim=(0, _HEIGHT), yticks=[])
    axes.spines[:].set_visible(False)
    axes.tick_params(axis="x", length=0)
    axes.set_xticks([_PITCH * (block + 1) for block in range(n_blocks)], [str(block) for block in range(n_blocks)])
    axes.set_xlabel("block")
    for place, (one, other) in enumerate(itertools.pairwise(columns)):
        for band in _bands(one, other, members, weights * scale):
            _draw_band(axes, place * _PITCH + _BAR, (place + 1) * _PITCH, band)
    for place, column in enumerate(columns):
        _draw_bars(axes, place * _PITCH, column, is_start=place == 0)
    for name, top, height in zip(names, start.top, start.height, strict=True):
        axes.text(-0.1, top - height / 2, name, ha="right", va="center", fontsize=7, color=INK)
    right, up = 1 / figure.get_size_inches()
    figure.text(_EDGE * right, 1 - 0.08 * up, title, va="top", fontsize=9, fontweight="bold")
    for place, line in enumerate(reversed(lines)):
        figure.text(_EDGE * right, (0.06 + _LEADING * place) * up, line, fontsize=_NOTE, color=MUTED)
    return figure


def _column(chosen: Neurons, before: _Column, weights: Floats, per_block: int) -> _Column:
    """The block's nodes, where its images come from: least crossed, the rest at the foot."""
    neurons, member = np.unique(chosen, return_inverse=True)
    totals = np.bincount(member, weights).round(9)
    kept = np.sort(np.lexsort((neurons, -totals))[:per_block])
    nodes = np.full(len(neurons), len(kept))
    nodes[kept] = np.arange(len(kept))
    node = nodes[member]
    names = neurons[kept] if len(kept) == len(neurons) else np.append(neurons[kept], _OTHER)
    centre = (before.top - before.height / 2)[before.node]
    means = np.bincount(node, weights * centre) / np.bincount(node, weights)
    order = np.lexsort((names, -means.round(9), names == _OTHER))
    rank = np.argsort(order)
    return _place(rank[node], names[order], weights)


def _place(node: Neurons, neurons: Neurons, weights: Floats) -> _Column:
    """Stack nodes from the top, the whole column in the middle."""
    height = np.bincount(node, weights, minlength=len(neurons)).astype(np.float64)
    spare = _HEIGHT - height.sum() - _GAP * (len(neurons) - 1)
    top = _HEIGHT - spare / 2 - np.concatenate([[0], np.cumsum(height + _GAP)[:-1]])
    return _Column(neurons, node, top, height)


def _bands(one: _Column, other: _Column, members: Neurons, weights: Floats) -> list[_Band]:
    """The bands between two blocks: one for each class, bar to the left and bar to the right."""
    flows = np.stack([members, one.node, other.node], axis=1)
    keys, which = np.unique(flows, axis=0, return_inverse=True)
    thickness = np.bincount(which.ravel(), weights).astype(np.float64)
    member, left, right = keys.T
    begin, end = _stack(one, left, member, right, thickness), _stack(other, right, member, left, thickness)
    return [_Band(*band) for band in zip(member.tolist(), thickness.tolist(), begin, end, strict=True)]


def _stack(column: _Column, bar: Neurons, member: Neurons, away: Neurons, thickness: Floats) -> list[float]:
    """Upper edge of each band at its bar: stacked by class, then by where it comes from or goes to."""
    order = np.lexsort((away, member, bar))
    above = np.cumsum(thickness[order]) - thickness[order]
    first = np.searchsorted(bar[order], bar[order])
    top = np.empty(len(bar))
    top[order] = column.top[bar[order]] - (above - above[first])
    return top.tolist()


def _draw_band(axes: Axes, left: float, right: float, band: _Band) -> None:
    thick, begin, end = band.thickness, band.begin, band.end
    middle = (left + right) / 2
    points = [(left, begin), (middle, begin), (middle, end), (right, end)]
    back = [(right, end - thick), (middle, end - thick), (middle, begin - thick), (left, begin - thick)]
    codes = [Path.MOVETO, *[Path.CURVE4] * 3, Path.LINETO, *[Path.CURVE4] * 3, Path.CLOSEPOLY]
    shape = Path([*points, *back, points[0]], codes)
    axes.add_patch(
        PathPatch(shape, facecolor=_COLOURS[band.member], alpha=0.55, edgecolor="white", linewidth=0.25, zorder=2)
    )


def _draw_bars(axes: Axes, left: float, column: _Column, *, is_start: bool) -> None:
    for place, (neuron, top, height) in enumerate(zip(column.neurons, column.top, column.height, strict=True)):
        rest = neuron == _OTHER and not is_start
        colour = _COLOURS[place] if is_start else MUTED if rest else INK
        axes.add_patch(Rectangle((left, top - height), _BAR, height, facecolor=colour, linewidth=0, zorder=3))
        if not is_start and height + _GAP >= LINE:
            word = "other" if rest else str(neuron)
            axes.text(
                left + _BAR + 0.03,
                top - height / 2,
                word,
                ha="left",
                va="center",
                fontsize=LABEL_SIZE,
                color=MUTED if rest else INK,
                zorder=4,
                bbox={"facecolor": "white", "alpha": 0.65, "pad": 0.4, "linewidth": 0},
            )
