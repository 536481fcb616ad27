"""The paper's preliminary figure: where the highest-scored neurons lie."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from neuron_path.errors import NeuronPathError
from neuron_path.report.style import save_figure
from study_figures.top_neuron_blocks import count_top_neurons, top_neuron_blocks_figure
from tests.report.figures.drawing import assert_apart, assert_inside, visible_texts


def test_counts_are_those_of_a_sorted_list() -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 30, (20, 4, 6)).astype(float)
    scores[:, 2, 4:] = np.nan  # a narrower block
    for n_top in (1, 5, 22):
        expected = np.zeros((20, 4))
        for image in range(20):
            flat = [
                (-scores[image, b, f], b, f) for b in range(4) for f in range(6) if not np.isnan(scores[image, b, f])
            ]
            for _, block, _ in sorted(flat)[:n_top]:
                expected[image, block] += 1
        np.testing.assert_array_equal(count_top_neurons(scores, n_top), expected)
    with pytest.raises(NeuronPathError, match="expected 1 to 22"):
        count_top_neurons(scores, 23)


@pytest.mark.parametrize(("n", "n_blocks", "n_models"), [(1, 1, 1), (30, 12, 2), (30, 40, 3)])
def test_bars_are_mean_shares_and_lines_their_quartiles(n: int, n_blocks: int, n_models: int, tmp_path: Any) -> None:
    rng = np.random.default_rng(0)
    counts = {f"model {m}": rng.multinomial(10, np.ones(n_blocks) / n_blocks, size=n) for m in range(n_models)}
    figure = top_neuron_blocks_figure(counts)
    panels = {axes.get_title(loc="left"): axes for axes in figure.axes}
    assert list(panels)[::-1] == list(counts)
    for name, values in counts.items():
        bars = [bar.get_height() for bar in panels[name].patches]  # pyright: ignore[reportAttributeAccessIssue]
        np.testing.assert_allclose(bars, values.mean(axis=0) / 10)
        lines: Any = panels[name].collections[0]
        ends = np.array([segment[:, 1] for segment in lines.get_segments()])
        np.testing.assert_allclose(ends.T, np.quantile(values / 10, (0.25, 0.75), axis=0))
        assert "top 10 neurons" in panels[name].get_title(loc="right")
    assert_inside(figure)
    assert_apart(figure, visible_texts(figure))
    assert all(file.stat().st_size for file in save_figure(figure, tmp_path / "blocks"))


def test_what_are_no_counts_is_refused() -> None:
    for counts, words in [
        ({}, "no model"),
        ({"a": [1, 2]}, r"shape \(2,\)"),
        ({"a": [[1, -1]]}, "from 0 up"),
        ({"a": [[0, 0]]}, "no neuron in any block"),
    ]:
        with pytest.raises(NeuronPathError, match=words):
            top_neuron_blocks_figure(counts)  # pyright: ignore[reportArgumentType]
