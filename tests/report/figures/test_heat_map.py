"""A number for each patch over the picture: colours where they belong, and scales that say what they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from neuron_path.errors import NeuronPathError
from neuron_path.report.figures import heat_map_figure
from neuron_path.report.style import BLUE, VERMILION, save_figure
from tests.report.figures.drawing import visible_texts

VALUES = np.array([[0.5, 0.0, -0.25], [0.1, -0.5, 0.2]])
PICTURE = np.linspace(0, 1, 8 * 12).reshape(8, 12)


def test_each_patch_has_its_colour_as_strong_as_its_value() -> None:
    figure = heat_map_figure(PICTURE, VALUES, sample_id="a dog")
    (_, over) = figure.axes[1].images
    colours = np.asarray(over.get_array())
    np.testing.assert_allclose(colours[0, 0, :3], to_rgb(VERMILION), atol=0.01)
    np.testing.assert_allclose(colours[1, 1, :3], to_rgb(BLUE), atol=0.01)
    strength = colours[..., 3] / colours[0, 0, 3]
    np.testing.assert_allclose(strength, np.abs(VALUES) / 0.5)
    assert list(over.get_extent()) == [0, 3, 2, 0]  # the upper left patch first
    frame = figure.axes[1].lines[-1].get_xydata()
    assert frame is not None
    assert np.asarray(frame).min(0).tolist() == [0, 0]
    assert np.asarray(frame).max(0).tolist() == [1, 1]
    texts = [text.get_text() for text in visible_texts(figure)]
    assert {"+0.5", "−0.5", "0", "a dog", "adds to\nthe effect", "lessens it"} <= set(texts)


@pytest.mark.parametrize("quantity", ["effect", "activation"])
@pytest.mark.parametrize("image", [None, PICTURE, np.zeros((5, 3, 3), np.uint8)], ids=["none", "grey", "colour"])
def test_any_picture_and_map_can_be_written(tmp_path: Any, image: np.ndarray | None, quantity: str) -> None:
    for values in (VALUES, np.zeros((1, 1)), -np.ones((16, 16))):
        files = save_figure(heat_map_figure(image, values, quantity=quantity, sample_id=3), tmp_path / "map")
        assert all(file.stat().st_size for file in files)


@pytest.mark.parametrize(
    ("values", "quantity", "message"),
    [
        (np.zeros(3), "effect", r"expected \(rows, columns\)"),
        (np.full((2, 2), np.nan), "effect", "NaN or infinite"),
        (VALUES, "heat", "quantity is 'heat'"),
    ],
)
def test_what_is_no_map_is_refused(values: np.ndarray, quantity: str, message: str) -> None:
    with pytest.raises(NeuronPathError, match=message):
        heat_map_figure(PICTURE, values, quantity=quantity)
