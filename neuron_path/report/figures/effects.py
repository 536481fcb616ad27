"""What intervening on the paths did: a forest plot of effects with their intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from neuron_path.errors import NeuronPathError
from neuron_path.report.effects import Effect, read_effects
from neuron_path.report.style import FAINT, INK, MUTED, axes_in_inches, figure_style, method_styles, new_figure
from neuron_path.report.text import printable, shorten, text_width

_EDGE: Final = 0.12
_ROW: Final = 0.27
_PANEL: Final = 1.75
_BETWEEN: Final = 0.3
_TITLE: Final = 0.34
_AXIS: Final = 0.46
_NOTE: Final = 0.24
_LONGEST_NAME: Final = 1.9
_PER_LINE: Final = 2
_SIZE: Final = 7.5
_TITLES: Final = {"remove": "Remove the path (× 0)", "enhance": "Enhance the path (× 2)"}


def effects_figure(summary: pd.DataFrame, quantity: str = "probability") -> Figure:
    """Draw how far each method's paths move what was attributed: a panel per operation, a row per method.

    Each row has the mean, its 95 % interval and both in figures; a hollow marker says that the interval includes 0
    or is not known.
    Panels have scales of their own, because removing and enhancing differ in size.

    Args:
        summary: a row per method and operation, with the columns `scorer`, `search`, `operation`, `n` (images),
            `probability_deviation`, `probability_deviation_low` and `probability_deviation_high` (fractions of the
            clean probability; NaN where there is no interval), and for what is no probability `value_difference`
            likewise. Other columns are not read.
        quantity: what was attributed: the run's target function, or `similarity` where its logit is a cosine.

    Returns:
        The figure, to be shown or written with `save_figure`.

    Raises:
        NeuronPathError: a column is missing, a method and operation is there twice, or there is no row.
    """
    effects = read_effects(summary, quantity)
    if not effects:
        raise NeuronPathError("The table of effects has no row, expected one for each method and operation.")
    with figure_style():
        return _draw(effects)


def _draw(effects: Sequence[Effect]) -> Figure:
    methods = list(dict.fromkeys(effect.method for effect in effects))
    operations = list(dict.fromkeys(effect.operation for effect in effects))
    names = [shorten(printable(method), _LONGEST_NAME, _SIZE) for method in methods]
    counts = sorted({effect.n for effect in effects})
    with_n = len(counts) > 1
    left = _EDGE + max(text_width(name, _SIZE) for name in names) + 0.12
    beside = max(text_width(_words(effect, with_n=with_n), 7) for effect in effects) + 0.1
    across = min(_PER_LINE, len(operations))
    down = math.ceil(len(operations) / _PER_LINE)
    line = _ROW * len(methods) + _TITLE + _AXIS
    note = "Mean and 95 % interval; hollow: the interval includes 0 or is not known."
    note += "" if with_n else f" n = {counts[0]} image{'s' if counts[0] != 1 else ''}."
    panels = left + across * (_PANEL + beside) + (across - 1) * _BETWEEN
    figure = new_figure(max(panels, _EDGE + text_width(note, 6.5)) + _EDGE, _NOTE + down * line + 0.04)
    for index, operation in enumerate(operations):
        row, column = divmod(index, _PER_LINE)
        axes = axes_in_inches(
            figure,
            left + column * (_PANEL + beside + _BETWEEN),
            _NOTE + (down - 1 - row) * line + _AXIS,
            _PANEL,
            _ROW * len(methods),
        )
        _draw_panel(axes, [effect for effect in effects if effect.operation == operation], methods, with_n=with_n)
        axes.set_title(printable(_TITLES.get(operation, operation.replace("_", " "))), loc="left", pad=6)
        axes.set_yticks(range(len(methods)), names if column == 0 else [""] * len(methods))
    figure.text(_EDGE / figure.get_figwidth(), 0.08 / figure.get_figheight(), note, fontsize=6.5, color=MUTED)
    return figure


def _draw_panel(axes: Axes, effects: Sequence[Effect], methods: Sequence[str], *, with_n: bool) -> None:
    axes.set_ylim(len(methods) - 0.5, -0.5)
    axes.axvline(0, color=MUTED, linewidth=0.8, zorder=1)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0, labelsize=_SIZE, labelcolor=INK)
    what = effects[0].quantity
    axes.set_xlabel(f"change of target {what.words}{' (%)' if what.is_probability else ''}", fontsize=7)
    axes.margins(x=0.08)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]))
    for height in range(len(methods)):
        axes.axhline(height, color=FAINT, linewidth=0.4, zorder=0)
    looks = method_styles(effect.scorer for effect in effects)
    for effect in effects:
        height, look, change = methods.index(effect.method), looks[effect.scorer], effect.change
        axes.plot([change.low, change.high], [height, height], color=look.colour, linewidth=1.6, zorder=2)
        axes.plot(
            [change.mean],
            [height],
            linestyle="",
            marker=look.marker,
            markersize=5.5,
            markeredgecolor=look.colour,
            markeredgewidth=1.2,
            markerfacecolor=look.colour if change.shows_effect else "white",
            zorder=3,
        )
        axes.annotate(
            _words(effect, with_n=with_n),
            (1, height),
            (7, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            va="center",
            fontsize=7,
        )


def _words(effect: Effect, *, with_n: bool) -> str:
    return effect.in_words(with_unit=False) + (f", n = {effect.n}" if with_n else "")
