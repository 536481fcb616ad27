"""How the score of a path depends on the nodes of the quadrature, rule by rule."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from neuron_path.errors import NeuronPathError
from neuron_path.report.figures.matrix import check_finite
from neuron_path.report.style import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    PURPLE,
    SKY,
    VERMILION,
    MethodStyle,
    axes_in_inches,
    figure_style,
    method_styles,
    new_figure,
)
from neuron_path.report.text import printable

_EDGE: Final = 0.12
_LEFT: Final = 0.72
_PANEL: Final = (2.4, 1.95)
_GAP: Final = 0.95
_FOOT: Final = 0.45
_TITLE: Final = 0.34
_LEGEND: Final = 1.25
_LEAST: Final = 1e-7
_KNOWN: Final = {
    "gauss_legendre": MethodStyle(VERMILION, "o"),
    "riemann_left": MethodStyle(BLUE, "s"),
    "riemann_right": MethodStyle(SKY, "D"),
    "midpoint": MethodStyle(GREEN, "^"),
    "trapezoid": MethodStyle(PURPLE, "v"),
}
_COLUMNS: Final = ("rule", "n_steps", "sample_id", "score")


def score_against_nodes_figure(scores: pd.DataFrame, *, reference: pd.Series | None = None) -> Figure:
    """Draw the mean score of the same paths against the number of nodes, a line per rule; and how far each is off.

    Args:
        scores: a row per ``rule``, number of nodes ``n_steps`` and image ``sample_id`` with its ``score``, in units of
            the target function; the same images everywhere. `neuron_path.score_paths` computes them.
        reference: by sample id the converged score, such as that of 64 Gauss–Legendre nodes. Its mean is drawn as a
            line, and a second panel has the median over images of the relative error |score − reference| / |reference|,
            no smaller than 10⁻⁷.

    Returns:
        The figure, to be shown or written with `save_figure`.

    Raises:
        NeuronPathError: a column is missing, an image lacks a score or a reference, or a value is not finite.
    """
    if missing := [name for name in _COLUMNS if name not in scores.columns]:
        raise NeuronPathError(
            f"The table of scores lacks the column(s) {', '.join(missing)}; expected {', '.join(_COLUMNS)}."
        )
    check_finite(scores["score"].to_numpy(), "score")
    table = scores.pivot_table(index=["rule", "n_steps"], columns="sample_id", values="score", sort=True)
    if not len(table) or table.isna().any(axis=None) or len(scores) != table.size:
        raise NeuronPathError("The table of scores has no row, or not one score for each rule, n_steps and image.")
    known = None
    if reference is not None:
        if lacking := sorted(set(table.columns) - set(reference.index)):
            raise NeuronPathError(f"The reference lacks the image '{lacking[0]}'; give a score for each.")
        known = check_finite(reference.loc[table.columns].to_numpy(), "reference")
        if not np.abs(known).all():
            raise NeuronPathError("A reference score is 0, so errors relative to it are not defined; leave it out.")
    with figure_style():
        return _draw(table, known)


def _draw(table: pd.DataFrame, reference: np.ndarray | None) -> Figure:
    rules = [str(rule) for rule in dict.fromkeys(table.index.get_level_values("rule"))]
    known = list(_KNOWN)
    rules.sort(key=lambda rule: (known.index(rule) if rule in known else len(known), rule))
    looks = method_styles(rules) | _KNOWN
    n_panels = 1 if reference is None else 2
    across = n_panels * _PANEL[0] + (n_panels - 1) * _GAP
    figure = new_figure(_LEFT + across + _LEGEND + _EDGE, _FOOT + _PANEL[1] + _TITLE)
    mean = axes_in_inches(figure, _LEFT, _FOOT, *_PANEL)
    nodes = sorted(set(table.index.get_level_values("n_steps").tolist()))
    for rule in rules:
        own = table.loc[rule]
        _line(mean, own.index.to_numpy(), own.mean(axis=1).to_numpy(), rule, looks[rule].colour, looks[rule].marker)
    mean.set_ylabel("mean path score")
    mean.set_title("Score", loc="left", fontweight="bold")
    axes = [mean]
    if reference is not None:
        mean.axhline(
            float(reference.mean()), color=INK, linewidth=0.8, linestyle=(0, (4, 3)), label="converged", zorder=1
        )
        error = axes_in_inches(figure, _LEFT + _PANEL[0] + _GAP, _FOOT, *_PANEL)
        for rule in rules:
            off = np.median(np.abs(table.loc[rule].to_numpy() / reference - 1), axis=1).clip(min=_LEAST)
            own = table.loc[rule].index.to_numpy()
            _line(error, own, off, rule, looks[rule].colour, looks[rule].marker)
        error.set_yscale("log")
        error.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _power(value)))
        error.yaxis.set_minor_locator(NullLocator())
        error.set_ylabel("median relative error")
        error.set_title("Error", loc="left", fontweight="bold")
        axes.append(error)
    for one in axes:
        one.set_xscale("log", base=2)
        one.xaxis.set_major_locator(FixedLocator(nodes if len(nodes) <= 8 else nodes[:: -(-len(nodes) // 8)]))
        one.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        one.xaxis.set_minor_locator(NullLocator())
        one.set_xlabel("quadrature nodes")
    mean.legend(
        *mean.get_legend_handles_labels(),
        loc="upper left",
        bbox_to_anchor=((across + 0.1) / _PANEL[0], 1.0),
        borderaxespad=0,
        labelcolor=MUTED,
    )
    width, height = figure.get_size_inches()
    note = f"n = {table.shape[1]} images"
    figure.text(1 - _EDGE / width, 1 - 0.1 / height, note, fontsize=7, color=MUTED, ha="right", va="top")
    return figure


def _power(value: float) -> str:
    """Write a power of ten: no text is mathematics here, because text from data may look like it.

    >>> _power(0.001), _power(1.0)
    ('10⁻³', '1')
    """
    exponent = round(np.log10(value))
    if exponent == 0:
        return "1"
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _line(axes: Axes, nodes: np.ndarray, values: np.ndarray, rule: str, colour: str, marker: str) -> None:
    axes.plot(
        nodes,
        values,
        color=colour,
        marker=marker,
        markersize=4.4,
        markeredgecolor="white",
        markeredgewidth=0.6,
        linewidth=1.2,
        label=printable(rule.replace("_", " ")),
    )
