"""The class figure: modes are modes, counts are counts, and few images are no reason to fail."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from matplotlib.collections import FillBetweenPolyCollection, LineCollection

from neuron_path.errors import NeuronPathError
from neuron_path.report.figures import class_distribution_figure
from tests.report.figures.drawing import assert_apart, assert_inside, index_labels, panel, path_line


def draw_paths(n: int, n_blocks: int, n_neurons: int, k: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    favourites = rng.integers(0, n_neurons, (1, n_blocks, k))
    anything = rng.integers(0, n_neurons, (n, n_blocks, k))
    return np.where(rng.random((n, n_blocks, k)) < 0.5, favourites, anything)


@pytest.mark.covering
@pytest.mark.parametrize(("n", "n_blocks"), [(1, 1), (2, 6), (36, 12), (200, 24)])
@pytest.mark.parametrize("n_neurons", [48, 4096])
@pytest.mark.parametrize("k", [1, 3, 10])
def test_modes_counts_and_places(n: int, n_blocks: int, n_neurons: int, k: int) -> None:
    paths = draw_paths(n, n_blocks, n_neurons, k)
    name = "great white shark, white shark, man-eater, man-eating shark, Carcharodon carcharias"
    figure = class_distribution_figure(paths[..., 0] if k == 1 else paths, n_neurons=n_neurons, class_name=name)
    bars = [item for item in panel(figure).collections if isinstance(item, LineCollection)]
    modes = []
    for block in range(n_blocks):
        counts = Counter(paths[:, block].ravel().tolist())
        most = max(counts.values())
        modes.append(min(neuron for neuron, count in counts.items() if count == most))
        segments = [np.asarray(segment) for segment in bars[block].get_segments()]
        assert [segment[0, 1] for segment in segments] == sorted(counts)
        lengths = {int(segment[0, 1]): np.ptp(segment[:, 0]) for segment in segments}
        for neuron, count in counts.items():
            assert lengths[neuron] / lengths[modes[-1]] == pytest.approx(max(count / most, 0.05))
    assert np.asarray(path_line(figure).get_ydata()).tolist() == modes
    assert [int(text.get_text()) for text in index_labels(figure)] == modes
    assert_apart(figure, [*index_labels(figure), *figure.texts])
    assert_inside(figure)


@pytest.mark.parametrize(("n", "drawn"), [(1, 0), (4, 0), (5, 6), (40, 6)])
def test_violins_need_five_choices_and_bear_identical_ones(n: int, drawn: int) -> None:
    figure = class_distribution_figure(np.full((n, 6), 7), n_neurons=48, class_name=3)
    violins = [item for item in panel(figure).collections if isinstance(item, FillBetweenPolyCollection)]
    assert len(violins) == drawn
    assert_inside(figure)


def test_share_of_the_mode_counts_images_not_slots() -> None:
    paths = np.array([[[1, 2]], [[2, 1]], [[1, 3]], [[4, 5]]])
    figure = class_distribution_figure(paths, n_neurons=6, class_name="cat")
    strip = next(axes for axes in figure.axes if "mode (%)" in axes.get_ylabel())
    assert [text.get_text() for text in strip.texts] == ["75"]


@pytest.mark.parametrize(("n_images", "words"), [(None, "n = 4 images"), (4, "n = 4 images"), (9, "n = 4 of 9 images")])
def test_number_of_images_is_written(n_images: int | None, words: str) -> None:
    figure = class_distribution_figure(np.zeros((4, 3), int), n_neurons=2, class_name=3, n_images=n_images)
    assert [text.get_text() for text in figure.texts] == ["Class 3", words]


@pytest.mark.parametrize(
    ("paths", "options", "message"),
    [
        ([0, 1], {}, r"shape \(2,\), expected \(N, L\)"),
        (np.zeros((0, 12), int), {}, "no empty axis"),
        ([[0, 9]], {}, "paths names neuron 9 in block 1, expected 0 to 7"),
        ([[0, 1], [1, 2]], {"n_images": 1}, "n_images is 1, expected at least the 2"),
    ],
)
def test_mistakes_are_named(paths: object, options: dict, message: str) -> None:
    with pytest.raises(NeuronPathError, match=message):
        class_distribution_figure(np.asarray(paths), n_neurons=8, class_name="cat", **options)
