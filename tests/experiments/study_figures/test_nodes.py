"""Scores against nodes: each rule's means, and how far they are from the converged score."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from neuron_path.errors import NeuronPathError
from neuron_path.report.style import save_figure
from study_figures.nodes import score_against_nodes_figure
from tests.report.figures.drawing import assert_apart, assert_inside, visible_texts

NODES = (2, 4, 8, 16)
RULES = ("riemann_left", "gauss_legendre", "trapezoid")


def scores(n: int = 9) -> tuple[pd.DataFrame, pd.Series]:
    rng = np.random.default_rng(0)
    truth = pd.Series(rng.uniform(0.5, 2, n), index=[f"i{image}" for image in range(n)])
    rows = [
        {"rule": rule, "n_steps": m, "sample_id": name, "score": value * (1 + rng.normal() / m ** (place + 1))}
        for place, rule in enumerate(RULES) for m in NODES for name, value in truth.items()
    ]  # fmt: skip
    return pd.DataFrame(rows).sample(frac=1, random_state=1), truth


def test_means_and_median_errors_are_drawn() -> None:
    table, truth = scores()
    figure = score_against_nodes_figure(table, reference=truth)
    mean, error = figure.axes
    for axes in (mean, error):
        lines = {str(line.get_label()): line for line in axes.lines}
        for rule in RULES:
            line = lines[rule.replace("_", " ")]
            assert list(line.get_xdata()) == list(NODES)  # pyright: ignore[reportArgumentType]
            for m, found in zip(NODES, np.asarray(line.get_ydata()), strict=True):
                own = table.loc[(table["rule"] == rule) & (table["n_steps"] == m)].set_index("sample_id")["score"]
                off = (own / truth[own.index] - 1).abs()
                assert found == pytest.approx(own.mean() if axes is mean else off.median())
    assert mean.lines[-1].get_ydata()[0] == pytest.approx(truth.mean())  # pyright: ignore[reportIndexIssue]
    assert error.get_yscale() == "log"
    assert_inside(figure)
    assert_apart(figure, visible_texts(figure))


def test_a_rule_looks_the_same_whichever_others_are_drawn(tmp_path: Any) -> None:
    table, _ = scores()
    (alone,) = score_against_nodes_figure(table.loc[table["rule"] == "trapezoid"]).axes
    figure = score_against_nodes_figure(table)
    (axes,) = figure.axes
    colour = {line.get_label(): line.get_color() for line in axes.lines}
    assert alone.lines[0].get_color() == colour["trapezoid"]
    assert len(set(colour.values())) == 3
    assert all(file.stat().st_size for file in save_figure(figure, tmp_path / "nodes"))


def test_what_is_no_table_of_scores_is_refused() -> None:
    table, truth = scores()
    with pytest.raises(NeuronPathError, match="not one score for each rule"):
        score_against_nodes_figure(table.iloc[1:])
    with pytest.raises(NeuronPathError, match="lacks the column"):
        score_against_nodes_figure(table.drop(columns="rule"))
    with pytest.raises(NeuronPathError, match="reference lacks the image 'i3'"):
        score_against_nodes_figure(table, reference=truth.drop("i3"))
    with pytest.raises(NeuronPathError, match="reference score is 0"):
        score_against_nodes_figure(table, reference=truth * 0)
