"""Which neurons a class's images choose, block by block: the paper's violin figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neuron_path.errors import NeuronPathError
from neuron_path.report.figures.blocks import (
    DIGIT,
    STRIP,
    BlockGrid,
    axis_of,
    block_axes,
    draw_legend,
    draw_path,
    draw_shares,
    legend_height,
    strip_axes,
    unit_of,
)
from neuron_path.report.figures.inputs import Floats, Neurons, check_n_neurons, check_paths
from neuron_path.report.figures.labels import label_neurons
from neuron_path.report.style import BLUE, FAINT, MUTED, SKY, figure_style, new_figure
from neuron_path.report.text import printable, shorten, text_width

_EDGE: Final = 0.12
_LEFT: Final = 0.95
_TITLE: Final = 0.24
_PANEL: Final = 2.6
_FOOT: Final = 0.4
_HALF: Final = 0.14
_NARROWEST: Final = 2.6
_ONE_ROW: Final = 4.9
_SHORTEST: Final = 0.05
_KERNEL: Final = 0.02
_FEW: Final = 5
_BOLDER: Final = 1.15


def class_distribution_figure(
    paths: npt.ArrayLike,
    *,
    n_neurons: int | Sequence[int],
    class_name: str | int,
    n_images: int | None = None,
    units: str = "ffn",
) -> Figure:
    """Draw, for each block, the distribution of the neurons chosen over a class's images, and the mode through them.

    A violin is the density of the chosen indices, smoothed over a fiftieth of the block; fewer than five choices get
    none. On it every chosen neuron is a bar whose length says how often it was chosen, beside the block's mode, so
    that few images look like few. Beneath: the share of images whose path has the mode. Ties go to the lowest index.

    Args:
        paths: (N, L) or (N, L, k) integers, one path per image of the class.
        n_neurons: FFN width F, one for all blocks or one per block.
        class_name: the class, for the title.
        n_images: images of the class in all, where `paths` holds only a part of them.
        units: what the neurons are, "ffn", "heads" or "ffn+heads".

    Returns:
        The figure, to be shown or written with `save_figure`.

    Raises:
        NeuronPathError: a shape or an index is wrong, or `n_images` is less than N, or no such units.
    """
    slots = check_paths(paths, 2, name="paths")
    widths = check_n_neurons(n_neurons, slots, name="paths")
    n_paths = len(slots)
    if n_images is not None and n_images < n_paths:
        raise NeuronPathError(f"n_images is {n_images}, expected at least the {n_paths} images whose paths are given.")
    count = f"n = {n_paths}" if n_images in (None, n_paths) else f"n = {n_paths} of {n_images}"
    top_k = f", top-{slots.shape[2]} paths" if slots.shape[2] > 1 else ""
    with figure_style():
        words = f"{count} image{'s' if n_paths > 1 else ''}{top_k}"
        return _draw(slots, widths, printable(class_name), words, units)


def _draw(slots: Neurons, widths: Neurons, class_name: str, count: str, units: str) -> Figure:
    modes, shares = _modes(slots)
    reach = _HALF + 0.03 + DIGIT * len(str(int(modes.max())))
    grid = BlockGrid(widths, pitch=reach + _HALF + 0.03, left=_HALF + 0.08, right=reach + 0.04, height=_PANEL)
    bottom = _FOOT + STRIP
    with_violins = slots[:, 0].size >= _FEW
    width = _LEFT + max(grid.width, _NARROWEST) + _EDGE
    n_entries = 2 + with_violins
    in_one_row = grid.width > _ONE_ROW
    head = legend_height(1 if in_one_row else n_entries)
    figure = new_figure(width, bottom + _PANEL + head + _TITLE)
    panel = block_axes(figure, _LEFT, bottom, grid, axis_of(units))
    for block, neurons in enumerate(np.moveaxis(slots, 1, 0)):
        _draw_block(panel, grid, block, neurons.ravel(), unit_of(units), with_violin=with_violins)
    draw_path(panel, modes, label="mode, the most often chosen")
    label_neurons(panel, grid, modes[:, None], offset=_HALF + 0.03)
    draw_legend(panel, n_columns=n_entries if in_one_row else 1)
    strip = strip_axes(figure, _LEFT, _FOOT, grid, height=STRIP, label="images with\nthe mode (%)")
    draw_shares(strip, shares, full=1.0)
    _draw_title(figure, class_name, count)
    return figure


def _modes(slots: Neurons) -> tuple[Neurons, Floats]:
    """Return each block's most often chosen neuron, (L,), and the share of images whose path has it, (L,)."""
    modes = np.array([np.bincount(block.ravel()).argmax() for block in np.moveaxis(slots, 1, 0)])
    return modes, (slots == modes[None, :, None]).any(axis=2).mean(axis=0)


def _draw_block(panel: Axes, grid: BlockGrid, block: int, chosen: Neurons, unit: str, *, with_violin: bool) -> None:
    """Draw one block: its axis, the violin, and a bar for each chosen neuron."""
    width = int(grid.widths[block])
    half = _HALF / grid.pitch
    panel.plot([block, block], [-0.5, width - 0.5], color=FAINT, linewidth=0.6, zorder=1)
    neurons, counts = np.unique(chosen, return_counts=True)
    if with_violin:
        heights, density = _density(neurons, counts, width)
        reach = density / density.max() * half
        panel.fill_betweenx(
            heights,
            block - reach,
            block + reach,
            color=SKY,
            alpha=0.35,
            linewidth=0,
            zorder=2,
            label="_" if block else "density",
        )
    lengths = half * np.maximum(counts / counts.max(), _SHORTEST)
    panel.hlines(
        neurons,
        block - lengths,
        block + lengths,
        color=BLUE,
        linewidth=0.8,
        alpha=0.8,
        zorder=3,
        capstyle="butt",
        label="_" if block else f"chosen {unit}s, length: how often",
    )


def _density(neurons: Neurons, counts: Neurons, width: int) -> tuple[Floats, Floats]:
    """Smooth the counts of neurons over the block with a Gaussian kernel, reflected at the block's ends.

    The kernel is a fixed part of the block: neurons that are neighbours have nothing in common, so a kernel that
    widens with the spread of the data, as a violin's usually does, would only hide which neurons were chosen.

    Returns:
        Heights on the neuron axis, and the density there up to a factor.
    """
    kernel = max(_KERNEL * width, 0.5)
    low, high = -0.5, width - 0.5
    heights = np.linspace(max(low, neurons.min() - 3 * kernel), min(high, neurons.max() + 3 * kernel), 300)
    mirrored = np.concatenate([neurons, 2 * low - neurons, 2 * high - neurons])
    distances = (heights[:, None] - mirrored[None, :]) / kernel
    return heights, np.exp(-0.5 * distances**2) @ np.tile(counts, 3).astype(np.float64)


def _draw_title(figure: Figure, class_name: str, count: str) -> None:
    width, height = figure.get_size_inches()
    room = (width - 2 * _EDGE - text_width(count, 7.5) - 0.15) / _BOLDER
    title = shorten(f"Class {class_name}" if class_name.isdecimal() else class_name, room, 9)
    figure.text(_EDGE / width, 1 - 0.08 / height, title, fontsize=9, va="top", fontweight="bold")
    figure.text(1 - _EDGE / width, 1 - 0.1 / height, count, fontsize=7.5, va="top", ha="right", color=MUTED)
