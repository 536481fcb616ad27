"""What masking the neurons off a class's path does, against the size of the path, as in the paper."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neuron_path.errors import NeuronPathError
from neuron_path.report.style import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    PURPLE,
    VERMILION,
    MethodStyle,
    axes_in_inches,
    figure_style,
    new_figure,
)

_LEFT: Final = 0.6
_BOTTOM: Final = 0.72
_WIDTH: Final = 2.7
_HEIGHT: Final = 2.3
_TOP: Final = 0.3
_KEY: Final = 1.35
_BETWEEN: Final = 0.7
_LOOKS: Final = (
    MethodStyle(BLUE, "s"),
    MethodStyle(GREEN, "D"),
    MethodStyle(ORANGE, "^"),
    MethodStyle(PURPLE, "v"),
    MethodStyle(VERMILION, "o"),
)
_PANELS: Final = {"accuracy": "accuracy (%)", "probability": "mean target probability"}


def protocol_curve_figure(summary: pd.DataFrame) -> Figure:
    """Draw accuracy and mean target probability against the neurons of a class path, a line per masked share.

    All blocks are masked; shallower depths are in the table.

    Args:
        summary: of one model and protocol, from `pruning_protocol.summary.summarise_protocol`.

    Returns:
        The figure, to be shown or written with `save_figure`.

    Raises:
        NeuronPathError: no row.
    """
    if summary.empty:
        raise NeuronPathError("The summary of the protocol has no row: measure at least one run.")
    own = summary.loc[summary["depth"] == summary["depth"].max()]
    sizes = sorted(set(own["top_k"]))
    across = _LEFT + 2 * _WIDTH + _BETWEEN + _KEY
    with figure_style():
        figure = new_figure(across, _BOTTOM + _HEIGHT + _TOP)
        for place, (measure, label) in enumerate(_PANELS.items()):
            axes = axes_in_inches(figure, _LEFT + place * (_WIDTH + _BETWEEN), _BOTTOM, _WIDTH, _HEIGHT)
            _draw(axes, own, sizes, measure)
            axes.set_ylabel(label)
        figure.axes[-1].legend(loc="upper left", bbox_to_anchor=(1.04, 1.02), borderaxespad=0, title="masked")
        note = (
            f"Mean and 95 % interval over {own['n_seeds'].iloc[0]} seeds and {own['n'].iloc[0]} images; all blocks "
            "masked at the tokens in scope."
        )
        figure.text(_LEFT / across, 0.1 / figure.get_figheight(), note, fontsize=6.5, color=MUTED)
    return figure


def _draw(axes: Axes, own: pd.DataFrame, sizes: list[int], measure: str) -> None:
    whole = own.loc[own["share"] == 0, measure]
    axes.axhline(float(whole.mean()), color=INK, linewidth=0.9, linestyle=(0, (4, 2)), label="nothing", zorder=1)
    shares = sorted(set(own["share"]) - {0.0})
    for place, share in enumerate(shares):
        look = _LOOKS[place % len(_LOOKS)]
        line = own.loc[own["share"] == share].sort_values("top_k")
        x = np.array([sizes.index(size) for size in line["top_k"]]) + 0.06 * (place - (len(shares) - 1) / 2)
        y = line[measure].to_numpy()
        spread = np.abs(np.stack([line[f"{measure}_low"].to_numpy(), line[f"{measure}_high"].to_numpy()]) - y)
        axes.errorbar(
            x,
            y,
            yerr=spread,
            color=look.colour,
            marker=look.marker,
            markersize=3.8,
            linewidth=1.1,
            elinewidth=0.7,
            label=f"{100 * share:.0f} %",
            zorder=3,
        )
    axes.set_xticks(range(len(sizes)), [str(size) for size in sizes])
    axes.set_xlabel("neurons of a class path in each block (k)")
    axes.grid(axis="y", linewidth=0.4, color="#E4E7EB")
