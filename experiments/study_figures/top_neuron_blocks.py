"""Over which blocks the neurons with the highest attribution lie, model by model: the paper's preliminary figure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from neuron_path.errors import NeuronPathError
from neuron_path.report.figures.inputs import Neurons
from neuron_path.report.style import BLUE, INK, MUTED, SKY, axes_in_inches, figure_style, new_figure
from neuron_path.report.text import printable, shorten, text_width

_EDGE: Final = 0.12
_LEFT: Final = 0.62
_PITCH: Final = 0.26
_BOLDER: Final = 1.15
_HEIGHT: Final = 1.05
_ABOVE: Final = 0.24
_BETWEEN: Final = 0.22
_FOOT: Final = 0.58
_NOTE: Final = "Bar: mean share over images; line: middle half of the images; dashed: the same in every block."
_TITLE: Final = 0.3


def count_top_neurons(candidate_scores: npt.ArrayLike, n_top: int = 10) -> Neurons:
    """Count for each image how many of its ``n_top`` neurons with the highest score lie in each block.

    Neurons are scored one by one, without a path: give a scorer that rates each block by itself, such as
    `integrated_gradients` (`find_paths(…, scorer="integrated_gradients", keep_candidates=True).candidate_scores`).

    Args:
        candidate_scores: (n, L, F); NaN where a block is narrower. Ties go to the earlier block, then the lower index.
        n_top: neurons of an image, 1 … L · F.

    Returns:
        (n, L) counts; each row sums to ``n_top``.

    Raises:
        NeuronPathError: another shape, or fewer neurons than ``n_top``.

    >>> count_top_neurons([[[0.1, 0.9], [0.8, 0.2], [0.0, 0.7]]], n_top=2).tolist()
    [[1, 1, 0]]
    """
    scores = np.asarray(candidate_scores, dtype=np.float64)
    if scores.ndim != 3 or not scores.size:
        raise NeuronPathError(f"candidate_scores has shape {scores.shape}, expected (n, L, F) with no empty axis.")
    n_images, n_blocks, width = scores.shape
    flat = np.where(np.isnan(scores), -np.inf, scores).reshape(n_images, -1)
    fewest = int(np.isfinite(flat).sum(axis=1).min())
    if not 1 <= n_top <= fewest:
        raise NeuronPathError(f"n_top is {n_top}, expected 1 to {fewest}, the neurons that have a score.")
    top = np.argsort(-flat, axis=1, kind="stable")[:, :n_top]
    counts = np.zeros((n_images, n_blocks), dtype=np.int64)
    np.add.at(counts, (np.arange(n_images)[:, None], top // width), 1)
    return counts


def top_neuron_blocks_figure(counts: Mapping[str, npt.ArrayLike]) -> Figure:
    """Draw, for each model, the share of the highest-scored neurons that lies in each block, and its spread.

    Bars are means over images, lines reach from the first to the third quartile of the images. A dashed line is where
    all bars would end if neurons lay in all blocks alike.

    Args:
        counts: by name of the model (n, L) neurons in each block, as :func:`count_top_neurons` counts them.

    Returns:
        The figure, to be shown or written with `save_figure`.

    Raises:
        NeuronPathError: no model, another shape, or an image without a neuron.
    """
    if not counts:
        raise NeuronPathError("There is no model to draw; give counts by name of the model.")
    shares = {}
    for name, values in counts.items():
        array = np.asarray(values, dtype=np.float64)
        if array.ndim != 2 or not array.size or not np.isfinite(array).all() or array.min() < 0:
            raise NeuronPathError(
                f"The counts of '{name}' have shape {array.shape}, expected (n, L) numbers from 0 up."
            )
        if not array.sum(axis=1).all():
            raise NeuronPathError(f"An image of '{name}' has no neuron in any block, expected as many in each image.")
        shares[name] = array / array.sum(axis=1, keepdims=True)
    with figure_style():
        return _draw(shares, {name: int(np.asarray(values)[0].sum()) for name, values in counts.items()})


def _draw(shares: Mapping[str, np.ndarray], n_top: Mapping[str, int]) -> Figure:
    title = "Blocks of the neurons with the highest attribution"
    least = max(_BOLDER * text_width(title, 9), text_width(_NOTE, 6.5)) + _EDGE - _LEFT
    across = max(least, *(_PITCH * share.shape[1] for share in shares.values()))
    pitch = _HEIGHT + _ABOVE
    figure = new_figure(_LEFT + across + _EDGE, _FOOT + len(shares) * (pitch + _BETWEEN) - _BETWEEN + _TITLE)
    for place, (name, share) in enumerate(reversed([*shares.items()])):
        bottom = _FOOT + place * (pitch + _BETWEEN)
        axes = axes_in_inches(figure, _LEFT, bottom, across, _HEIGHT)
        _draw_panel(axes, share, with_label=place == 0)
        words = shorten(printable(name), across - 1.5, 8.5)
        axes.set_title(words, loc="left", fontsize=8.5, pad=4)
        told = f"top {n_top[name]} neurons of {len(share)} image{'s' if len(share) > 1 else ''}"
        axes.set_title(told, loc="right", fontsize=7, color=MUTED, pad=4)
    width, height = figure.get_size_inches()
    figure.text(_EDGE / width, 1 - 0.08 / height, title, va="top", fontsize=9, fontweight="bold")
    figure.text(_EDGE / width, 0.08 / height, _NOTE, fontsize=6.5, color=MUTED)
    return figure


def _draw_panel(axes: Axes, share: np.ndarray, *, with_label: bool) -> None:
    n_blocks = share.shape[1]
    blocks = np.arange(n_blocks)
    low, high = np.quantile(share, (0.25, 0.75), axis=0)
    axes.bar(blocks, share.mean(axis=0), width=0.68, color=SKY, edgecolor=BLUE, linewidth=0.6, zorder=2)
    axes.vlines(blocks, low, high, color=INK, linewidth=1.1, zorder=3)
    axes.axhline(1 / n_blocks, color=MUTED, linewidth=0.7, linestyle=(0, (4, 3)), zorder=4)
    axes.set_xlim(-0.6, n_blocks - 0.4)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
    if n_blocks <= 16:
        axes.set_xticks(blocks)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=12, integer=True))
    axes.set_ylabel("neurons", fontsize=7)
    if with_label:
        axes.set_xlabel("block")
