"""Which neurons the paths of each class use: classes down, the most used neurons of each block across."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neuron_path.errors import NeuronPathError
from neuron_path.report.figures.blocks import unit_of
from neuron_path.report.figures.inputs import Floats, Neurons
from neuron_path.report.figures.matrix import (
    BAR,
    LABEL,
    SCALE,
    check_finite,
    draw_bar,
    frame,
    label_note,
    name_classes,
    shown_labels,
    widest,
)
from neuron_path.report.figures.picture import ClassNames
from neuron_path.report.style import MUTED, axes_in_inches, figure_style, new_figure
from neuron_path.report.text import text_width, wrap

_EDGE: Final = 0.12
_COLUMN: Final = 0.105
_GAP: Final = 0.07
_ROW: Final = 0.16
_TALLEST: Final = 7.6
_HEAD: Final = 0.22
_TITLE: Final = 0.3
_COLUMNS: Final = 72
_MOST: Final = 6
_NEURON: Final = 6.0
_NOTE: Final = 6.5
_LEADING: Final = 0.12
_NARROWEST: Final = 4.2


def usage_heat_map_figure(
    usage: pd.DataFrame,
    *,
    per_block: int | None = None,
    order: npt.ArrayLike | None = None,
    class_names: ClassNames | None = None,
    kind: str = "class",
    units: str = "ffn",
) -> Figure:
    """Draw how often the paths of each class have a neuron: a row per class, the most used neurons of each block.

    A neuron is the more used the higher its mean frequency over the classes (ties: the lowest index); within a block
    the columns are in the order of the index. A note says how much of all choices the columns hold. Darker is more; the
    scale begins at 0 and ends at the highest frequency drawn.

    Args:
        usage: a row per class, block and neuron in use, with the columns ``class``, ``block``, ``neuron`` (integers)
            and ``frequency`` (share of the class's images whose path has the neuron, in [0, 1]), as
            :meth:`neuron_path.classes.usage.Usage.to_frame` makes it. Other columns are not read.
        per_block: neurons drawn for each block; when not given, as many as fit on a page, 6 at most.
        order: the classes from top to bottom, some or all of those of the table; ascending when not given.
        class_names: names of classes by index.
        kind: what the classes are, for the axis: ``label`` or ``target``.
        units: what the neurons are, "ffn", "heads" or "ffn+heads".

    Returns:
        The figure, to be shown or written with `save_figure`.

    Raises:
        NeuronPathError: a column is missing, a row is there twice, a value is out of range, or a class or units
            unknown.
    """
    keys, frequency = _read(usage)
    if per_block is not None and per_block < 1:
        raise NeuronPathError(f"per_block is {per_block}, expected 1 or more neurons for each block.")
    known = np.unique(keys[:, 0])
    classes = known if order is None else np.asarray(order)
    if classes.ndim != 1 or not len(classes) or len(set(classes.tolist())) < len(classes):
        raise NeuronPathError(f"order has shape {classes.shape}, expected (C,): the classes to draw, each once.")
    if unknown := sorted(set(classes.tolist()) - set(known.tolist())):
        raise NeuronPathError(f"order names the class {unknown[0]}, which the table of usage does not have.")
    drawn = np.isin(keys[:, 0], classes)
    keys, frequency = keys[drawn], frequency[drawn]
    n_blocks = int(keys[:, 1].max()) + 1
    neurons, n_used = _choose(keys[:, 1:], frequency, per_block or int(np.clip(_COLUMNS // n_blocks, 1, _MOST)))
    values = _matrix(keys, frequency, classes, neurons)
    covered = values.sum() / frequency.sum()
    with figure_style():
        return _draw(values, neurons, name_classes(classes, class_names), kind, covered, n_used, unit_of(units))


def _read(usage: pd.DataFrame) -> tuple[Neurons, Floats]:
    """The (class, block, neuron) of each row, (R, 3), and its frequency, (R,)."""
    names = ["class", "block", "neuron"]
    if missing := [name for name in [*names, "frequency"] if name not in usage.columns]:
        raise NeuronPathError(
            f"The table of usage lacks the column(s) {', '.join(missing)}; expected class, block, neuron, frequency."
        )
    if not len(usage):
        raise NeuronPathError("The table of usage has no row, expected one for each class, block and neuron in use.")
    frequency = check_finite(usage["frequency"].to_numpy(), "frequency")
    if frequency.min() < 0 or frequency.max() > 1 or frequency.max() == 0:
        raise NeuronPathError(
            f"frequency has values from {frequency.min():g} to {frequency.max():g}, expected [0, 1], some above 0."
        )
    keys = np.stack([check_finite(usage[name].to_numpy(), name) for name in names], axis=1).astype(np.int64)
    if keys[:, 1:].min() < 0 or len(np.unique(keys, axis=0)) < len(keys):
        raise NeuronPathError(
            "The table of usage has a block or neuron below 0, or a class, block and neuron twice; expected each once."
        )
    return keys, frequency


def _choose(keys: Neurons, frequency: Floats, per_block: int) -> tuple[list[Neurons], int]:
    """The most used neurons of each block, ascending, and how many neurons are used at all."""
    used, rows = np.unique(keys, axis=0, return_inverse=True)
    # Rounded, so that the order of summation decides no tie.
    totals = np.bincount(rows.ravel(), frequency).round(9)
    ranked = used[np.lexsort((used[:, 1], -totals))]
    return [np.sort(ranked[ranked[:, 0] == block, 1][:per_block]) for block in range(used[:, 0].max() + 1)], len(used)


def _matrix(keys: Neurons, frequency: Floats, classes: npt.NDArray[np.generic], neurons: Sequence[Neurons]) -> Floats:
    """Frequencies, (C, columns); 0 where a class never uses a neuron."""
    rows = {index: place for place, index in enumerate(classes.tolist())}
    pairs = [(block, int(neuron)) for block, chosen in enumerate(neurons) for neuron in chosen]
    columns = {pair: place for place, pair in enumerate(pairs)}
    values = np.zeros((len(rows), len(columns)))
    for (index, block, neuron), value in zip(keys.tolist(), frequency, strict=True):
        if (block, neuron) in columns:
            values[rows[index], columns[block, neuron]] = value
    return values


def _draw(
    values: Floats, neurons: Sequence[Neurons], names: Sequence[str], kind: str, covered: float, n_used: int, unit: str
) -> Figure:
    n_classes, n_columns = values.shape
    pitch = min(_ROW, _TALLEST / n_classes)
    height = pitch * n_classes
    shown = shown_labels(n_classes, pitch)
    left = _EDGE + 0.2 + max(widest([names[index] for index in shown]), text_width(unit, 7)) + 0.06
    across = n_columns * _COLUMN + (len(neurons) - 1) * _GAP
    digits = len(str(max(int(chosen.max()) for chosen in neurons if len(chosen))))
    below = text_width("0" * digits, _NEURON) + 0.14
    width = max(left + across + _EDGE, _NARROWEST)
    note = (
        f"{n_columns} of {n_used:,} {unit}s in use are shown, those with the highest mean frequency over the classes; "
    )
    note += f"they hold {100 * covered:.0f} % of all choices"
    note += f"; {label_note(n_classes, shown)}." if label_note(n_classes, shown) else "."
    lines = wrap(note, width - 2 * _EDGE, _NOTE, lines=4)
    foot = 0.06 + _LEADING * len(lines)
    bottom = foot + BAR - 0.12 + below
    figure = new_figure(width, bottom + height + _HEAD + _TITLE)
    high, first, column, image = float(values.max()), None, 0, None
    for block, chosen in enumerate(neurons):
        if not len(chosen):
            continue
        span = len(chosen) * _COLUMN
        axes = axes_in_inches(figure, left + column * _COLUMN + block * _GAP, bottom, span, height)
        part = values[:, column : column + len(chosen)]
        image = axes.imshow(part, cmap=SCALE, vmin=0, vmax=high, aspect="auto", interpolation="none")
        _label_block(axes, block, chosen, names if first is None else None, shown)
        first = first or axes
        column += len(chosen)
    assert first is not None
    assert image is not None
    _text(figure, left - 0.06, bottom - 0.05, unit, ha="right", va="top")
    _text(figure, left - 0.06, bottom + height + 0.045, "block", ha="right", va="baseline")
    figure.text(_EDGE / width, (bottom + height / 2) / figure.get_figheight(), kind, color=MUTED, fontsize=8,
                rotation=90, va="center", ha="left")  # fmt: skip
    figure.text(
        _EDGE / width,
        1 - 0.08 / figure.get_figheight(),
        f"{unit.capitalize()}s on the paths of each class",
        fontsize=9,
        va="top",
        fontweight="bold",
    )
    draw_bar(figure, image, _EDGE + 0.1, foot + 0.2, "share of the class's images")
    for index, line in enumerate(reversed(lines)):
        _text(figure, _EDGE, 0.06 + _LEADING * index, line, size=_NOTE)
    return figure


def _label_block(axes: Axes, block: int, neurons: Neurons, names: Sequence[str] | None, shown: Sequence[int]) -> None:
    frame(axes)
    axes.set_xticks(range(len(neurons)), [str(neuron) for neuron in neurons], rotation=90, fontsize=_NEURON)
    axes.set_yticks(shown if names else [], [names[index] for index in shown] if names else [], fontsize=LABEL)
    axes.set_title(str(block), fontsize=7, color=MUTED, pad=3)


def _text(figure: Figure, x: float, y: float, words: str, *, size: float = 7, **options: str) -> None:
    """Write explaining words at (x, y) inches."""
    width, height = figure.get_size_inches()
    place: dict[str, Any] = {"va": "bottom", "ha": "left"} | options
    figure.text(x / width, y / height, words, fontsize=size, color=MUTED, **place)
