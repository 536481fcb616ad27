"""The figure of gain against cost: numbers where they belong, names apart."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from neuron_path.errors import NeuronPathError
from neuron_path.report.figures import search_gain_figure
from tests.report.drawing import assert_apart, assert_inside, visible_texts

NAN = math.nan
ROWS = pd.DataFrame(
    [
        ("joint_attribution", "greedy", NAN, 1.0, NAN, NAN, 1.0),
        ("joint_attribution", "rerank", NAN, 1.045, 1.03, 1.06, 5.6),
        ("joint_attribution", "exchange", 3.0, 1.13, 1.11, 1.15, 2.7),
        ("joint_attribution", "beam_exchange", NAN, 1.16, 1.14, 1.19, 40.0),
        ("complete_attribution", "greedy", NAN, 1.0, NAN, NAN, 1.0),
        ("complete_attribution", "exchange", NAN, 1.4, 1.3, 1.5, 4.0),
        ("activation", "exchange", NAN, NAN, NAN, NAN, 4.0),
    ],
    columns=["scorer", "search", "budget", "ratio", "ratio_low", "ratio_high", "cost"],
)


def test_every_ratio_is_drawn_at_its_cost() -> None:
    figure = search_gain_figure(ROWS)
    (axes,) = figure.axes
    points = [
        tuple(point) for line in axes.lines if line.get_linestyle() == "None" for point in np.asarray(line.get_xydata())
    ]
    drawn = ROWS.dropna(subset="ratio")
    assert sorted(points) == sorted(zip(drawn["cost"], drawn["ratio"], strict=True))
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["joint attribution", "complete attribution"]
    assert_inside(figure)
    assert_apart(figure, visible_texts(figure))


def test_mistakes_are_named() -> None:
    with pytest.raises(NeuronPathError, match="have no column ratio_low, cost"):
        search_gain_figure(ROWS.drop(columns=["ratio_low", "cost"]))
    with pytest.raises(NeuronPathError, match="nothing to draw"):
        search_gain_figure(ROWS.assign(ratio=NAN))
