"""Neuron indices beside their markers, placed so that none hides another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke

from neuron_path.report.figures.blocks import LABEL_SIZE, LINE, BlockGrid
from neuron_path.report.style import INK, MUTED

if TYPE_CHECKING:
    from neuron_path.report.figures.inputs import Floats, Neurons

_CLEAR: Final = 0.085


def label_neurons(axes: Axes, grid: BlockGrid, slots: Neurons, offset: float) -> None:
    """Write each chosen neuron's index beside its marker, so that no two labels of a block overlap.

    A label steps aside from the line that leaves its marker; crowded labels are spread as little as possible and joined
    to their markers. When a block has more neurons than lines of print fit, the first slots are labelled.

    Args:
        axes: from `block_axes`.
        grid: the same as the axes'.
        slots: (L, k) the path, best neuron first; −1 stands for none.
        offset: inches from the marker's centre to its label.
    """
    fitting = int((grid.height - LINE) / LINE)
    heights = grid.inches_up(slots)
    rise = np.diff(heights[:, 0], append=heights[-1, 0])
    for block, row in enumerate(slots):
        neurons = [neuron for neuron in dict.fromkeys(row.tolist()) if neuron >= 0][:fitting]
        if not neurons:
            continue
        markers = grid.inches_up(np.asarray(neurons))
        wanted = markers.copy()
        wanted[0] += -_CLEAR if rise[block] > 0 else _CLEAR
        order = np.argsort(markers, kind="stable")
        placed = spread(wanted[order], gap=LINE, low=LINE / 2, high=grid.height - LINE / 2)
        for index, height in zip(order, placed, strict=True):
            shift = height - markers[index]
            leader = {"arrowstyle": "-", "color": MUTED, "linewidth": 0.4, "shrinkA": 0, "shrinkB": 0}
            axes.annotate(
                str(neurons[index]),
                (block, neurons[index]),
                (72 * offset, 72 * shift),
                textcoords="offset points",
                ha="left",
                va="center_baseline",
                fontsize=LABEL_SIZE,
                color=INK if index == 0 else MUTED,
                zorder=6,
                path_effects=[withStroke(linewidth=1.6, foreground="white")],
                arrowprops=leader | {"relpos": (0, 0.5)} if abs(shift) > _CLEAR + 1e-9 else None,
            )


def spread(wanted: Floats | Sequence[float], *, gap: float, low: float, high: float) -> Floats:
    """Move positions as little as possible (least squares) so that they ascend, `gap` apart, within limits.

    Args:
        wanted: positions, in the order to keep.
        gap: smallest distance between neighbours.
        low, high: limits; there must be room for all positions.

    >>> spread([1.0, 1.0, 5.0], gap=1.0, low=0.0, high=5.5).tolist()
    [0.5, 1.5, 5.0]
    """
    steps = gap * np.arange(len(wanted))
    pools: list[tuple[float, int]] = []
    for value in np.asarray(wanted) - steps:
        mean, count = float(value), 1
        while pools and pools[-1][0] > mean:
            before, n_before = pools.pop()
            mean, count = (mean * count + before * n_before) / (count + n_before), count + n_before
        pools.append((mean, count))
    level = np.repeat([mean for mean, _ in pools], [count for _, count in pools])
    placed = np.clip(level, low, high - gap * (len(steps) - 1)) + steps
    return placed.astype(np.float64)
