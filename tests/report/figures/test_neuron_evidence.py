"""What a neuron answers to: pictures in the order of their rank, boxes where the patches are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.patches import Rectangle

from neuron_path.errors import NeuronPathError
from neuron_path.evidence.thumbnails import thumbnail
from neuron_path.report.figures.neuron_evidence import neuron_evidence_figure
from neuron_path.report.style import save_figure
from neuron_path.store.evidence import PATCHES_ARE
from tests.report.figures.drawing import assert_apart, assert_inside, visible_texts


def pixels(image: int, *, coloured: bool = False) -> np.ndarray:
    rng = np.random.default_rng(image)
    return rng.integers(0, 256, (12, 8, 3) if coloured else (12, 8)) / 255


def evidence(n_top: int = 3, *, with_patches: bool = True, coloured: bool = False) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for kind in ("image", "patch") if with_patches else ("image",):
        for rank in range(n_top):
            image = rank if kind == "image" else n_top - rank
            rows.append(
                {"block": 2, "neuron": 7, "kind": kind, "rank": rank,
                 "sample_id": f"folder/of a long name/{image}.png",
                 "activation": 3.0 - rank, "patch_activation": 5.5 - rank if with_patches else None,
                 "left": 0.25, "top": 0.5, "right": 0.5, "bottom": 0.75, "thumbnail": None}
            )  # fmt: skip
    seen: set[str] = set()
    for row in rows:
        if row["sample_id"] not in seen:
            seen.add(row["sample_id"])
            row["thumbnail"] = thumbnail(pixels(int(row["sample_id"][-5]), coloured=coloured))
    return pd.DataFrame(rows).sample(frac=1, random_state=0)


@pytest.mark.parametrize("coloured", [False, True])
def test_pictures_stand_in_the_order_of_their_rank(coloured: bool) -> None:
    figure = neuron_evidence_figure(evidence(coloured=coloured), 2, 7)
    shown = [np.asarray(axes.images[0].get_array()) for axes in figure.axes]
    for found, image in zip(shown, [0, 1, 2, 3, 2, 1], strict=True):
        np.testing.assert_array_equal(found, np.round(255 * pixels(image, coloured=coloured)))
    words = [text.get_text() for text in figure.texts]
    assert [word for word in words if word in ("3", "2", "1")] == ["3", "2", "1"]
    assert [word for word in words if word in ("5.5", "4.5", "3.5")] == ["5.5", "4.5", "3.5"]
    assert PATCHES_ARE in words
    assert_inside(figure)
    assert_apart(figure, visible_texts(figure))


def test_boxes_lie_over_the_patches_only() -> None:
    figure = neuron_evidence_figure(evidence(), 2, 7)
    boxes = [[patch for patch in axes.patches if isinstance(patch, Rectangle)] for axes in figure.axes]
    assert [len(own) for own in boxes] == [0, 0, 0, 2, 2, 2]
    for own in boxes[3:]:
        assert {box.get_bbox().bounds for box in own} == {(0.25, 0.5, 0.25, 0.25)}


def test_its_classes_are_named(tmp_path: Any) -> None:
    classes = pd.DataFrame({"class": np.arange(8), "frequency": np.linspace(0.9, 0.2, 8)})
    figure = neuron_evidence_figure(evidence(with_patches=False), 2, 7, classes=classes, class_names=["tench"])
    words = " ".join(text.get_text() for text in figure.texts)
    assert "0 tench (90 %), 1 (80 %)" in words
    assert "and 2 more" in words
    assert len(figure.axes) == 3
    assert_inside(figure)
    assert all(file.stat().st_size for file in save_figure(figure, tmp_path / "neuron"))
    nowhere = neuron_evidence_figure(evidence(), 2, 7, classes=classes.iloc[:0])
    assert "on no path" in " ".join(text.get_text() for text in nowhere.texts)


def test_a_picture_that_is_not_there_leaves_its_place() -> None:
    figure = neuron_evidence_figure(evidence().assign(thumbnail=None), 2, 7)
    assert not any(axes.images for axes in figure.axes)
    assert len(figure.axes) == 6


def test_what_the_table_lacks_is_named() -> None:
    with pytest.raises(NeuronPathError, match="nothing of neuron 8 of block 2"):
        neuron_evidence_figure(evidence(), 2, 8)
    with pytest.raises(NeuronPathError, match="lacks the column"):
        neuron_evidence_figure(evidence().drop(columns="left"), 2, 7)
