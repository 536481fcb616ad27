"""What a result of the search shows in a notebook: the same numbers as its tensors, as a table and as a figure."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

import neuron_path
from neuron_path import NeuronPathError, PathResult
from neuron_path.store.schema import path_schema
from tests.report.figures.drawing import panel, path_line, visible_texts

N_NEURONS = (5, 9, 7)


def make(n_images: int = 7, k: int = 1, dtype: torch.dtype = torch.float32) -> PathResult:
    """Paths whose neurons say of which image, block and rank they are, with widths that differ by block."""
    numbers = torch.arange(n_images, dtype=dtype)
    ranked = torch.stack([torch.arange(k) + block for block in range(3)]).expand(n_images, 3, k)
    return PathResult(
        paths=ranked.squeeze(2) if k == 1 else ranked,
        scores=numbers / 10,
        margins=torch.arange(3 * n_images, dtype=dtype).reshape(n_images, 3) / 100,
        targets=torch.arange(n_images) + 3,
        predictions=torch.arange(n_images) + 4,
        target_probabilities=numbers / 16,
        n_steps=torch.full((n_images,), 8),
        n_neurons=N_NEURONS,
    )


def test_the_search_says_how_many_neurons_each_block_has() -> None:
    model = neuron_path.load_model("digits_vit")
    images, labels = neuron_path.load_digits("test")
    assert neuron_path.find_paths(model, images[:1], labels[:1], search="linearized").n_neurons == (192,) * 12


@pytest.mark.parametrize("k", [1, 2])
def test_a_row_for_each_image_block_and_rank(k: int) -> None:
    result = make(k=k, dtype=torch.bfloat16)
    frame = result.to_frame()
    assert len(frame) == 7 * 3 * k
    for row in frame.to_dict("records"):
        image, block, rank = row["image"], row["block"], row["rank"]
        assert row["neuron"] == block + rank
        assert row["margin"] == result.margins[image, block]
        assert (row["target"], row["prediction"]) == (image + 3, image + 4)
        assert row["target_probability"] == image / 16
        assert row["score"] == result.scores[image]
    assert not frame.duplicated(["image", "block", "rank"]).any()
    assert {"target", "prediction", "target_probability", "score"} <= set(path_schema(k).names)


def test_no_images_make_a_table_of_no_rows() -> None:
    assert make(0).to_frame().columns.tolist() == make().to_frame().columns.tolist()
    assert "<img" not in make(0)._repr_html_()


def test_the_figure_is_of_the_image_asked_for() -> None:
    result = make(k=2)
    figure = result.plot(np.zeros((8, 8)), 4, label=7, class_names={7: "seven", 8: "eight"})
    assert np.asarray(path_line(figure).get_ydata()).tolist() == [0, 1, 2]
    texts = {text.get_text() for text in visible_texts(figure)}
    assert {"image 4", "7 seven", "wrong: 8 eight", "0.25", "0.4", "12", "13", "14"} <= texts
    assert sum(len(axes.images) for axes in figure.axes) == 1


def test_a_figure_needs_no_picture() -> None:
    figure = make().plot(index=1, sample_id="cat.png")
    assert sum(len(axes.images) for axes in figure.axes) == 0
    assert {"cat.png", "target", "4"} <= {text.get_text() for text in visible_texts(figure)}


def test_scores_of_candidates_are_drawn_where_they_were_kept() -> None:
    scores = torch.full((7, 3, 9), torch.nan)
    for block, width in enumerate(N_NEURONS):
        scores[:, block, :width] = torch.rand(7, width)
    assert not panel(make().plot()).patches
    assert len(panel(replace(make(), candidate_scores=scores).plot()).patches) == 3


@pytest.mark.parametrize("index", [-1, 7])
def test_an_image_that_is_not_there_is_one_line(index: int) -> None:
    with pytest.raises(NeuronPathError, match=f"no image {index} in this result; expected 0 … 6"):
        make().plot(index=index)


def test_widths_that_are_not_known_can_be_given() -> None:
    unknown = replace(make(), n_neurons=None)
    with pytest.raises(NeuronPathError, match="give n_neurons"):
        unknown.plot()
    assert panel(unknown.plot(n_neurons=[5, 9, 7])).get_ylim() == panel(make().plot()).get_ylim()
    assert "<img" not in unknown._repr_html_()


def test_a_notebook_shows_a_table_and_the_first_path() -> None:
    shown = make(k=2)._repr_html_()
    assert "PathResult(images=7, blocks=3, top_k=2, measure='joint')" in shown
    cells = re.findall(r"<td>(.*?)</td>", shown)
    assert cells[:6] == ["0", "3", "4", "0", "0", "0/1 1/2 2/3"]
    assert cells[6:12] == ["1", "4", "5", "0.0625", "0.1", "0/1 1/2 2/3"]
    assert len(cells) == 5 * 6
    assert "2 more" in shown
    (picture,) = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', shown)
    assert ElementTree.fromstring(base64.b64decode(picture)).tag == "{http://www.w3.org/2000/svg}svg"
    assert make(k=2)._repr_html_() == shown


def test_long_paths_are_shown_whole() -> None:
    long = replace(make(1), paths=torch.full((1, 48), 4095), margins=torch.zeros(1, 48), n_neurons=None)
    assert " ".join(["4095"] * 48) in long._repr_html_()


def test_a_result_is_one_line_of_text() -> None:
    assert repr(make(2)) == "PathResult(images=2, blocks=3, top_k=1, measure='joint')"
