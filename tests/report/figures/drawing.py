"""What the tests of figures share: random paths, and a look at where things were drawn."""

from __future__ import annotations

from typing import cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from neuron_path.report.style import figure_style


def random_search(n_blocks: int, n_neurons: int, k: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores (L, F) and the path (L, k) and margins (L,) that follow from them."""
    scores = np.random.default_rng(seed).standard_normal((n_blocks, n_neurons)) ** 3
    order = np.argsort(-scores, axis=1)
    ranked = np.take_along_axis(scores, order, axis=1)
    return scores, order[:, :k], (ranked[:, 0] - ranked[:, 1]) / np.abs(ranked[:, 0])


def panel(figure: Figure) -> Axes:
    """The axes in which the path is drawn."""
    return next(axes for axes in figure.axes if axes.get_ylabel().endswith("euron index"))


def path_line(figure: Figure) -> Line2D:
    """The line of the path itself, drawn with markers."""
    return next(line for line in panel(figure).lines if line.get_marker() == "o" and line.get_linestyle() == "-")


def index_labels(figure: Figure) -> list[Text]:
    """The labels beside the markers."""
    return list(panel(figure).texts)


def boxes(figure: Figure, texts: list[Text]) -> list[Bbox]:
    """Where texts lie, in pixels."""
    with figure_style():
        figure.canvas.draw()
        renderer = cast("FigureCanvasAgg", figure.canvas).get_renderer()
        return [Text.get_window_extent(text, renderer) for text in texts]


def visible_texts(figure: Figure) -> list[Text]:
    """Every text that is drawn, tick labels and legends included."""
    with figure_style():
        figure.canvas.draw()
    texts = [cast("Text", artist) for artist in figure.findobj(Text)]
    hidden = {id(axis.offsetText) for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)}
    shown = [text for text in texts if text.get_visible() and text.get_text().strip() and id(text) not in hidden]
    ticks = {
        id(label): (place, low, high)
        for axes in figure.axes
        for place, axis, (low, high) in ((0, axes.xaxis, axes.get_xlim()), (1, axes.yaxis, sorted(axes.get_ylim())))
        for label in axis.get_ticklabels()
    }
    return [text for text in shown if id(text) not in ticks or _within(text, *ticks[id(text)])]


def _within(tick: Text, place: int, low: float, high: float) -> bool:
    """Whether a tick is within its axis: the others are not drawn."""
    return min(low, high) <= tick.get_position()[place] <= max(low, high)


def assert_inside(figure: Figure) -> None:
    """No text leaves the figure."""
    texts = visible_texts(figure)
    width, height = figure.bbox.width, figure.bbox.height
    for text, box in zip(texts, boxes(figure, texts), strict=True):
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= width, text
        assert box.y1 <= height, text


def assert_apart(figure: Figure, texts: list[Text]) -> None:
    """No two of the texts overlap by more than a hair (boxes include the letters' empty descent)."""
    placed = boxes(figure, texts)
    hair = 0.02 * figure.dpi
    for i, one in enumerate(placed):
        for j in range(i):
            other = placed[j]
            across = min(one.x1, other.x1) - max(one.x0, other.x0)
            up = min(one.y1, other.y1) - max(one.y0, other.y0)
            assert across <= 0 or up <= hair, (texts[i], texts[j])
