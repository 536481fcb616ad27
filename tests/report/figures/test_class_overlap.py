"""The figure of overlaps: every class at its numbers, sorted by what the class adds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from neuron_path.errors import NeuronPathError
from neuron_path.report.figures.class_overlap import class_overlap_figure
from neuron_path.report.style import save_figure
from tests.report.figures.drawing import assert_apart, assert_inside, visible_texts


def table(n: int, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    between = rng.random(n) * 0.2
    return pd.DataFrame(
        {"class": np.arange(n) + 5, "n": rng.integers(2, 40, n), "within": between + rng.random(n) * 0.4 - 0.05,
         "between": between}
    ).clip(lower=0)  # fmt: skip


def drawn(figure: Any) -> tuple[list[str], list[float], list[float]]:
    """Names from top to bottom, and the values of the two markers."""
    (axes,) = figure.axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    squares, circles = (next(line for line in axes.lines if line.get_marker() == marker) for marker in "so")
    assert list(squares.get_ydata()) == list(circles.get_ydata()) == sorted(circles.get_ydata())
    return names, list(circles.get_xdata()), list(squares.get_xdata())


@pytest.mark.parametrize("n", [1, 10, 40])
def test_every_class_stands_at_its_numbers(n: int) -> None:
    rows = table(n)
    figure = class_overlap_figure(rows, within=0.31, between=0.09, p=0.001, kind="label")
    names, within, between = drawn(figure)
    order = np.argsort((rows["between"] - rows["within"]).to_numpy(), kind="stable")
    assert names == ["all pairs", *(f"{rows['class'][row]}  (n = {rows['n'][row]})" for row in order)]
    np.testing.assert_allclose(within, [0.31, *rows["within"][order]])
    np.testing.assert_allclose(between, [0.09, *rows["between"][order]])
    words = " ".join(text.get_text() for text in figure.texts)
    assert "p = 0.001" in words
    assert "the images' label" in words
    assert_inside(figure)
    assert_apart(figure, visible_texts(figure))


def test_of_many_classes_the_extremes_are_drawn_and_the_note_says_so() -> None:
    rows = table(200)
    figure = class_overlap_figure(rows, class_names={5: "tench $5", 6: "<b>"})
    names, within, between = drawn(figure)
    gaps = np.array(within) - np.array(between)
    every = np.sort(rows["within"] - rows["between"])[::-1]
    assert len(names) == 40
    np.testing.assert_allclose(gaps, [*every[:20], *every[-20:]])
    assert "40 of 200 classes" in " ".join(text.get_text() for text in figure.texts)
    assert_inside(figure)


def test_classes_of_one_image_are_left_out(tmp_path: Any) -> None:
    rows = table(3)
    rows.loc[1, "within"] = np.nan
    figure = class_overlap_figure(rows)
    assert len(drawn(figure)[0]) == 2
    assert all(file.stat().st_size for file in save_figure(figure, tmp_path / "overlap"))


def test_what_is_no_table_of_overlaps_is_refused() -> None:
    rows = table(3)
    for wrong, words in [
        (rows.drop(columns="between"), "lacks the column"),
        (rows.assign(within=np.nan), "no class of two images"),
        (pd.concat([rows, rows]), "a class twice"),
        (rows.assign(between=1.5), r"expected \[0, 1\]"),
        (rows.assign(between=np.nan), "NaN"),
    ]:
        with pytest.raises(NeuronPathError, match=words):
            class_overlap_figure(wrong)
