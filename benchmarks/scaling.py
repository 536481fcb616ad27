"""How does the time grow with blocks, width, tokens, quadrature nodes and images? Fitted exponents, with their range.

    python -m benchmarks.scaling                         # 1 minute on 2 cores
    python -m benchmarks.scaling --rounds 1 --only nodes

One quantity varies, and the others stay as in BASE. A time is taken for a constant times size^exponent, and the
exponent is the slope of a least-squares line through the logarithms of the largest three sizes: smaller ones spend much
of their time on what is the same for all. `find_paths` cuts many images into chunks by itself.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import exp, log
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

import neuron_path
from benchmarks.harness import Spread, Table, console, interleaved, positive, record, rounds_of, show, spread
from benchmarks.models import Shape, random_images, random_vit
from neuron_path.report.style import BLUE, FAINT, MUTED, VERMILION, axes_in_inches, figure_style, new_figure

HEAD_WIDTH = 64
FITTED = 3  # the largest sizes


class Point(NamedTuple):
    """One search that is timed: its model and images, and its Gauss–Legendre nodes."""

    shape: Shape
    n_steps: int


BASE = Point(Shape(192, 8, 3), 4)


def _varied(n_steps: int | None = None, **changes: int) -> Point:
    return Point(BASE.shape._replace(**changes), n_steps or BASE.n_steps)


def _tokens(image: int) -> tuple[int, Point]:
    point = _varied(image=image, patch=16)
    return point.shape.n_tokens, point


AXES: dict[str, dict[int, Point]] = {
    "blocks": {n: _varied(depth=n, n_images=2) for n in (6, 9, 12, 18, 24)},
    "width": {n: _varied(width=n, heads=n // HEAD_WIDTH, n_images=2) for n in (64, 128, 192, 256, 384)},
    "tokens": dict(map(_tokens, (64, 112, 160, 224, 320))),
    "nodes": {n: _varied(n) for n in (4, 8, 16, 32, 64)},
    "images": {n: _varied(n_images=n) for n in (1, 2, 4, 8, 16)},
}
GOALS = {"blocks": 2.1, "nodes": 1.05, "images": 1.05}


class Line(NamedTuple):
    """seconds = factor · size^exponent."""

    exponent: float
    factor: float


def fit(sizes: Sequence[float], seconds: Sequence[float]) -> Line:
    """The least-squares line through the logarithms.

    >>> fit([1, 2, 4], [3, 12, 48])
    Line(exponent=2.0, factor=3.0)
    """
    slope, start = np.polynomial.Polynomial.fit(np.log(sizes), np.log(seconds), 1).convert().coef[::-1]
    return Line(round(float(slope), 9), round(exp(start), 9))


def exponents(sizes: Sequence[int], seconds: Mapping[str, Sequence[float]], fitted: int = FITTED) -> Spread:
    """Median and range over the rounds of the exponent of the largest sizes.

    Args:
        sizes: in ascending order.
        seconds: of each size, by its name, the rounds' seconds.
        fitted: how many sizes to fit.
    """
    largest = sizes[-fitted:]
    by_round = zip(*(seconds[str(size)] for size in largest), strict=True)
    return spread(fit(largest, times).exponent for times in by_round)


def measure(points: Mapping[int, Point], rounds: int) -> dict[str, Any]:
    """Seconds of every point of one axis, interleaved, and the exponent."""
    calls = {str(size): _call(point) for size, point in points.items()}
    seconds, _ = interleaved(calls, rounds)
    return {
        "points": {str(size): {**point.shape._asdict(), "n_steps": point.n_steps} for size, point in points.items()},
        "seconds": seconds,
        "exponent": exponents(list(points), seconds)._asdict(),
    }


def _call(point: Point) -> Callable[[], object]:
    model, (images, targets) = random_vit(point.shape), random_images(point.shape)
    return partial(neuron_path.find_paths, model, images, targets, n_steps=point.n_steps)


def as_table(values: Mapping[str, dict[str, Any]]) -> Table:
    """A row for each axis."""
    rows = []
    for name, measured in values.items():
        sizes = list(measured["seconds"])
        first, last = (spread(measured["seconds"][size]) for size in (sizes[0], sizes[-1]))
        rows.append(
            [
                name,
                f"{sizes[0]}–{sizes[-1]}",
                f"{first.median:.2g}–{last.median:.2g} s",
                f"{sizes[-FITTED:][0]}–{sizes[-1]}",
                Spread(**measured["exponent"]).text(2),
                f"≤ {GOALS[name]}" if name in GOALS else "–",
            ]
        )
    return Table(("what grows", "from–to", "time", "fitted on", "exponent", "goal"), rows)


def draw(values: Mapping[str, dict[str, Any]]) -> Figure:
    """A small panel for each axis, log-log, all with the same seconds; the line is dashed where it was not fitted."""
    times = [x for measured in values.values() for rounds in measured["seconds"].values() for x in rounds]
    with figure_style():
        figure = new_figure(7.0, 2.15)
        for column, (name, measured) in enumerate(values.items()):
            axes = axes_in_inches(figure, 0.55 + 1.3 * column, 0.45, 1.15, 1.4)
            _panel(axes, name, measured)
            axes.set_ylim(min(times) / 1.5, max(times) * 1.5)
            ticks = [x for x in (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30) if min(times) / 1.5 <= x <= max(times) * 1.5]
            axes.set_yticks(ticks, [f"{x:g}" if column == 0 else "" for x in ticks])
            axes.yaxis.set_minor_locator(NullLocator())
            if column == 0:
                axes.set_ylabel("seconds")
    return figure


def _panel(axes: Axes, name: str, measured: Mapping[str, Any]) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(name)
    axes.set_title(f"exponent {measured['exponent']['median']:.2f}", color=MUTED)
    sizes = [int(size) for size in measured["seconds"]]
    medians = [spread(rounds).median for rounds in measured["seconds"].values()]
    line = fit(sizes[-FITTED:], medians[-FITTED:])
    for part, style in ((sizes[-FITTED:], "-"), (sizes[: 1 - FITTED], (0, (3, 2)))):
        ends = [part[0], part[-1]]
        drawn = [line.factor * size**line.exponent for size in ends]
        axes.plot(ends, drawn, color=VERMILION, linewidth=1.0, linestyle=style, zorder=2)
    for size, rounds in zip(sizes, measured["seconds"].values(), strict=True):
        axes.plot([size, size], [min(rounds), max(rounds)], color=BLUE, linewidth=1.2, zorder=3)
    axes.plot(sizes, medians, "o", color=BLUE, markersize=3.5, zorder=3)
    axes.grid(axis="y", color=FAINT, linewidth=0.4)
    axes.set_xticks(sizes, ["" if place % 2 else str(size) for place, size in enumerate(sizes)])
    axes.xaxis.set_minor_locator(NullLocator())
    margin = 0.08 * log(sizes[-1] / sizes[0])
    axes.set_xlim(sizes[0] / exp(margin), sizes[-1] * exp(margin))


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=positive, default=3, help="interleaved rounds")
    parser.add_argument("--only", nargs="+", choices=list(AXES), default=list(AXES), help="some axes; writes nothing")
    arguments = parser.parse_args()
    values = {}
    for name in arguments.only:
        console.print(f"[bold]{name}[/bold]")
        values[name] = measure(AXES[name], arguments.rounds)
    note = (
        f"Exponent: median and range of {rounds_of(arguments.rounds)}. Else {BASE.shape.depth} blocks × "
        f"{BASE.shape.width}, {BASE.shape.n_tokens} tokens, {BASE.n_steps} Gauss–Legendre nodes; blocks and width with "
        "2 images, the others with one."
    )
    tables = {"scaling": as_table(values)._replace(note=note)}
    if list(values) == list(AXES):
        record("scaling", values, tables, draw(values))
    else:
        show(tables)


if __name__ == "__main__":
    main()
