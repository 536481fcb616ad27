"""Necessity and sufficiency: what is left of the target as more of the path is removed, or kept alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from neuron_path.errors import NeuronPathError
from neuron_path.evaluation.measures import probability_deviation
from neuron_path.evaluation.quantity import QUANTITIES, Quantity
from neuron_path.report.figures.blocks import unit_of
from neuron_path.report.style import MUTED, axes_in_inches, figure_style, method_styles, new_figure
from neuron_path.report.text import printable, shorten
from neuron_path.stats.intervals import Interval, bootstrap_mean

_EDGE: Final = 0.12
_LEFT: Final = 0.62
_PANEL: Final = (2.35, 1.9)
_BETWEEN: Final = 0.35
_TITLE: Final = 0.42
_AXIS: Final = 0.38
_LINE: Final = 0.15
_NAME: Final = 2.2
_RESAMPLES: Final = 1999
_COLUMNS: Final = ("sample_id", "scorer", "search", "operation", "size", "clean_probability", "edited_probability")
_PANELS: Final = {
    "remove": ("Necessity", "path {}s removed, each block"),
    "keep_only": ("Sufficiency", "path {}s kept alone, each block"),
}

Curves = dict[tuple[str, str], dict[int, Interval]]
"""Mean by size, of each method (scorer, search)."""


def edit_curves_figure(effects: pd.DataFrame, quantity: str = "probability", units: str = "ffn") -> Figure:
    """Draw p(edited) / p(clean) of the target class against the number of path neurons edited in each block.

    Of what is no probability its change is drawn, edited − clean, in its unit.
    Left: the first k path neurons are removed; a path that is necessary falls fast. Right: all other neurons are
    zeroed; a path that suffices rises fast. Lines are means over images with 95 % bootstrap intervals.
    The panels have scales of their own.

    Args:
        effects: a row per image, method, operation and size, as :func:`neuron_path.store.reader.load_effects` returns
            them, of an evaluation with ``top_k`` above 1 and ``evaluation.sizes``; of its operations ``remove`` and
            ``keep_only`` are drawn.
        quantity: what was attributed: the run's target function, or `similarity` where its logit is a cosine.
        units: what the neurons are, "ffn", "heads" or "ffn+heads".

    Returns:
        The figure, to be shown or written with `save_figure`.

    Raises:
        NeuronPathError: a column is missing, no operation was measured at two sizes or more, or no such units.
    """
    if missing := [name for name in _COLUMNS if name not in effects.columns]:
        raise NeuronPathError(f"The table of effects lacks the column(s) {', '.join(missing)}; give load_effects(DIR).")
    clean = QUANTITIES[quantity].column(effects.columns, "clean_")
    if clean is None:
        raise NeuronPathError(
            f"The table of effects has no values of the target's {quantity}; evaluate that run again, or draw its "
            "probability (quantity='probability')."
        )
    panels = {operation: _curves(effects.loc[effects["operation"] == operation], clean) for operation in _PANELS}
    panels = {operation: curves for operation, curves in panels.items() if curves}
    if not panels:
        raise NeuronPathError(
            "No operation was measured at two sizes or more, so there is no curve: search with top_k above 1, and "
            "evaluate with evaluation.operations=[remove,keep_only] evaluation.sizes=[1,2,…]."
        )
    with figure_style():
        return _draw(panels, len(set(effects["sample_id"])), QUANTITIES[quantity], unit_of(units))


def _curves(effects: pd.DataFrame, clean: str) -> Curves:
    curves: Curves = {}
    for _, rows in effects.groupby(["scorer", "search", "size"], sort=False):
        scorer, search, size = rows[["scorer", "search", "size"]].iloc[0].tolist()
        before, after = rows[clean].to_numpy(), rows[clean.replace("clean", "edited")].to_numpy()
        changes = 1 + probability_deviation(before, after) if clean == "clean_probability" else after - before
        mean = bootstrap_mean(changes, n_resamples=_RESAMPLES)
        curves.setdefault((str(scorer), str(search)), {})[int(size)] = mean
    return {method: dict(sorted(sizes.items())) for method, sizes in curves.items() if len(sizes) > 1}


def _draw(panels: Mapping[str, Curves], n_images: int, quantity: Quantity, unit: str) -> Figure:
    methods = list(dict.fromkeys(method for curves in panels.values() for method in curves))
    several = len({search for _, search in methods}) > 1
    names = {
        (scorer, search): shorten(
            printable((f"{scorer} ({search})" if several else scorer).replace("_", " ")), _NAME, 7
        )
        for scorer, search in methods
    }
    foot = _LINE * len(methods) + 0.1
    across = len(panels) * _PANEL[0] + (len(panels) - 1) * (_BETWEEN + _LEFT)
    figure = new_figure(_LEFT + across + _EDGE, foot + _AXIS + _PANEL[1] + _TITLE)
    # By method, not by scorer: two searches of one scorer must not look alike.
    looks = dict(
        zip(methods, method_styles([m[0] if not several else " ".join(m) for m in methods]).values(), strict=True)
    )
    axes = None
    for place, (operation, curves) in enumerate(panels.items()):
        left = _LEFT + place * (_PANEL[0] + _BETWEEN + _LEFT)
        axes = axes_in_inches(figure, left, foot + _AXIS, *_PANEL)
        title, label = _PANELS[operation]
        axes.set_title(title, loc="left", pad=6, fontweight="bold")
        axes.set_xlabel(label.format(unit), fontsize=7)
        relative = quantity.is_probability
        axes.set_ylabel("p(edited) / p(clean)" if relative else f"change of target {quantity.words}", fontsize=7)
        axes.axhline(int(relative), color=MUTED, linewidth=0.6, linestyle=(0, (4, 3)), zorder=1)
        for method, curve in curves.items():
            _draw_curve(axes, curve, looks[method].colour, looks[method].marker, names[method])
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    assert axes is not None
    width, height = figure.get_size_inches()
    figure.legend(
        *next(axes for axes in figure.axes if len(axes.get_legend_handles_labels()[1])).get_legend_handles_labels(),
        loc="lower left",
        bbox_to_anchor=((_LEFT - 0.05) / width, 0.03 / height),
        borderpad=0,
        borderaxespad=0.2,
        labelspacing=0.35,
        labelcolor=MUTED,
    )
    note = f"means and 95 % intervals, n = {n_images}"
    figure.text(1 - _EDGE / width, 1 - 0.1 / height, note, fontsize=7, color=MUTED, ha="right", va="top")
    return figure


def _draw_curve(axes: Axes, curve: Mapping[int, Interval], colour: str, marker: str, name: str) -> None:
    sizes = list(curve)
    means = [point.mean for point in curve.values()]
    low, high = ([getattr(point, end) for point in curve.values()] for end in ("low", "high"))
    axes.fill_between(sizes, low, high, color=colour, alpha=0.18, linewidth=0, zorder=2)
    axes.plot(
        sizes,
        means,
        color=colour,
        marker=marker,
        markersize=4.4,
        markeredgecolor="white",
        markeredgewidth=0.6,
        linewidth=1.3,
        zorder=3,
        label=name,
    )
