"""The figure of one image: everything at its place, nothing over anything else, whatever the model's shape."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.patches import StepPatch

from neuron_path.errors import NeuronPathError
from neuron_path.report.figures import image_path_figure
from tests.report.figures.drawing import (
    assert_apart,
    assert_inside,
    index_labels,
    panel,
    path_line,
    random_search,
    visible_texts,
)

DIGIT = np.linspace(0, 1, 64).reshape(8, 8)
PHOTO = np.random.default_rng(0).random((224, 224, 3))
LONG = "great white shark, white shark, man-eater, man-eating shark, Carcharodon carcharias"


@pytest.mark.covering
@pytest.mark.parametrize("n_blocks", [1, 6, 12, 24])
@pytest.mark.parametrize("n_neurons", [48, 4096])
@pytest.mark.parametrize("k", [1, 3, 10])
def test_path_is_drawn_where_it_is(n_blocks: int, n_neurons: int, k: int) -> None:
    scores, path, margins = random_search(n_blocks, n_neurons, k)
    figure = image_path_figure(
        DIGIT if n_neurons == 48 else PHOTO,
        path[:, 0] if k == 1 else path,
        n_neurons=n_neurons,
        candidate_scores=scores,
        margins=margins,
        label=3,
        target=3,
        prediction=5,
        target_probability=0.0312,
        score=1.2e-5,
        sample_id="val/n01484850/ILSVRC2012_val_00004311.JPEG",
        class_names={3: LONG, 5: LONG},
    )
    np.testing.assert_array_equal(path_line(figure).get_xydata(), np.column_stack([np.arange(n_blocks), path[:, 0]]))
    others = [line for line in panel(figure).lines if line.get_marker() == "o" and line.get_linestyle() == "None"]
    assert len(others) == (k > 1)
    for line in others:
        drawn = np.asarray(line.get_ydata()).reshape(n_blocks, k - 1)
        np.testing.assert_array_equal(drawn, path[:, 1:])
    labels = index_labels(figure)
    shown = path if k <= 3 else path[:, :1]
    assert sorted(int(text.get_text()) for text in labels) == sorted(shown.ravel().tolist())
    assert_apart(figure, labels)
    assert_inside(figure)
    for line in panel(figure).lines:
        data = np.asarray(line.get_xydata())
        (left, right), (low, high) = panel(figure).get_xlim(), panel(figure).get_ylim()
        assert left < data[:, 0].min()
        assert data[:, 0].max() < right
        assert low < data[:, 1].min()
        assert data[:, 1].max() < high


@pytest.mark.covering
@pytest.mark.parametrize("shape", [(8, 8), (4, 16), (300, 100, 3)])
@pytest.mark.parametrize("name", ["W" * 60, "W " * 40])
def test_picture_name_and_facts_stay_at_their_side(shape: tuple[int, ...], name: str) -> None:
    figure = image_path_figure(
        np.ones(shape),
        [1, 2, 3],
        n_neurons=4,
        label=0,
        prediction=1,
        target=1,
        target_probability=0.5,
        score=-1.25e-12,
        sample_id=name,
        class_names=[name, name],
    )
    assert_apart(figure, visible_texts(figure))
    assert_inside(figure)


def test_without_a_picture_what_is_known_stays() -> None:
    figure = image_path_figure(None, [1, 2, 3], n_neurons=4, label=0, prediction=1, score=0.5, sample_id="cat.png")
    texts = visible_texts(figure)
    assert {"cat.png", "label", "wrong: 1", "0.5"} <= {text.get_text() for text in texts}
    assert not any(axes.images for axes in figure.axes)
    assert_apart(figure, texts)
    assert_inside(figure)


def test_bytes_are_pixels_from_0_to_255() -> None:
    figure = image_path_figure(np.array([[0, 51], [255, 1]], dtype=np.uint8), [0], n_neurons=3)
    (drawn,) = (axes.images[0] for axes in figure.axes if axes.images)
    np.testing.assert_allclose(np.asarray(drawn.get_array()), [[0, 0.2], [1, 1 / 255]])


def test_crowded_neurons_keep_labels_apart_and_in_order() -> None:
    path = np.array([[0, 1, 2], [4095, 4094, 4093], [2000, 2001, 1999]])
    figure = image_path_figure(PHOTO, path, n_neurons=4096)
    labels = index_labels(figure)
    assert_apart(figure, labels)
    assert_inside(figure)
    for block in range(3):
        column = [text for text in labels if text.xy[0] == block]  # type: ignore[attr-defined]
        heights = {int(text.get_text()): text.xyann[1] + 1e-3 * int(text.get_text()) for text in column}  # type: ignore[attr-defined]
        assert sorted(heights, key=heights.__getitem__) == sorted(heights)


def test_chosen_neuron_is_the_widest_of_its_profile() -> None:
    scores, path, _ = random_search(6, 100, 1)
    figure = image_path_figure(DIGIT, path, n_neurons=100, candidate_scores=scores)
    profiles = [patch for patch in panel(figure).patches if isinstance(patch, StepPatch)]
    assert len(profiles) == 6
    for block, profile in enumerate(profiles):
        values, edges, _ = profile.get_data()
        widest = int(np.argmax(values))
        assert edges[widest] < path[block, 0] < edges[widest + 1]


@pytest.mark.parametrize("fill", [0.0, np.nan, -np.inf])
def test_profiles_of_equal_or_unknown_scores_are_flat(fill: float) -> None:
    figure = image_path_figure(DIGIT, [0, 0], n_neurons=300, candidate_scores=np.full((2, 300), fill))
    for patch in panel(figure).patches:
        assert isinstance(patch, StepPatch)
        values, _, baseline = patch.get_data()
        np.testing.assert_array_equal(values, baseline)
    assert_inside(figure)


def test_blocks_of_different_widths() -> None:
    widths = [384, 768, 3072]
    figure = image_path_figure(PHOTO, [383, 767, 3071], n_neurons=widths, candidate_scores=np.zeros((3, 3072)))
    assert np.asarray(path_line(figure).get_ydata()).tolist() == [383, 767, 3071]
    assert_inside(figure)


def test_margins_are_written_in_percent() -> None:
    figure = image_path_figure(DIGIT, [0, 1, 2, 0], n_neurons=3, margins=[0.5, 0.0004, np.nan, 1.2])
    written = [text.get_text() for axes in figure.axes if axes.get_ylabel() == "margin (%)" for text in axes.texts]
    assert written == ["50", "<0.1", "–", "120"]
    assert_inside(figure)


def test_text_from_data_is_drawn_as_it_is() -> None:
    figure = image_path_figure(
        DIGIT, [0], n_neurons=3, sample_id="$x_1$\n\x07猫.png", label=0, class_names=["$\\frac$"]
    )
    texts = [text.get_text() for text in figure.texts]
    assert "$x_1$ □.png" in texts
    assert "0 $\\frac$" in texts
    assert_inside(figure)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"path": [0, 48]}, "path names neuron 48 in block 1, expected 0 to 47"),
        ({"path": [0, -2]}, "neuron index -2"),
        ({"path": [0.5, 1.0]}, "float64, expected integer"),
        ({"path": []}, r"shape \(0,\)"),
        ({"path": [[[0]]]}, r"shape \(1, 1, 1\)"),
        ({"path": [[0, 1], [2]]}, "rows of different lengths"),
        ({"path": ["a", "b"]}, "expected numbers"),
        ({"n_neurons": [48, 48, 48]}, "each of the 2 blocks"),
        ({"n_neurons": 0}, "positive integer"),
        ({"image": np.zeros(8)}, r"image has shape \(8,\)"),
        ({"image": np.zeros((3, 8, 8))}, "channels last"),
        ({"image": np.full((8, 8), 255.0)}, "undo the normalisation"),
        ({"image": np.full((8, 8), np.nan)}, "NaN"),
        ({"margins": [0.1]}, r"margins has shape \(1,\), expected \(2,\)"),
        ({"candidate_scores": np.zeros((2, 40))}, r"expected \(2, 48\)"),
    ],
)
def test_mistakes_are_named_in_one_line(changed: dict, message: str) -> None:
    arguments = {"image": DIGIT, "path": [0, 1], "n_neurons": 48} | changed
    with pytest.raises(NeuronPathError, match=message) as caught:
        image_path_figure(arguments.pop("image"), arguments.pop("path"), **arguments)
    assert "\n" not in str(caught.value)
