"""Where in the picture: a number for each patch, over the picture itself."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure

from neuron_path.errors import NeuronPathError
from neuron_path.report.figures.inputs import Floats, check_image
from neuron_path.report.figures.picture import NAME, SIDE, draw_picture
from neuron_path.report.style import BLUE, FAINT, MUTED, VERMILION, axes_in_inches, figure_style, new_figure

_EDGE: Final = 0.12
_GAP: Final = 0.16
_BAR: Final = 0.09
_BAR_ROOM: Final = 0.8
_OVER: Final = 0.72
"""How much of the picture the strongest patch hides."""
_PALE: Final = 0.35
"""How light black is drawn, so that colours over it can be told apart."""
_COLOURS: Final = LinearSegmentedColormap.from_list("against_for", [BLUE, "#F2F2F2", VERMILION])
_SAYS: Final = {
    "effect": ("adds to\nthe effect", "lessens it"),
    "activation": ("active", "below 0"),
}


def heat_map_figure(
    image: npt.ArrayLike | None,
    values: npt.ArrayLike,
    *,
    quantity: str = "effect",
    sample_id: str | int | None = None,
) -> Figure:
    """Draw a number for each patch beside the picture and over it.

    Colour says the sign and strength the size: what is 0 shows the picture as it is, the largest magnitude hides most
    of it. The patch with the largest value has a frame, and the scale at the side has its numbers, symmetric about 0.

    Args:
        image: (H, W) or (H, W, 3), values in [0, 1], or 0 to 255 of type uint8, cut as the model saw it. None: the map
            alone.
        values: (rows, columns), the upper left patch first.
        quantity: "effect" or "activation": what the numbers are.
        sample_id: the image's name.

    Returns:
        The figure, to be shown or written with `save_figure`.

    Raises:
        NeuronPathError: another shape, a value that is not finite, or no such quantity.
    """
    pixels = None if image is None else check_image(image)
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 2 or numbers.size == 0:
        raise NeuronPathError(f"values has shape {numbers.shape}, expected (rows, columns) with no empty axis.")
    if not np.isfinite(numbers).all():
        raise NeuronPathError("values holds NaN or infinite numbers, expected a finite one for each patch.")
    if quantity not in _SAYS:
        raise NeuronPathError(f"quantity is '{quantity}', expected one of: {', '.join(_SAYS)}.")
    name = None if sample_id is None else str(sample_id)
    with figure_style():
        return _draw(pixels, numbers, quantity, name)


def _draw(pixels: Floats | None, values: Floats, quantity: str, name: str | None) -> Figure:
    shape = values.shape if pixels is None else pixels.shape[:2]
    height, width = (SIDE * side / max(shape) for side in shape)
    left = _EDGE if pixels is None else _EDGE + width + _GAP
    figure = new_figure(left + width + _BAR_ROOM, _EDGE + height + NAME)
    top = _EDGE + height
    if pixels is not None:
        draw_picture(figure, pixels, _EDGE, top, name=name, facts=[])
    largest = float(np.abs(values).max()) or 1.0
    axes = axes_in_inches(figure, left, _EDGE, width, height)
    draw_heat(axes, pixels, values, largest)
    if pixels is None and name is not None:
        draw_picture(figure, None, left, top, name=name, facts=[])
    _draw_scale(figure, left + width + 0.1, _EDGE, height, largest, quantity)
    return figure


def draw_heat(axes: Axes, pixels: Floats | None, values: Floats, largest: float) -> None:
    """Draw a map over a picture; where there is none, over nothing.

    Args:
        axes: that the picture fills.
        pixels: (H, W) or (H, W, 3) in [0, 1].
        values: (rows, columns).
        largest: the magnitude that takes the strongest colour.
    """
    rows, columns = values.shape
    extent = (0.0, float(columns), float(rows), 0.0)
    strength = np.ones_like(values)
    if pixels is not None:
        grey = _PALE + (1 - _PALE) * (pixels if pixels.ndim == 2 else pixels.mean(2))
        axes.imshow(grey, cmap="gray", vmin=0, vmax=1, extent=extent, aspect="auto", interpolation="none")
        strength = _OVER * np.abs(values) / largest
    colours = _COLOURS(Normalize(-largest, largest)(values))
    colours[..., 3] = strength
    axes.imshow(colours, extent=extent, aspect="auto", interpolation="none")
    row, column = np.unravel_index(int(values.argmax()), values.shape)
    across, down = column + np.array([0, 1, 1, 0, 0]), row + np.array([0, 0, 1, 1, 0])
    for colour, line in (("white", 2.6), ("black", 1.0)):
        axes.plot(across, down, color=colour, linewidth=line, clip_on=False, zorder=4)
    axes.set(xticks=[], yticks=[], xlim=(0, columns), ylim=(rows, 0))
    axes.spines[:].set(visible=True, color=FAINT)


def _draw_scale(figure: Figure, left: float, bottom: float, height: float, largest: float, quantity: str) -> None:
    """The colours with the numbers that they stand for, and what their signs say."""
    axes = axes_in_inches(figure, left, bottom, _BAR, height)
    scale = figure.colorbar(ScalarMappable(Normalize(-largest, largest), _COLOURS), cax=axes)
    scale.outline.set_visible(False)  # pyright: ignore[reportCallIssue] - a spine
    scale.set_ticks([-largest, 0, largest], labels=[f"−{largest:.2g}", "0", f"+{largest:.2g}"])
    axes.tick_params(length=0, pad=2)
    labels = axes.get_yticklabels()
    for label, place in zip(labels, ("bottom", "center", "top"), strict=True):
        label.set_verticalalignment(place)
    for words, height_of in zip(_SAYS[quantity], (0.75, 0.25), strict=True):
        axes.text(1.5, height_of, words, transform=axes.transAxes, va="center", fontsize=6, color=MUTED)
