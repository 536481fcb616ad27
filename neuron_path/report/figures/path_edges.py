"""How the effects of a path's neurons pass on: arcs from each neuron to the later ones."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from neuron_path.errors import NeuronPathError
from neuron_path.report.figures.blocks import unit_of
from neuron_path.report.figures.inputs import Floats, Neurons, check_paths
from neuron_path.report.style import (
    BLUE,
    FAINT,
    INK,
    MUTED,
    VERMILION,
    axes_in_inches,
    figure_style,
    new_figure,
)

_EDGE: Final = 0.12
_LEFT: Final = 0.95
_PITCH: Final = 0.42
"""From one block to the next, inches; from one neuron of a block to the next `_SLOT`."""
_SLOT: Final = 0.17
_ARCS: Final = 1.5
"""Height of the panel of arcs; half of it for those of each sign."""
_BARS: Final = 0.7
_FOOT: Final = 0.62
_HEAD: Final = 0.4
_WIDEST: Final = 4.5  # points, of the largest edge
_SLIMMEST: Final = 0.3


def path_edges_figure(
    path: npt.ArrayLike,
    edges: npt.ArrayLike,
    to_output: npt.ArrayLike,
    *,
    most: int = 20,
    sample_id: str | int | None = None,
    units: str = "ffn",
) -> Figure:
    """Draw what of each neuron's effect passes through each later one, and beneath what goes straight to the output.

    An arc joins two neurons, above the line where what passes raises the target function and below where it lowers it,
    as wide as the amount. Only the largest are drawn; the figure says how many there are, and how much they hold.

    Args:
        path: (L,) or (L, k) neurons, −1 for none.
        edges: (L, L) or (L, k, L, k), from the first index through the second, as of `neuron_path.path_edges`.
        to_output: (L,) or (L, k).
        most: so many edges are drawn, the largest.
        sample_id: the image's name.
        units: what the neurons are, "ffn", "heads" or "ffn+heads".

    Returns:
        The figure, to be shown or written with `save_figure`.

    Raises:
        NeuronPathError: shapes that do not fit each other, a number that is not finite, `most` below 1, or no such
            units.
    """
    slots = check_paths(path, 1, name="path", lowest=-1)
    numbers, straight = np.asarray(edges, np.float64), np.asarray(to_output, np.float64)
    n_blocks, k = slots.shape
    expected = {(n_blocks, k, n_blocks, k)} | ({(n_blocks, n_blocks)} if k == 1 else set())
    if numbers.shape not in expected or straight.size != slots.size:
        raise NeuronPathError(
            f"edges has shape {numbers.shape} and to_output {straight.shape}; expected {(n_blocks, k, n_blocks, k)} "
            f"and {(n_blocks, k)}, as of the path."
        )
    if not (np.isfinite(numbers).all() and np.isfinite(straight).all()):
        raise NeuronPathError("edges or to_output holds NaN or infinite numbers; expected finite ones.")
    if not isinstance(most, int) or most < 1:
        raise NeuronPathError(f"most is {most}; expected 1 or more edges to draw.")
    unit = unit_of(units)
    with figure_style():
        return _draw(slots, numbers.reshape(slots.size, slots.size), straight.reshape(-1), most, sample_id, unit)


def _draw(slots: Neurons, edges: Floats, straight: Floats, most: int, sample_id: str | int | None, unit: str) -> Figure:
    n_blocks, k = slots.shape
    pitch = max(_PITCH, _SLOT * k + 0.1)
    # Where each neuron stands, in blocks.
    across = (np.arange(n_blocks)[:, None] + (np.arange(k) - (k - 1) / 2) * _SLOT / pitch).reshape(-1)
    width = pitch * n_blocks
    figure = new_figure(_LEFT + width + _EDGE, _FOOT + _BARS + _ARCS + _HEAD)
    limits = (-0.5, n_blocks - 0.5)
    order = np.argsort(-np.abs(edges), axis=None)[:most]
    shown = [divmod(int(place), slots.size) for place in order if edges.flat[place] != 0]

    arcs = axes_in_inches(figure, _LEFT, _FOOT + _BARS, width, _ARCS)
    arcs.set(xlim=limits, ylim=(-1, 1), xticks=[], yticks=[])
    arcs.spines[:].set_visible(False)
    _draw_arcs(arcs, across, edges, shown, n_blocks)
    _name_neurons(arcs, across, slots.reshape(-1), {place for pair in shown for place in pair}, crowded=k > 1)
    arcs.set_ylabel(f"through later\n{unit}s")

    bars = axes_in_inches(figure, _LEFT, _FOOT, width, _BARS)
    totals = straight + edges.sum(1)
    bars.bar(across, straight, 0.6 * _SLOT / pitch if k > 1 else 0.3, color=FAINT, edgecolor=MUTED, linewidth=0.5)
    bars.plot(across, totals, linestyle="none", marker="o", markersize=3, color=INK)
    bars.axhline(0, color=MUTED, linewidth=0.6)
    bars.set(xlim=limits, xticks=range(n_blocks), xlabel="Block", ylabel="effect")
    bars.locator_params(axis="y", nbins=3)

    whole = float(np.abs(edges).sum())
    held = float(sum(abs(edges[pair]) for pair in shown)) / whole if whole else 0.0
    n_edges = int(np.count_nonzero(edges))
    words = f"{len(shown)} of {n_edges} edges are drawn, the largest, with {held:.0%} of all magnitudes."
    figure.text(_EDGE / figure.get_figwidth(), 0.03, words, fontsize=6, color=MUTED)
    if sample_id is not None:
        figure.text(
            _EDGE / figure.get_figwidth(), 1 - 0.05 / figure.get_figheight(), str(sample_id), fontsize=8, va="top"
        )
    handles = [
        Line2D([], [], color=VERMILION, linewidth=2, label="raises the target"),
        Line2D([], [], color=BLUE, linewidth=2, label="lowers it"),
        Line2D([], [], color=FAINT, linewidth=5, label="straight to the output"),
        Line2D([], [], color=INK, marker="o", markersize=3, linestyle="none", label="by all ways"),
    ]
    place = (1 - _EDGE / figure.get_figwidth(), 1)
    figure.legend(handles=handles, ncols=4 if width > 4 else 2, loc="upper right", bbox_to_anchor=place, fontsize=6)
    return figure


def _draw_arcs(axes: Axes, across: Floats, edges: Floats, shown: list[tuple[int, int]], n_blocks: int) -> None:
    largest = max((abs(edges[pair]) for pair in shown), default=1.0)
    axes.axhline(0, color=FAINT, linewidth=0.8, zorder=0)
    for start, end in reversed(shown):  # the largest last, on top
        left, right, value = across[start], across[end], edges[start, end]
        # The control points of a cubic curve whose top is at three quarters of their height.
        height = np.sign(value) * (0.18 + 0.78 * (right - left) / max(1, n_blocks - 1)) / 0.75
        curve = Path(
            [(left, 0), (left, height), (right, height), (right, 0)],
            [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4],
        )
        share = abs(value) / largest
        colour = VERMILION if value > 0 else BLUE
        line = max(_SLIMMEST, _WIDEST * share)
        axes.add_patch(PathPatch(curve, facecolor="none", edgecolor=colour, linewidth=line, alpha=0.35 + 0.5 * share))


def _name_neurons(axes: Axes, across: Floats, neurons: Neurons, used: set[int], *, crowded: bool) -> None:
    """Dots on the line, and the indices of the neurons that have an edge; where a block has several, upright."""
    real = neurons >= 0
    axes.plot(
        across[real], np.zeros(int(real.sum())), linestyle="none", marker="o", markersize=3.5, color=INK, zorder=3
    )
    for place in np.flatnonzero(real).tolist():
        if crowded and place not in used:
            continue
        axes.annotate(
            str(neurons[place]),
            (across[place], 0),
            xytext=(0, -4),
            textcoords="offset points",
            ha="center",
            va="top",
            fontsize=5.5 if crowded else 6.5,
            rotation=90 if crowded else 0,
            zorder=4,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 0.5},
        )
