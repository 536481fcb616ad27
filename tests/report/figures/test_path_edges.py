"""The figure of edges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.patches import PathPatch

from neuron_path.errors import NeuronPathError
from neuron_path.report.figures import path_edges_figure
from neuron_path.report.style import BLUE, VERMILION, save_figure

PATH = np.array([5, 0, 11, 7])
EDGES = np.triu(np.arange(16.0).reshape(4, 4) - 6, 1)
STRAIGHT = np.array([1.0, -2.0, 0.0, 3.0])


def arcs(figure: Any) -> list[Any]:
    return [patch for axes in figure.axes for patch in axes.patches if isinstance(patch, PathPatch)]


def test_arcs_are_as_wide_as_their_edges_and_on_the_side_of_their_sign() -> None:
    figure = path_edges_figure(PATH, EDGES, STRAIGHT, most=3, sample_id="a dog")
    drawn = {}
    for arc in arcs(figure):
        (left, _), (_, height), _, (right, _) = arc.get_path().vertices
        drawn[round(left), round(right)] = (np.sign(height), arc.get_linewidth())
    order = sorted(((abs(EDGES[pair]), pair) for pair in np.ndindex(EDGES.shape)), reverse=True)[:3]
    assert set(drawn) == {pair for _, pair in order}
    for size, pair in order:
        sign, width = drawn[pair]
        assert sign == np.sign(EDGES[pair])
        assert width == pytest.approx(4.5 * size / order[0][0])
    words = [text.get_text() for text in figure.texts]
    held = sum(size for size, _ in order) / np.abs(EDGES).sum()
    assert f"3 of 5 edges are drawn, the largest, with {held:.0%} of all magnitudes." in words
    assert "a dog" in words
    bars = next(axes for axes in figure.axes if axes.get_ylabel() == "effect")
    heights: list[Any] = list(bars.patches)
    assert [bar.get_height() for bar in heights] == STRAIGHT.tolist()
    totals = next(line for line in bars.lines if line.get_marker() == "o").get_ydata()
    np.testing.assert_allclose(np.asarray(totals, float), STRAIGHT + EDGES.sum(1))


def test_several_neurons_of_a_block_stand_side_by_side(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = np.array([[3, 1], [0, -1], [2, 4]])
    edges = rng.normal(size=(3, 2, 3, 2)) * (np.arange(3)[:, None, None, None] < np.arange(3)[None, None, :, None])
    figure = path_edges_figure(path, edges, rng.normal(size=(3, 2)), units="heads")
    ends = {round(float(x), 6) for arc in arcs(figure) for x in arc.get_path().vertices[[0, -1], 0]}
    assert len(ends) == 6
    files = save_figure(figure, tmp_path / "edges", ("png", "svg"))
    again = save_figure(path_edges_figure(path, edges, np.zeros((3, 2)), units="heads"), tmp_path / "other", ("svg",))
    assert files[1].read_bytes() != again[0].read_bytes()


def test_no_edge_is_drawn_where_there_is_none() -> None:
    figure = path_edges_figure(PATH, np.zeros((4, 4)), STRAIGHT)
    assert arcs(figure) == []
    assert "0 of 0 edges are drawn" in " ".join(text.get_text() for text in figure.texts)


def test_colours_tell_signs() -> None:
    from matplotlib.colors import to_hex

    found = {to_hex(arc.get_edgecolor()).upper() for arc in arcs(path_edges_figure(PATH, EDGES, STRAIGHT))}
    assert found == {BLUE, VERMILION}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"edges": np.zeros((3, 3))}, "edges has shape"),
        ({"to_output": np.zeros(3)}, "to_output"),
        ({"edges": np.full((4, 4), np.nan)}, "NaN"),
        ({"most": 0}, "most is 0; expected 1 or more"),
        ({"most": 2.5}, "most is 2.5; expected 1 or more"),
        ({"path": np.zeros((2, 2, 2), int)}, "path has shape"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"path": PATH, "edges": EDGES, "to_output": STRAIGHT, **change}
    with pytest.raises(NeuronPathError, match=message):
        path_edges_figure(**given)
