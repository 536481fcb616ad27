"""The heat map of usage: every cell is its frequency, the most used neurons are drawn, and what is left out is said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neuron_path.errors import NeuronPathError
from neuron_path.report.figures.usage_heat_map import usage_heat_map_figure
from neuron_path.report.style import save_figure
from tests.report.figures.drawing import assert_apart, assert_inside, visible_texts


def draw_usage(n_classes: int, n_blocks: int, n_neurons: int, seed: int = 0) -> tuple[np.ndarray, pd.DataFrame]:
    """Frequencies (C, L, F), most of them 0, and their table."""
    rng = np.random.default_rng(seed)
    values = rng.random((n_classes, n_blocks, n_neurons)) * (rng.random((n_classes, n_blocks, n_neurons)) < 0.3)
    values[:, :, 0] += 0.01
    values /= values.sum(axis=2, keepdims=True)
    place = np.nonzero(values)
    columns = dict(zip(("class", "block", "neuron"), place, strict=True))
    return values, pd.DataFrame(columns | {"frequency": values[place]})


def panels(figure: Figure) -> list[Axes]:
    """The blocks from left to right."""
    return sorted((axes for axes in figure.axes if axes.get_title()), key=lambda axes: int(axes.get_title()))


def cells(axes: Axes) -> np.ndarray:
    return np.asarray(axes.images[0].get_array())


def written(labels: Sequence[Any]) -> list[str]:
    return [label.get_text() for label in labels]


@pytest.mark.parametrize(
    ("n_classes", "n_blocks", "n_neurons", "per_block", "expected"),
    [
        (1, 1, 3, None, 3),
        (10, 12, 48, None, 6),
        (3, 24, 30, None, 3),
        (40, 6, 100, 4, 4),
        pytest.param(200, 24, 60, None, 3, marks=pytest.mark.slow),
    ],
)
def test_cells_are_frequencies_of_the_most_used_neurons(
    n_classes: int, n_blocks: int, n_neurons: int, per_block: int | None, expected: int
) -> None:
    values, usage = draw_usage(n_classes, n_blocks, n_neurons)
    figure = usage_heat_map_figure(usage.sample(frac=1, random_state=0), per_block=per_block)
    drawn = panels(figure)
    assert written([axes.title for axes in drawn]) == [str(block) for block in range(n_blocks)]
    covered = 0.0
    for block, axes in enumerate(drawn):
        means = values[:, block].mean(axis=0)
        in_use = np.flatnonzero(means)
        best = sorted(in_use.tolist(), key=lambda neuron: (-means[neuron], neuron))[:expected]
        assert written(axes.get_xticklabels()) == [str(neuron) for neuron in sorted(best)]
        np.testing.assert_array_equal(cells(axes), values[:, block, sorted(best)])
        assert axes.images[0].get_clim()[0] == 0
        covered += means[best].sum() / n_blocks
    assert len({axes.images[0].get_clim() for axes in drawn}) == 1
    note = " ".join(text.get_text() for text in figure.texts)
    assert f"they hold {100 * covered:.0f} % of all choices" in note
    assert f"of {np.count_nonzero(values.any(axis=0)):,} neurons in use are shown" in note
    assert_inside(figure)
    assert_apart(figure, visible_texts(figure))


def test_classes_are_drawn_in_the_order_asked_for_under_their_names() -> None:
    values, usage = draw_usage(4, 2, 5)
    figure = usage_heat_map_figure(usage, order=[2, 0, 3], class_names=["cat", "dog", "great white shark, man-eater"])
    first, second = panels(figure)
    shark, *others = written(first.get_yticklabels())
    assert shark.startswith("2 great white shark")
    assert shark.endswith("…")
    assert others == ["0 cat", "3"]
    assert written(second.get_yticklabels()) == []
    means = values[[2, 0, 3], 0].mean(axis=0)
    np.testing.assert_array_equal(cells(first), values[[2, 0, 3], 0][:, np.flatnonzero(means)])


def test_where_not_every_class_can_be_named_the_figure_says_so() -> None:
    _, usage = draw_usage(200, 2, 5)
    figure = usage_heat_map_figure(usage, kind="target")
    assert written(panels(figure)[0].get_yticklabels()) == [str(index) for index in range(0, 200, 4)]
    words = " ".join(text.get_text() for text in figure.texts)
    assert "every 4th class is named" in words
    assert "target" in written(figure.texts)


def test_it_can_be_written_and_is_the_same_each_time(tmp_path: Any) -> None:
    _, usage = draw_usage(3, 2, 5)
    formats = ("png", "svg", "pdf")
    first = save_figure(usage_heat_map_figure(usage), tmp_path / "a", formats)
    again = save_figure(usage_heat_map_figure(usage), tmp_path / "b", formats)
    assert [file.read_bytes() for file in first] == [file.read_bytes() for file in again]


def change(**columns: Any) -> pd.DataFrame:
    rows = {"class": [0, 0, 1], "block": [0, 1, 1], "neuron": [2, 3, 3], "frequency": [1.0, 0.5, 0.25]}
    return pd.DataFrame(rows | columns)


@pytest.mark.parametrize(
    ("usage", "options", "told"),
    [
        (change().drop(columns=["block", "frequency"]), {}, r"lacks the column\(s\) block, frequency"),
        (change().iloc[:0], {}, "no row"),
        (change(frequency=[1.0, 0.5, 1.25]), {}, "from 0.5 to 1.25, expected"),
        (change(frequency=[1.0, 0.5, np.nan]), {}, "NaN"),
        (change(frequency=["a", "b", "c"]), {}, "frequency holds what is no number"),
        (change(block=[0, 1, -1]), {}, "block or neuron below 0"),
        (change(**{"class": [0, 1, 1]}), {}, "twice"),
        (change(), {"per_block": 0}, "per_block is 0"),
        (change(), {"order": [0, 7]}, "order names the class 7"),
        (change(), {"order": [0, 0]}, "each once"),
        (change(), {"order": []}, "each once"),
    ],
)
def test_mistakes_are_named(usage: pd.DataFrame, options: dict[str, Any], told: str) -> None:
    with pytest.raises(NeuronPathError, match=told):
        usage_heat_map_figure(usage, **options)
