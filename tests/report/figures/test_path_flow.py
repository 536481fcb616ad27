"""The alluvial figure: bands as wide as their share, bars that hold what flows through them."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import PathPatch, Rectangle

from neuron_path.errors import NeuronPathError
from neuron_path.report.figures.path_flow import path_flow_figure
from neuron_path.report.style import save_figure
from tests.report.figures.drawing import assert_inside


def bars(figure: Any) -> dict[float, list[Rectangle]]:
    """Bars by their place from left to right."""
    found: dict[float, list[Rectangle]] = {}
    for patch in figure.axes[0].patches:
        if isinstance(patch, Rectangle):
            found.setdefault(round(patch.get_x(), 6), []).append(patch)
    return dict(sorted(found.items()))


def bands(figure: Any) -> list[PathPatch]:
    return [patch for patch in figure.axes[0].patches if isinstance(patch, PathPatch)]


def thickness(band: PathPatch) -> tuple[float, float]:
    """At its left and at its right end."""
    corners = np.asarray(band.get_path().vertices)
    return corners[0, 1] - corners[7, 1], corners[3, 1] - corners[4, 1]


def test_a_worked_example() -> None:
    """Two classes of 2 and 4 images, two blocks; each class has the same height."""
    paths = [[3, 0], [3, 1], [7, 1], [7, 1], [3, 1], [8, 2]]
    figure = path_flow_figure(paths, [0, 0, 1, 1, 1, 1], per_block=2)
    columns = list(bars(figure).values())
    unit = columns[0][0].get_height()
    heights = [[round(bar.get_height() / unit, 6) for bar in column] for column in columns]
    assert heights[0] == [1, 1]
    assert sorted(heights[1]) == [0.25, 0.5, 1.25]  # neuron 3: 1 + 1/4; 7: 2/4; all others: 1/4
    assert sorted(heights[2]) == [0.25, 0.5, 1.25]  # neuron 1: 1/2 + 3/4; 0: 1/2; others: 1/4
    labels = [text.get_text() for text in figure.axes[0].texts]
    assert labels[: len(columns[1])] == ["3", "7", "other"]
    flows = sorted(round(thickness(band)[0] / unit, 6) for band in bands(figure))
    # class 0: all to 3, then half to 0 and 1; class 1: 3 → 1, 7 → 1 (two images), other → other
    assert flows == sorted([1, 0.5, 0.5, 0.25, 0.25, 0.5, 0.25, 0.5, 0.25])


@pytest.mark.parametrize(("n_classes", "n_blocks", "k"), [(1, 1, 1), (3, 6, 1), (6, 4, 3)])
def test_nothing_is_lost_between_blocks(n_classes: int, n_blocks: int, k: int, tmp_path: Any) -> None:
    rng = np.random.default_rng(0)
    n = 12 * n_classes
    paths = rng.random((n, n_blocks, 60)).argsort(axis=2)[:, :, :k]
    paths[:, :, 0] = rng.integers(0, 7, (n, n_blocks))
    classes = np.arange(n) % n_classes
    figure = path_flow_figure(paths if k > 1 else paths[:, :, 0], classes)
    columns = bars(figure)
    assert len(columns) == n_blocks + 1
    unit = next(iter(columns.values()))[0].get_height()
    for column in columns.values():
        assert sum(bar.get_height() for bar in column) == pytest.approx(n_classes * unit)
        edges = sorted((bar.get_y(), bar.get_y() + bar.get_height()) for bar in column)
        assert all(low[1] < high[0] for low, high in itertools.pairwise(edges))
        assert edges[0][0] >= -1e-9
    for band in bands(figure):
        assert thickness(band)[0] == pytest.approx(thickness(band)[1])
    # Bands fill the bar that they leave: stacked, none over another.
    left = next(iter(columns)) + 0.06
    corners = [np.asarray(band.get_path().vertices) for band in bands(figure)]
    ends = sorted((float(own[7, 1]), float(own[0, 1])) for own in corners if own[0, 0] == pytest.approx(left))
    assert all(low[1] <= high[0] + 1e-9 for low, high in itertools.pairwise(ends))
    assert_inside(figure)
    assert all(file.stat().st_size for file in save_figure(figure, tmp_path / "flow"))


def test_classes_keep_their_colours_and_their_order() -> None:
    rng = np.random.default_rng(0)
    paths, classes = rng.integers(0, 3, (30, 4)), np.arange(30) % 3
    figure = path_flow_figure(paths, classes, shown=[2, 0], class_names=["zero", "one", "two"])
    words = [text.get_text() for text in figure.axes[0].texts]
    assert words[-2:] == ["2 two", "0 zero"]
    first = next(iter(bars(figure).values()))
    assert {to_hex(band.get_facecolor()) for band in bands(figure)} == {to_hex(bar.get_facecolor()) for bar in first}
    assert "Images: 2 two: 10, 0 zero: 10." in " ".join(text.get_text() for text in figure.texts)


def test_what_cannot_flow_is_refused() -> None:
    for paths, classes, options, words in [
        ([[0]], [0, 1], {}, "one per path"),
        ([[0]] * 7, list(range(7)), {}, "expected 1 to 6"),
        ([[0]], [0], {"shown": [1]}, "Class 1 has no path"),
        ([[0]], [0], {"per_block": 0}, "per_block is 0"),
        ([0], [0], {}, "paths has shape"),
    ]:
        with pytest.raises(NeuronPathError, match=words):
            path_flow_figure(paths, classes, **options)  # pyright: ignore[reportArgumentType]
