"""The side of a figure that shows the image itself: its pixels, its name, and what is known about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from matplotlib.figure import Figure

from neuron_path.report.style import FAINT, MUTED, axes_in_inches
from neuron_path.report.text import printable, shorten, wrap

if TYPE_CHECKING:
    from neuron_path.report.figures.inputs import Floats

ClassNames = Sequence[str] | Mapping[int, str]
"""Names of classes by index."""

SIDE: Final = 1.75
"""The picture's longer side, and the width of all that is written about it, inches."""
NAME: Final = 0.28
"""Room for the image's name above it, inches."""
_COARSE: Final = 64
_KEY: Final = 0.62
_ABOVE: Final = 0.2
_LEADING: Final = 0.125
_BETWEEN: Final = 0.02


def image_facts(
    *,
    label: int | None,
    prediction: int | None,
    target: int | None,
    target_probability: float | None,
    score: float | None,
    class_names: ClassNames | None,
) -> list[tuple[str, str]]:
    """List what is known about an image as (key, value) lines; a prediction that differs from the label is "wrong".

    >>> image_facts(label=3, prediction=5, target=None, target_probability=0.5, score=None, class_names=None)
    [('label', '3'), ('prediction', 'wrong: 5'), ('p(target)', '0.5')]
    """
    facts = []
    if label is not None:
        facts.append(("label", _class_name(label, class_names)))
    if prediction is not None:
        verdict = "wrong: " if label is not None and prediction != label else ""
        facts.append(("prediction", verdict + _class_name(prediction, class_names)))
    if target is not None:
        facts.append(("target", _class_name(target, class_names)))
    if target_probability is not None:
        facts.append(("p(target)", f"{target_probability:.3g}"))
    if score is not None:
        facts.append(("path score", f"{score:.3g}".replace("-", "−")))
    return facts


def _class_name(index: int, names: ClassNames | None) -> str:
    """Name a class by its index, and by a word where there is one that says more."""
    known = None
    if isinstance(names, Mapping):
        known = names.get(index)
    elif names is not None and 0 <= index < len(names):
        known = names[index]
    return str(index) if known is None or known == str(index) else printable(f"{index} {known}")


def picture_height(pixels: Floats | None, facts: Sequence[tuple[str, str]]) -> float:
    """Inches from the picture's upper edge to the end of what is written beneath it."""
    n_lines = sum(len(_lines(value)) for _, value in facts)
    return _drawn_height(pixels) + _ABOVE + _LEADING * n_lines + _BETWEEN * len(facts)


def _drawn_height(pixels: Floats | None) -> float:
    """Inches of the picture itself: none where there is no picture."""
    if pixels is None:
        return 0.0
    height, width = pixels.shape[:2]
    return SIDE * height / max(height, width)


def _lines(value: str) -> list[str]:
    return wrap(value, SIDE - _KEY, 7, lines=2)


def draw_picture(
    figure: Figure,
    pixels: Floats | None,
    left: float,
    top: float,
    *,
    name: str | None,
    facts: Sequence[tuple[str, str]],
) -> None:
    """Draw an image with its upper left corner at (left, top) inches, its name above it and its facts beneath.

    Args:
        figure: where to draw.
        pixels: (H, W) or (H, W, 3) in [0, 1]; small images keep hard pixels, large ones are smoothed. None draws none.
        left, top: inches from the figure's lower left corner.
        name: the image's name; long names lose their beginning.
        facts: (key, value) lines; long values take two lines.
    """
    height = _drawn_height(pixels)
    if pixels is not None:
        axes = axes_in_inches(figure, left, top - height, height * pixels.shape[1] / pixels.shape[0], height)
        interpolation = "none" if max(pixels.shape[:2]) <= _COARSE else "antialiased"
        axes.imshow(pixels, cmap="gray", vmin=0, vmax=1, interpolation=interpolation, aspect="auto")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set(visible=True, color=FAINT)
    right, up = 1 / figure.get_size_inches()
    if name is not None:
        words = printable(f"image {name}" if name.isdecimal() else name)
        figure.text(left * right, (top + 0.06) * up, shorten(words, SIDE, 7.5, keep="end"), fontsize=7.5, va="bottom")
    baseline = top - height - _ABOVE
    for key, value in facts:
        figure.text(left * right, baseline * up, key, color=MUTED, fontsize=7)
        for line in _lines(value):
            figure.text((left + _KEY) * right, baseline * up, line, fontsize=7)
            baseline -= _LEADING
        baseline -= _BETWEEN
