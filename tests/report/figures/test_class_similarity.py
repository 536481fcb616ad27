"""The clustermap: cells are similarities in the order of the tree, and the tree is the one that was given."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from neuron_path.errors import NeuronPathError
from neuron_path.report.figures.class_similarity import class_similarity_figure
from neuron_path.report.figures.matrix import SCALE
from neuron_path.report.style import save_figure
from tests.report.figures.drawing import assert_apart, assert_inside, visible_texts


def draw_classes(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A similarity (C, C) and its tree."""
    similarity = np.random.default_rng(seed).random((n, n))
    similarity = (similarity + similarity.T) / 2
    np.fill_diagonal(similarity, 1)
    distances = squareform(1 - similarity, checks=False)
    return similarity, hierarchy.linkage(distances, "average", optimal_ordering=True)


@pytest.mark.parametrize("n", [2, 10, 49, pytest.param(200, marks=pytest.mark.slow)])
def test_cells_lie_in_the_order_of_the_tree(n: int) -> None:
    similarity, linkage = draw_classes(n)
    figure = class_similarity_figure(similarity, linkage, classes=np.arange(n) + 100, cophenetic=0.876)
    panel = next(axes for axes in figure.axes if axes.images)
    order = hierarchy.leaves_list(linkage)
    cells = np.ma.asarray(panel.images[0].get_array())
    others = ~np.eye(n, dtype=bool)
    np.testing.assert_array_equal(np.ma.getmaskarray(cells), ~others)
    np.testing.assert_array_equal(cells.data[others], similarity[np.ix_(order, order)][others])
    names = [label.get_text() for label in panel.get_yticklabels()]
    step = -(-n // len(names))
    assert names == [str(index + 100) for index in order[::step]]
    words = " ".join(text.get_text() for text in figure.texts)
    assert ("Every 4th class is named" in words) == (n == 200)
    assert "cophenetic correlation 0.88" in words
    assert_inside(figure)
    assert_apart(figure, visible_texts(figure))


@pytest.mark.parametrize("n", [2, 9, 80])
def test_the_tree_is_drawn_as_scipy_draws_it(n: int) -> None:
    similarity, linkage = draw_classes(n, seed=1)
    figure = class_similarity_figure(similarity, linkage)
    tree = next(axes for axes in figure.axes if axes.get_xlabel() == "distance")
    (lines,) = tree.collections
    drawn = sorted(np.asarray(line).tolist() for line in cast("LineCollection", lines).get_segments())
    expected = hierarchy.dendrogram(linkage, no_plot=True)
    # scipy puts leaves at 5, 15, 25, …; the two arms of a merge may be drawn in either order.
    arms = [
        [[d, (i - 5) / 10] for d, i in zip(dcoord, icoord, strict=True)]
        for dcoord, icoord in zip(expected["dcoord"], expected["icoord"], strict=True)
    ]
    as_set = lambda shapes: sorted(sorted([round(x, 9), round(y, 9)] for x, y in shape) for shape in shapes)  # noqa: E731
    assert as_set(drawn) == as_set(arms)
    assert tree.get_ylim() == (n - 0.5, -0.5)


def test_small_matrices_hold_their_numbers() -> None:
    similarity, linkage = draw_classes(4)
    panel = next(axes for axes in class_similarity_figure(similarity, linkage).axes if axes.images)
    order = hierarchy.leaves_list(linkage)
    found = {tuple(map(int, text.get_position())): text.get_text() for text in panel.texts}
    assert len(found) == 12
    for (column, row), text in found.items():
        assert float(text) == pytest.approx(similarity[order[row], order[column]], abs=0.0051)


def test_equal_similarities_can_be_drawn() -> None:
    similarity = np.full((3, 3), 0.4)
    linkage = hierarchy.linkage(squareform(1 - similarity, checks=False), "average")
    assert_inside(class_similarity_figure(similarity, linkage, cophenetic=float("nan")))
    same = np.ones((3, 3))
    linkage = hierarchy.linkage(squareform(1 - same, checks=False), "average")
    figure = class_similarity_figure(same, linkage, class_names={0: "cat"})
    assert "cophenetic" not in " ".join(text.get_text() for text in figure.texts)
    assert_inside(figure)


def test_the_scale_reads_in_grey() -> None:
    light = [np.dot(to_rgb(SCALE(value)), (0.299, 0.587, 0.114)) for value in np.linspace(0, 1, 64)]
    assert (np.diff(light) < 0).all()
    assert light[0] > 0.95
    assert light[-1] < 0.15


def test_it_can_be_written_and_is_the_same_each_time(tmp_path: Any) -> None:
    formats = ("png", "svg", "pdf")
    first = save_figure(class_similarity_figure(*draw_classes(5)), tmp_path / "a", formats)
    again = save_figure(class_similarity_figure(*draw_classes(5)), tmp_path / "b", formats)
    assert [file.read_bytes() for file in first] == [file.read_bytes() for file in again]


@pytest.mark.parametrize(
    ("similarity", "linkage", "options", "told"),
    [
        ([[1.0]], np.zeros((0, 4)), {}, r"similarity has shape \(1, 1\)"),
        ([[1, 0.2], [0.3, 1]], [[0, 1, 0.5, 2]], {}, "not symmetric"),
        ([[1, np.nan], [np.nan, 1]], [[0, 1, 0.5, 2]], {}, "NaN"),
        (np.eye(3), [[0, 1, 0.5, 2]], {}, r"linkage has shape \(1, 4\)"),
        (np.eye(2), [[0, 5, 0.5, 2]], {}, "is no tree"),
        (np.eye(2), [[0, 1, 0.5, 2]], {"classes": [1]}, "one class per row"),
    ],
)
def test_mistakes_are_named(similarity: Any, linkage: Any, options: dict[str, Any], told: str) -> None:
    with pytest.raises(NeuronPathError, match=told):
        class_similarity_figure(similarity, linkage, **options)
