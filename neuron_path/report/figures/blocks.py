"""The frame that figures of paths share: blocks from left to right, neuron indices upwards, a path through them.

Sizes are in inches, because what must not overlap is print: a label is as high as its letters whatever the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from neuron_path.errors import unknown_name
from neuron_path.report.style import MUTED, SKY, VERMILION, axes_in_inches

if TYPE_CHECKING:
    from neuron_path.report.figures.inputs import Floats, Neurons

DIGIT: Final = 0.058
"""Width of a digit in a label, inches."""
LINE: Final = 0.095
"""Height that a label takes, inches."""
PAD: Final = 0.13
"""Room above the highest and below the lowest neuron, inches: half a label, and its shift."""
LABEL_SIZE: Final = 6.5
STRIP: Final = 0.38
"""Height of the strip of bars beneath a panel, inches."""
_VALUE: Final = 0.3
"""Part of the strip that a bar's value takes."""


@dataclass(frozen=True)
class BlockGrid:
    """Where blocks and neurons lie on paper.

    Attributes:
        widths: FFN width of each block, (L,).
        pitch: inches from one block to the next.
        left: inches from the axes' left edge to block 0.
        right: inches from the last block to the axes' right edge.
        height: inches of the axes.
    """

    widths: Neurons
    pitch: float
    left: float
    right: float
    height: float

    @property
    def n_blocks(self) -> int:
        """Number of blocks L."""
        return len(self.widths)

    @property
    def width(self) -> float:
        """Width of the axes, inches."""
        return self.left + self.pitch * (self.n_blocks - 1) + self.right

    @property
    def x_limits(self) -> tuple[float, float]:
        """Limits of the block axis, in blocks."""
        return -self.left / self.pitch, self.n_blocks - 1 + self.right / self.pitch

    @property
    def neurons_per_inch(self) -> float:
        """Scale of the neuron axis."""
        return float(self.widths.max()) / (self.height - 2 * PAD)

    @property
    def y_limits(self) -> tuple[float, float]:
        """Limits of the neuron axis, in neurons."""
        pad = PAD * self.neurons_per_inch
        return -0.5 - pad, float(self.widths.max()) - 0.5 + pad

    def inches_up(self, neurons: Neurons) -> Floats:
        """Height of neurons above the axes' lower edge, inches."""
        return (neurons.astype(np.float64) - self.y_limits[0]) / self.neurons_per_inch


_UNITS: Final = {
    "ffn": ("neuron", "FFN neuron index"),
    "heads": ("head", "Attention head"),
    "ffn+heads": ("unit", "Head, FFN neuron, in turn"),
}


def unit_of(units: str) -> str:
    """What a path consists of, in one word.

    Raises:
        NeuronPathError: no such units.

    >>> unit_of("ffn"), unit_of("heads"), unit_of("ffn+heads")
    ('neuron', 'head', 'unit')
    """
    if units not in _UNITS:
        raise unknown_name("choice of units", units, _UNITS)
    return _UNITS[units][0]


def axis_of(units: str) -> str:
    """What a path consists of, as the label of its axis.

    Raises:
        NeuronPathError: no such units.
    """
    unit_of(units)
    return _UNITS[units][1]


def block_axes(figure: Figure, left: float, bottom: float, grid: BlockGrid, label: str) -> Axes:
    """Add the panel in which paths are drawn, its lower left corner at (left, bottom) inches."""
    axes = axes_in_inches(figure, left, bottom, grid.width, grid.height)
    axes.set_xlim(grid.x_limits)
    axes.set_ylim(grid.y_limits)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    axes.spines["left"].set_bounds(-0.5, float(grid.widths.max()) - 0.5)
    axes.set_yticks(_index_ticks(int(grid.widths.max())))
    axes.set_ylabel(label)
    return axes


def _index_ticks(width: int) -> list[int]:
    ticks = MaxNLocator(nbins=5, integer=True, steps=[1, 2, 4, 5, 10]).tick_values(0, width - 1)
    return [int(tick) for tick in ticks if 0 <= tick <= width - 1]


def strip_axes(figure: Figure, left: float, bottom: float, grid: BlockGrid, *, height: float, label: str) -> Axes:
    """Add a slim panel with the blocks' numbers beneath it, to lie under a panel made by `block_axes`."""
    axes = axes_in_inches(figure, left, bottom, grid.width, height)
    axes.set_xlim(grid.x_limits)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_xticks(range(grid.n_blocks))
    axes.spines["bottom"].set_bounds(-0.5 * min(1.0, 2 * grid.left / grid.pitch), grid.n_blocks - 0.5)
    axes.set_xlabel("Block")
    axes.set_ylabel(label, rotation=0, ha="right", va="center", labelpad=6, fontsize=7)
    return axes


def draw_shares(axes: Axes, shares: Floats, *, full: float | None = None) -> None:
    """Draw one bar a block with its value in percent above it; a share that is not a number is shown as a dash.

    Args:
        axes: from `strip_axes`.
        shares: (L,) fractions, 0 or more.
        full: the share whose bar fills the strip; the largest one when not given.
    """
    heights = np.nan_to_num(shares, nan=0.0, posinf=0.0, neginf=0.0).clip(0)
    axes.set_ylim(0, (full or heights.max() or 1.0) / (1 - _VALUE))
    axes.bar(range(len(shares)), heights, width=0.36, color=SKY, linewidth=0)
    for block, (share, height) in enumerate(zip(shares, heights, strict=True)):
        axes.annotate(
            _percent_number(float(share)),
            (block, height),
            (0, 1.5),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=LABEL_SIZE - 0.5,
            color=MUTED,
        )


def _percent_number(share: float) -> str:
    """Write a fraction as a percentage number of at most four characters.

    >>> [_percent_number(value) for value in (float("nan"), 0.0, 0.0004, 0.034, 0.41, 1.0)]
    ['–', '0', '<0.1', '3.4', '41', '100']
    """
    if not np.isfinite(share):
        return "–"
    percent = 100 * share
    if 0 < percent < 0.05:
        return "<0.1"
    return f"{percent:.1f}" if 0 < percent < 9.95 else f"{percent:.0f}"


def legend_height(n_rows: int) -> float:
    """Room to leave above a panel for a legend of `n_rows` lines, inches."""
    return 0.14 + 0.14 * n_rows


def draw_legend(axes: Axes, n_columns: int) -> None:
    """Put the legend above the panel's left end, the artist drawn last first."""
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1),
        borderaxespad=0.1,
        borderpad=0,
        handletextpad=0.6,
        columnspacing=1.6,
        handlelength=1.6,
        labelspacing=0.35,
        ncols=n_columns,
        labelcolor=MUTED,
        reverse=True,
    )


def draw_path(axes: Axes, neurons: Neurons, *, label: str, blocks: Neurons | None = None, line: str = "-") -> None:
    """Draw one path as markers joined by a line.

    Args:
        axes: from `block_axes`.
        neurons: (L,) indices.
        label: its name in the legend.
        blocks: (L,) where they are, if not one in each block.
        line: its style.
    """
    blocks = np.arange(len(neurons)) if blocks is None else blocks
    axes.plot(blocks, neurons, color="white", linewidth=2.4, linestyle=line, zorder=3.5)
    axes.plot(
        blocks,
        neurons,
        color=VERMILION,
        linewidth=1.3,
        linestyle=line,
        marker="o",
        markersize=5.2,
        markeredgecolor="white",
        markeredgewidth=0.9,
        zorder=4,
        label=label,
    )
