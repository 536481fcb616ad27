"""What figures of matrices share: the scale of colours, names of classes, and as many labels as fit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from neuron_path.errors import NeuronPathError
from neuron_path.report.figures.picture import ClassNames
from neuron_path.report.style import BLUE, FAINT, INK, MUTED, SKY, axes_in_inches
from neuron_path.report.text import printable, shorten, text_width

if TYPE_CHECKING:
    from neuron_path.report.figures.inputs import Floats

SCALE: Final = LinearSegmentedColormap.from_list("neuron_path", ["#FFFFFF", SKY, BLUE, "#04233B"])
"""From paper to ink through one hue: darker is more, in colour, in grey and for any eye."""
BAR: Final = 0.5
"""Height that a colour bar takes with its ticks and its label, inches."""
LABEL: Final = 7.0
"""Size of class names, points."""
LINE: Final = 0.125
"""Height of a class name, inches."""
_LONGEST: Final = 1.5
_BAR_WIDTH: Final = 1.5


def name_classes(classes: npt.NDArray[np.generic], names: ClassNames | None) -> list[str]:
    """Name each class by its index, and by a word where there is one that says more, cut to what fits beside a matrix.

    >>> name_classes(np.array([0, 1, 7]), ["cat", "1"])
    ['0 cat', '1', '7']
    """
    shown = []
    for index in classes.tolist():
        known = None
        if names is not None and isinstance(index, int):
            known = names.get(index) if not isinstance(names, Sequence) else dict(enumerate(names)).get(index)
        text = str(index) if known is None or known == str(index) else f"{index} {known}"
        shown.append(shorten(printable(text), _LONGEST, LABEL))
    return shown


def widest(names: Sequence[str]) -> float:
    """Width of the longest of the names, inches."""
    return max(text_width(name, LABEL) for name in names)


def shown_labels(n: int, pitch: float) -> list[int]:
    """Return which of n rows, ``pitch`` inches apart, have their name written: all, or every second, third, ….

    >>> shown_labels(3, pitch=0.2), shown_labels(5, pitch=0.07)
    ([0, 1, 2], [0, 2, 4])
    """
    return list(range(0, n, max(1, math.ceil(LINE / pitch - 1e-9))))


def label_note(n: int, shown: Sequence[int]) -> str:
    """Say which classes are named, where not all are.

    >>> label_note(5, [0, 2, 4]), label_note(3, [0, 1, 2])
    ('every 2nd class is named', '')
    """
    if len(shown) == n:
        return ""
    step = shown[1] - shown[0] if len(shown) > 1 else n
    ending = {1: "st", 2: "nd", 3: "rd"}.get(step % 10 if step % 100 not in (11, 12, 13) else 0, "th")
    return f"every {step}{ending} class is named"


def draw_bar(figure: Figure, image: AxesImage, left: float, bottom: float, label: str) -> None:
    """Draw the scale of an image's colours, a horizontal bar whose lower left corner is at (left, bottom) inches."""
    axes = axes_in_inches(figure, left, bottom, _BAR_WIDTH, 0.09)
    bar = figure.colorbar(image, cax=axes, orientation="horizontal")
    bar.outline.set(edgecolor=FAINT, linewidth=0.6)  # pyright: ignore[reportCallIssue]
    bar.ax.tick_params(labelsize=6.5, length=2, pad=1.5)
    bar.ax.locator_params(nbins=4)
    axes.annotate(
        label,
        (1, 0.5),
        (6, 0),
        xycoords="axes fraction",
        textcoords="offset points",
        va="center",
        fontsize=7,
        color=MUTED,
    )


def frame(axes: Axes) -> None:
    """Draw a thin frame around a matrix and no ticks but the ones that will be set."""
    axes.spines[:].set(visible=True, color=FAINT, linewidth=0.6)
    axes.tick_params(length=0, labelcolor=INK, labelsize=LABEL, pad=2)


def check_finite(values: npt.ArrayLike, name: str) -> Floats:
    """Return values as float64 after checking that each is a number.

    Raises:
        NeuronPathError: for anything else, or values that are not finite.
    """
    try:
        array = np.asarray(values, dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise NeuronPathError(f"{name} holds what is no number ({error}); expected numbers.") from error
    if not np.isfinite(array).all():
        raise NeuronPathError(f"{name} holds NaN or infinite values, expected numbers.")
    return array
