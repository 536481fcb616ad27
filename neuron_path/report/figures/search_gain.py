"""What searches gain over the greedy one against what they cost."""

from __future__ import annotations

import math
from typing import Any, Final

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from neuron_path.errors import NeuronPathError
from neuron_path.report.style import (
    FAINT,
    INK,
    MUTED,
    axes_in_inches,
    figure_style,
    method_styles,
    new_figure,
)
from neuron_path.report.tables.cells import to_records

_COLUMNS: Final = ("scorer", "search", "budget", "ratio", "ratio_low", "ratio_high", "cost")
_PANEL: Final = (3.9, 2.7)
_TICKS: Final = (1, 2, 4, 8, 16, 32, 64, 128)
_WIDE: Final = 3
"""Ratio from which the axis of scores is logarithmic."""


def search_gain_figure(rows: pd.DataFrame) -> Figure:
    """Draw the mean score over the greedy search's against the mean cost: a point for each search, a colour and marker
    for each scorer.

    Args:
        rows: as `neuron_path.evaluation.searches.compare_searches` gives them, with the columns `scorer`, `search`,
            `budget`, `ratio` with its bounds, and `cost` in greedy searches.

    Raises:
        NeuronPathError: a column is missing, or no search has a ratio.
    """
    missing = [name for name in _COLUMNS if name not in rows.columns]
    if missing:
        raise NeuronPathError(f"The searches have no column {', '.join(missing)}; expected {', '.join(_COLUMNS)}.")
    drawn = rows.loc[rows["ratio"].notna()]
    if drawn.empty:
        raise NeuronPathError("No search has a ratio to greedy's score: there is nothing to draw.")
    with figure_style():
        return _draw(drawn)


def _draw(rows: pd.DataFrame) -> Figure:
    width, height = _PANEL
    names = [str(name) for name in dict.fromkeys(rows["scorer"])]
    figure = new_figure(width + 0.95, height + 0.62 + 0.16 * len(names))
    axes = axes_in_inches(figure, 0.7, 0.5, width, height)
    looks = method_styles(names)
    axes.axhline(1, color=MUTED, linewidth=0.8, linestyle=(0, (4, 2)), zorder=1)
    labelled: list[dict[str, Any]] = []
    records = sorted(to_records(rows), key=lambda row: row["cost"])
    for name in names:
        own = [row for row in records if row["scorer"] == name]
        cost, ratio, low, high = ([row[key] for row in own] for key in ("cost", "ratio", "ratio_low", "ratio_high"))
        look = looks[name]
        axes.vlines(cost, low, high, color=look.colour, linewidth=1.2, zorder=2)
        axes.plot(
            cost,
            ratio,
            linestyle="none",
            marker=look.marker,
            color=look.colour,
            markersize=5,
            zorder=3,
            label=name.replace("_", " "),
        )
        if not labelled:  # the places of the searches are much alike for all scorers
            labelled = own
    for row in labelled:
        axes.annotate(
            _name(row),
            (row["cost"], row["ratio_high"] if math.isfinite(row.get("ratio_high", math.nan)) else row["ratio"]),
            (0, 5),
            textcoords="offset points",
            ha="left" if row is labelled[0] else "center",
            fontsize=7,
            color=INK,
        )
    axes.set_xscale("log", base=2)
    axes.xaxis.set_minor_locator(NullLocator())
    largest = records[-1]["cost"]
    ticks = [tick for tick in _TICKS if tick <= 2 * largest]
    axes.set_xticks(ticks)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlim(0.85, largest * 1.6)
    axes.margins(y=0.18)
    if max(row["ratio"] for row in records) > _WIDE:
        axes.set_yscale("log")
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel("cost (greedy searches an image)")
    axes.set_ylabel("mean final score / greedy's")
    axes.grid(axis="y", color=FAINT, linewidth=0.4)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.01), ncols=1, borderaxespad=0.2, handletextpad=0.3)
    return figure


def _name(row: dict[str, Any]) -> str:
    budget = row["budget"]
    return row["search"].replace("_", " ") + ("" if math.isnan(budget) else f", budget {budget:g}")
