"""How accurate pruned models are: a line for each way to rank neurons, against the share that is kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neuron_path.errors import NeuronPathError
from neuron_path.evaluation.pruning import ORIGINAL
from neuron_path.report.pruning import UNITS, named
from neuron_path.report.style import (
    BLACK,
    BLUE,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    MethodStyle,
    axes_in_inches,
    figure_style,
    new_figure,
)
from neuron_path.report.text import printable, shorten

_LEFT: Final = 0.55
_BOTTOM: Final = 0.72
_WIDTH: Final = 3.4
_HEIGHT: Final = 2.5
_TITLE: Final = 0.32
_KEY: Final = 1.75
_BETWEEN: Final = 0.35
_DODGE: Final = 0.006  # between methods, where shares reach over _SPAN
_SPAN: Final = 0.8
_LOOKS: Final = (
    MethodStyle(VERMILION, "o"),
    MethodStyle(BLUE, "s"),
    MethodStyle(GREEN, "D"),
    MethodStyle(PURPLE, "^"),
    MethodStyle(ORANGE, "P"),
    MethodStyle(SKY, "v"),
    MethodStyle(BLACK, "X"),
    MethodStyle(MUTED, "<"),
)
_TITLES: Final = {"all": "", "chosen": "Classes {names}", "others": "Other classes"}


def pruning_curve_figure(summary: pd.DataFrame, *, chosen: Sequence[str] = (), counted: str = UNITS["ffn"]) -> Figure:
    """Draw accuracy against the kept share, a line per method with 95 % intervals.

    Args:
        summary: from `neuron_path.evaluation.pruning.summarise_pruning`.
        chosen: names of the classes that the models are specialised in.
        counted: what the kept shares are of.

    Returns:
        The figure, a panel per group of images, to be shown or written with `save_figure`.

    Raises:
        NeuronPathError: the summary has no pruned model.
    """
    methods = [name for name in dict.fromkeys(summary["method"]) if name != ORIGINAL]
    if not methods:
        raise NeuronPathError("The summary of pruned models has none, expected one method and share at least.")
    groups = list(dict.fromkeys(summary["group"]))
    across = _LEFT + len(groups) * (_WIDTH + _BETWEEN) + _KEY
    with figure_style():
        figure = new_figure(across, _BOTTOM + _HEIGHT + _TITLE)
        looks = {name: _look(place) for place, name in enumerate(methods)}
        for place, group in enumerate(groups):
            left = _LEFT + place * (_WIDTH + _BETWEEN)
            axes = axes_in_inches(figure, left, _BOTTOM, _WIDTH, _HEIGHT)
            _draw(axes, summary.loc[summary["group"] == group], looks)
            axes.set_xlabel(f"{counted} kept (%)")
            names = shorten(printable(", ".join(chosen)), _WIDTH - 0.6, 8.5)
            axes.set_title(_TITLES[group].format(names=names), loc="left", pad=6)
            if place == 0:
                axes.set_ylabel("accuracy (%)")
        axes = figure.axes[-1]
        axes.legend(loc="upper left", bbox_to_anchor=(1.03, 1.02), handlelength=2.2, borderaxespad=0)
        note = f"Mean and 95 % interval over {summary['n_seeds'].iloc[0]} seeds and {_images(summary)} images."
        figure.text(_LEFT / across, 0.1 / figure.get_figheight(), note, fontsize=6.5, color=MUTED)
    return figure


def _look(place: int) -> tuple[MethodStyle, dict[str, str]]:
    """Colour and marker; when all are taken, the next ones are hollow and their lines dotted."""
    again, which = divmod(place, len(_LOOKS))
    return _LOOKS[which], {"markerfacecolor": "white", "linestyle": ":"} if again else {}


def _draw(axes: Axes, own: pd.DataFrame, looks: dict[str, tuple[MethodStyle, dict[str, str]]]) -> None:
    original = own.loc[own["method"] == ORIGINAL].iloc[0]
    axes.axhline(original["accuracy"], color=INK, linewidth=0.9, linestyle=(0, (4, 2)), label="original", zorder=1)
    middle = (len(looks) - 1) / 2
    span = float(np.ptp(own.loc[own["method"] != ORIGINAL, "keep"]))
    dodge = _DODGE * min(1.0, span / _SPAN or 1.0)
    for place, (name, (look, again)) in enumerate(looks.items()):
        line = own.loc[own["method"] == name].sort_values("keep")
        # Beside each other, so that intervals at the same share can be told apart.
        x = line["keep"].to_numpy() + (place - middle) * dodge
        y = line["accuracy"].to_numpy()
        spread = np.abs(np.stack([line["accuracy_low"].to_numpy(), line["accuracy_high"].to_numpy()]) - y)
        axes.errorbar(
            100 * x,
            y,
            yerr=spread,
            color=look.colour,
            marker=look.marker,
            markersize=3.6,
            linewidth=1.1,
            elinewidth=0.7,
            label=printable(named(name)),
            zorder=3,
            **again,  # pyright: ignore[reportArgumentType]
        )
    axes.set_ylim(0, 102)
    axes.set_yticks(range(0, 101, 20))
    axes.grid(axis="y", linewidth=0.4, color="#E4E7EB")


def _images(summary: pd.DataFrame) -> str:
    counts = dict.fromkeys(summary["n"])
    return " and ".join(str(count) for count in counts)
