"""One image, and its neuron path drawn through the blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch

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
from neuron_path.report.figures.inputs import (
    Floats,
    Neurons,
    check_image,
    check_n_neurons,
    check_paths,
    check_per_block,
    check_scores,
)
from neuron_path.report.figures.labels import label_neurons
from neuron_path.report.figures.picture import NAME, SIDE, ClassNames, draw_picture, image_facts, picture_height
from neuron_path.report.style import BLUE, FAINT, ORANGE, figure_style, new_figure

_EDGE: Final = 0.12
_GAP: Final = 0.72
_PANEL: Final = 2.45
_FOOT: Final = 0.4
_LEGEND: Final = 2.6
_SPIKE: Final = 0.09
_PIXELS: Final = 240
_ALL_LABELLED: Final = 3


def image_path_figure(
    image: npt.ArrayLike | None,
    path: npt.ArrayLike,
    *,
    n_neurons: int | Sequence[int],
    candidate_scores: npt.ArrayLike | None = None,
    margins: npt.ArrayLike | None = None,
    label: int | None = None,
    target: int | None = None,
    prediction: int | None = None,
    target_probability: float | None = None,
    score: float | None = None,
    sample_id: str | int | None = None,
    class_names: ClassNames | None = None,
    units: str = "ffn",
) -> Figure:
    """Draw one image beside its neuron path: blocks from left to right, neuron indices upwards.

    With candidate scores, each block has a symmetric profile of them, from the block's median (no width) to its best
    (full width), so that one sees how far the chosen neuron stands out; where there are more neurons than the print
    resolves, the profile keeps the best of neighbours. Where a block has k > 1 neurons, the line joins the best ones,
    and indices are written for all up to k = 3, beyond that for the best.

    Args:
        image: (H, W) or (H, W, 3), values in [0, 1], or 0 to 255 of type uint8; small images keep their pixels.
            None: the path alone, beside what is known of the image.
        path: (L,) or (L, k) integers, the neuron(s) of each block, best first; −1 stands for none. Neurons that are
            not of every block are drawn without a line.
        n_neurons: FFN width F, one for all blocks or one per block.
        candidate_scores: (L, F) the search's objective for every candidate; what is not finite is left blank. With
            widths that differ, F is the largest, and columns beyond a block's width are not read.
        margins: (L,) relative gap of best to runner-up, as fractions, shown in percent beneath the blocks.
        label: the image's class, where known.
        target: the class whose probability the path drives.
        prediction: the model's class.
        target_probability: softmax probability of the target, in [0, 1].
        score: the path's final score.
        sample_id: the image's name.
        class_names: names by class index.
        units: what the neurons are, "ffn", "heads" or "ffn+heads".

    Returns:
        The figure, to be shown or written with `save_figure`.

    Raises:
        NeuronPathError: a shape, a range or a path index is wrong.
    """
    pixels = None if image is None else check_image(image)
    slots = check_paths(path, 1, name="path", lowest=-1)
    widths = check_n_neurons(n_neurons, slots, name="path")
    scores = None if candidate_scores is None else check_scores(candidate_scores, widths)
    gaps = None if margins is None else check_per_block(margins, len(widths), name="margins")
    facts = image_facts(
        label=label,
        prediction=prediction,
        target=target,
        target_probability=target_probability,
        score=score,
        class_names=class_names,
    )
    with figure_style():
        figure, (left, top) = _draw_path_panel(
            slots, widths, scores, gaps, room=picture_height(pixels, facts), units=units
        )
        draw_picture(figure, pixels, left, top, name=None if sample_id is None else str(sample_id), facts=facts)
    return figure


def _draw_path_panel(
    slots: Neurons, widths: Neurons, scores: Floats | None, gaps: Floats | None, *, room: float, units: str
) -> tuple[Figure, tuple[float, float]]:
    """Draw all but the picture, and leave `room` inches beneath the panel's upper edge for it.

    Returns:
        The figure, and where the picture's upper left corner goes, inches.
    """
    is_path, unit = bool((slots >= 0).all()), unit_of(units)
    n_others = slots.shape[1] - 1 if is_path else 0
    n_entries = 1 + (scores is not None) + (n_others > 0)
    beside = 0.03 + (_SPIKE if scores is not None else 0.06)
    reach = beside + DIGIT * len(str(int(slots.max())))
    grid = BlockGrid(widths, pitch=max(0.36, reach + beside), left=beside + 0.06, right=reach + 0.04, height=_PANEL)
    strip = STRIP if gaps is not None else 0.04
    foot = max(_FOOT, room - _PANEL - strip)
    left, bottom = _EDGE + SIDE + _GAP, foot + strip
    in_one_row = grid.width > n_entries * _LEGEND / 1.5
    head = max(legend_height(1 if in_one_row else n_entries), NAME)
    figure = new_figure(
        left + max(grid.width, _LEGEND if scores is not None else 0.7 * _LEGEND) + _EDGE, bottom + _PANEL + head
    )
    panel = block_axes(figure, left, bottom, grid, axis_of(units))
    _draw_columns(panel, grid, scores)
    if n_others:
        panel.plot(
            np.repeat(np.arange(len(slots)), n_others),
            slots[:, 1:].ravel(),
            linestyle="",
            marker="o",
            markersize=3.8,
            color=ORANGE,
            markeredgecolor="white",
            markeredgewidth=0.6,
            zorder=3,
            label=f"the block's next {n_others}" if n_others > 1 else "the block's second",
        )
    if is_path:
        draw_path(panel, slots[:, 0], label=f"each block's best {unit}" if n_others else f"{unit} path")
    else:
        blocks, places = np.nonzero(slots >= 0)
        draw_path(panel, slots[blocks, places], label=f"{unit}s", blocks=blocks, line="")
    label_neurons(panel, grid, slots if n_others < _ALL_LABELLED else slots[:, :1], offset=beside)
    draw_legend(panel, n_columns=n_entries if in_one_row else 1)
    below = strip_axes(figure, left, foot, grid, height=strip, label="margin (%)" if gaps is not None else "")
    if gaps is not None:
        draw_shares(below, gaps)
    return figure, (_EDGE, bottom + _PANEL)


def _draw_columns(panel: Axes, grid: BlockGrid, scores: Floats | None) -> None:
    """Draw each block's axis and, as a symmetric profile about it, how its candidates scored."""
    for block, width in enumerate(grid.widths.tolist()):
        panel.plot([block, block], [-0.5, width - 0.5], color=FAINT, linewidth=0.8, zorder=1)
        if scores is None:
            continue
        standing, edges = _standing(scores[block, :width])
        half = standing * _SPIKE / grid.pitch
        profile = StepPatch(
            block + half,
            edges,
            baseline=block - half,  # pyright: ignore[reportArgumentType] - it takes arrays, as `stairs` does
            orientation="horizontal",
            fill=True,
            facecolor=BLUE,
            alpha=0.55,
            linewidth=0.3,
            zorder=2,
            label=None if block else "candidates' scores, block median to best",
        )
        panel.add_artist(profile)  # `stairs` would look at every step for limits, which the grid has set


def _standing(scores: Floats) -> tuple[Floats, Floats]:
    """Scale a block's scores, (F,), so that its median is 0 and its best 1.

    Returns:
        The scaled scores and the edges between them on the neuron axis; where there are more neurons than the print
        resolves, the best of each group of neighbours.
    """
    known = np.where(np.isfinite(scores), scores, np.nan)
    if np.isnan(known).all():
        return np.zeros(1), np.array([-0.5, len(scores) - 0.5])
    median, best = np.nanmedian(known), np.nanmax(known)
    scaled = np.nan_to_num((known - median) / (best - median if best > median else 1.0)).clip(0, 1)
    starts = np.arange(0, len(scaled), -(-len(scaled) // _PIXELS))
    return np.maximum.reduceat(scaled, starts), np.append(starts, len(scaled)) - 0.5
