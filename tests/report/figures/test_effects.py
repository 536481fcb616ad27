"""The forest plot of effects: numbers where they belong, and honest about what includes 0."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from neuron_path.errors import NeuronPathError
from neuron_path.evaluation.quantity import quantity_of
from neuron_path.report.effects import Interval
from neuron_path.report.figures import effects_figure
from tests.report.figures.drawing import assert_apart, assert_inside, visible_texts
from tests.report.tables import effects


def drawn(axes: Axes) -> dict[int, tuple[float, list[float], bool]]:
    """Mean, limits and whether the marker is hollow, by row."""
    rows = {}
    for line in axes.lines:
        height = int(np.asarray(line.get_ydata())[0])
        if line.get_marker() != "None":
            low_high = next(
                other.get_xdata() for other in axes.lines
                if other.get_linewidth() == 1.6 and np.asarray(other.get_ydata())[0] == height
            )  # fmt: skip
            hollow = line.get_markerfacecolor() == "white"
            rows[height] = (float(np.asarray(line.get_xdata())[0]), np.asarray(low_high).tolist(), hollow)
    return rows


@pytest.mark.parametrize(
    ("quantity", "column", "label"),
    [
        ("logit", "value", "logit"),
        ("logit", "logit", "logit"),  # as an earlier version stored it
        ("margin", "value", "margin (logits)"),
        ("contrast", "value", "contrast (logits)"),
        ("similarity", "value", "similarity (cosine)"),
    ],
)
def test_of_what_is_no_probability_its_change_is_drawn(quantity: str, column: str, label: str) -> None:
    change = {"": -2.0, "_low": -3.0, "_high": -1.5}
    table = effects().assign(**{f"{column}_difference{end}": number for end, number in change.items()})
    figure = effects_figure(table, quantity)
    for axes in figure.axes:
        assert axes.get_xlabel() == f"change of target {label}"
        assert all(row == (-2.0, [-3.0, -1.5], False) for row in drawn(axes).values())


def test_means_and_intervals_are_drawn_in_percent() -> None:
    table = effects()
    figure = effects_figure(table)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["Remove the path (× 0)", "Enhance the path (× 2)"]
    for axes, operation in zip(figure.axes, ["remove", "enhance"], strict=True):
        for height, (_, row) in enumerate(table.loc[table["operation"] == operation].iterrows()):
            mean, limits, hollow = drawn(axes)[height]
            low, high = float(row["probability_deviation_low"]), float(row["probability_deviation_high"])  # type: ignore[arg-type]
            assert mean == pytest.approx(100 * row["probability_deviation"])
            np.testing.assert_allclose(limits, [100 * low, 100 * high])
            assert hollow == (not (low > 0 or high < 0))
    assert_inside(figure)
    assert_apart(figure, visible_texts(figure))


def test_many_methods_searches_and_operations() -> None:
    scorers = ["joint_attribution", "complete_attribution", "guided_influence_pattern", "activation_matched_random"]
    rows = [
        (scorer, search, operation, 10 + i, -0.5 + 0.1 * i, -0.7, 40.0)
        for i, scorer in enumerate(scorers)
        for search in ("greedy", "linearized")
        for operation in ("remove", "enhance", "mean_ablation")
    ]
    figure = effects_figure(pd.DataFrame(rows, columns=effects().columns[:7]))
    assert len(figure.axes) == 3
    assert figure.axes[2].get_title(loc="left") == "mean ablation"
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()][:2] == [
        "joint attribution (greedy)",
        "joint attribution (linearized)",
    ]
    assert_inside(figure)
    assert_apart(figure, visible_texts(figure))


@pytest.mark.parametrize("mean", [0.1, math.nan])
def test_one_row_without_an_interval(mean: float) -> None:
    row = ("random", "greedy", "remove", 1, mean, math.nan, math.nan)
    figure = effects_figure(pd.DataFrame([row], columns=effects().columns[:7]))
    assert_inside(figure)


def test_mistakes_are_named() -> None:
    table = effects()
    with pytest.raises(NeuronPathError, match="lacks the columns n, probability_deviation_low"):
        effects_figure(table.drop(columns=["n", "probability_deviation_low"]))
    with pytest.raises(NeuronPathError, match="more than one row for joint_attribution, greedy, remove"):
        effects_figure(pd.concat([table, table.iloc[:1]]))
    with pytest.raises(NeuronPathError, match="has no row"):
        effects_figure(table.iloc[:0])


@pytest.mark.parametrize(
    ("low", "high", "shows"),
    [(-2, -1, True), (1, 2, True), (-1, 1, False), (0, 1, False), (-1, 0, False), (0, 0, False), (math.nan, 1, False)],
)
def test_an_effect_is_shown_only_on_one_side_of_zero(low: float, high: float, shows: bool) -> None:
    assert Interval(0.0, low, high).shows_effect is shows


def test_rounding_never_hides_the_side_of_a_limit() -> None:
    assert Interval(2.0, 0.012, 4.0).in_words() == "+2.00 [+0.01, +4.00]"
    assert Interval(0.0, 0.0, 0.0).in_words(" %") == "0.0 % [0.0, 0.0]"
    assert Interval(math.nan, math.nan, math.nan).in_words() == "not known"


def test_an_earlier_table_of_margins_has_the_probability_alone() -> None:
    assert effects_figure(effects(), "margin").axes[0].get_xlabel() == "change of target probability (%)"
    assert effects_figure(effects(), "sigmoid").axes[0].get_xlabel() == "change of target sigmoid probability (%)"


@pytest.mark.parametrize(
    ("provenance", "quantity"),
    [
        ({}, "probability"),
        ({"target": "contrast", "head": None}, "contrast"),
        ({"target": "logit", "head": {"name": "linear_probe"}}, "logit"),
        ({"target": "logit", "head": {"name": "similarity", "scale": 1.0}}, "similarity"),
        ({"target": "logit", "head": {"name": "similarity", "scale": 100.0}}, "logit"),
        ({"target": "margin", "head": {"name": "similarity", "scale": 1.0}}, "margin"),
    ],
)
def test_a_logit_that_is_a_cosine_is_a_similarity(provenance: dict[str, Any], quantity: str) -> None:
    assert quantity_of(provenance) == quantity
