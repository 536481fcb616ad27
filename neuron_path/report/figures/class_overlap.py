"""Whether images of a class share more of their paths than images of different classes: class by class, and in all."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from neuron_path.errors import NeuronPathError
from neuron_path.report.figures.inputs import Floats
from neuron_path.report.figures.matrix import LABEL, check_finite, name_classes, widest
from neuron_path.report.figures.picture import ClassNames
from neuron_path.report.style import BLUE, FAINT, INK, MUTED, VERMILION, axes_in_inches, figure_style, new_figure
from neuron_path.report.text import wrap

_EDGE: Final = 0.12
_ROW: Final = 0.17
_PANEL: Final = 3.4
_FOOT: Final = 0.4
_HEAD: Final = 0.62
_NOTE: Final = 6.5
_LEADING: Final = 0.12
_MOST: Final = 40
_COLUMNS: Final = ("class", "n", "within", "between")


def class_overlap_figure(
    overlaps: pd.DataFrame,
    *,
    within: float | None = None,
    between: float | None = None,
    p: float | None = None,
    class_names: ClassNames | None = None,
    kind: str = "class",
) -> Figure:
    """Draw each class's mean path overlap of two of its images, and of one of its images with one of another class.

    A filled circle is within the class, a hollow square between it and the others; the line between them is what the
    class adds. Classes are sorted by that difference. Of more than forty classes the twenty of the largest and the
    twenty of the smallest difference are drawn, and a note says so.

    Args:
        overlaps: a row per class: ``class``, ``n`` (images), ``within`` (mean overlap in [0, 1], NaN for a class of one
            image, which is left out) and ``between``, as :func:`neuron_path.classes.tables.class_table` makes it.
        within, between: the means over all pairs of images, drawn as a row of their own.
        p: p-value of their difference.
        class_names: names of classes by index.
        kind: what the classes are: ``label`` or ``target``.

    Returns:
        The figure, to be shown or written with `save_figure`.

    Raises:
        NeuronPathError: a column is missing, a class is there twice, no class has two images, or a value is out of
            range.
    """
    if missing := [name for name in _COLUMNS if name not in overlaps.columns]:
        raise NeuronPathError(
            f"The table of overlaps lacks the column(s) {', '.join(missing)}; expected {', '.join(_COLUMNS)}."
        )
    known = overlaps.loc[overlaps["within"].notna()]
    if not len(known) or known["class"].duplicated().any():
        raise NeuronPathError("The table of overlaps has no class of two images, or a class twice; expected each once.")
    values = check_finite(known[["within", "between"]].to_numpy(), "overlap")
    if values.min() < 0 or values.max() > 1:
        raise NeuronPathError(f"overlap has values from {values.min():g} to {values.max():g}, expected [0, 1].")
    order = np.lexsort((known["class"].to_numpy(), -(values[:, 0] - values[:, 1]).round(12)))
    drawn = order if len(order) <= _MOST else np.concatenate([order[: _MOST // 2], order[-_MOST // 2 :]])
    names = name_classes(known["class"].to_numpy()[drawn], class_names)
    names = [f"{name}  (n = {n})" for name, n in zip(names, known["n"].to_numpy()[drawn].tolist(), strict=True)]
    rows = values[drawn]
    whole = within is not None and between is not None
    if within is not None and between is not None:
        names, rows = ["all pairs", *names], np.concatenate([np.array([[within, between]]), rows])
    notes = [f"A class is the images' {kind}." if kind != "class" else ""]
    if len(order) > _MOST:
        notes.append(f"{_MOST} of {len(order)} classes: those of the largest and of the smallest difference.")
    with figure_style():
        return _draw(rows, names, whole=whole, p=p, note=" ".join(filter(None, notes)))


def _draw(rows: Floats, names: list[str], *, whole: bool, p: float | None, note: str) -> Figure:
    left = _EDGE + widest(names) + 0.12
    width = left + _PANEL + _EDGE
    lines = wrap(note, width - 2 * _EDGE, _NOTE, lines=2) if note else []
    bottom = _FOOT + _LEADING * len(lines) + 0.04
    height = _ROW * (len(rows) + whole * 0.5)
    figure = new_figure(width, bottom + height + _HEAD)
    axes = axes_in_inches(figure, left, bottom, _PANEL, height)
    places = np.arange(len(rows), dtype=np.float64)
    if whole:
        places[0] -= 0.5
        axes.axhline(0.0, color=FAINT, linewidth=0.6)
    _draw_rows(axes, rows, places)
    axes.set_ylim(len(rows) - 0.5, places[0] - 0.5)
    axes.set_xlim(0, max(1.06 * float(rows.max()), 1e-3))
    axes.set_yticks(places, names)
    axes.tick_params(axis="y", length=0, labelcolor=INK, labelsize=LABEL)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    axes.xaxis.grid(visible=True, color=FAINT, linewidth=0.4)
    axes.set_xlabel("path overlap of two images (mean over blocks of the Jaccard index)", fontsize=7)
    axes.spines["left"].set_visible(False)
    axes.legend(
        loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0.2, handletextpad=0.3, columnspacing=1
    )
    right, up = 1 / figure.get_size_inches()
    figure.text(_EDGE * right, 1 - 0.08 * up, "Path overlap within and between classes", va="top", fontweight="bold")
    if p is not None:
        shown = f"p = {p:.2g}, classes shuffled over images"
        figure.text(_EDGE * right, 1 - 0.25 * up, shown, va="top", fontsize=7, color=MUTED)
    for place, line in enumerate(reversed(lines)):
        figure.text(_EDGE * right, (0.08 + _LEADING * place) * up, line, fontsize=_NOTE, color=MUTED)
    return figure


def _draw_rows(axes: Axes, rows: Floats, places: Floats) -> None:
    axes.hlines(places, rows[:, 1], rows[:, 0], color=MUTED, linewidth=1.0, zorder=2)
    axes.plot(
        rows[:, 1],
        places,
        linestyle="",
        marker="s",
        markersize=4.6,
        markerfacecolor="white",
        markeredgecolor=BLUE,
        markeredgewidth=1.1,
        zorder=3,
        label="different classes",
    )
    axes.plot(
        rows[:, 0],
        places,
        linestyle="",
        marker="o",
        markersize=5.2,
        color=VERMILION,
        markeredgecolor="white",
        markeredgewidth=0.6,
        zorder=4,
        label="same class",
    )
