"""Necessity and sufficiency curves: means of p(edited) / p(clean) at every size, with their intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from neuron_path.errors import NeuronPathError
from neuron_path.report.figures.edit_curves import edit_curves_figure
from neuron_path.report.style import save_figure
from neuron_path.stats.intervals import bootstrap_mean
from tests.report.figures.drawing import assert_apart, assert_inside, visible_texts

SIZES = (0, 1, 2, 5)


def effects(scorers: tuple[str, ...], operations: tuple[str, ...], n: int = 30, search: str = "greedy") -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = []
    for scorer in scorers:
        for operation in operations:
            for size in SIZES:
                clean = rng.uniform(0.3, 1, n)
                edited = clean * rng.uniform(0.1, 1.0, n) if size else clean
                rows += [
                    {"sample_id": f"i{image}", "scorer": scorer, "search": search, "operation": operation, "size": size,
                     "clean_probability": clean[image], "edited_probability": edited[image]}
                    for image in range(n)
                ]  # fmt: skip
    return pd.DataFrame(rows).sample(frac=1, random_state=1)


def test_lines_are_means_and_bands_are_intervals() -> None:
    table = effects(("joint_attribution", "random"), ("keep_only", "remove", "enhance"))
    figure = edit_curves_figure(table)
    panels = {axes.get_title(loc="left"): axes for axes in figure.axes}
    assert list(panels) == ["Necessity", "Sufficiency"]
    for title, operation in (("Necessity", "remove"), ("Sufficiency", "keep_only")):
        lines = {line.get_label(): line for line in panels[title].lines}
        for scorer in ("joint_attribution", "random"):
            own = table.loc[(table["operation"] == operation) & (table["scorer"] == scorer)]
            ratio = own["edited_probability"] / own["clean_probability"]
            line = lines[scorer.replace("_", " ")]
            assert list(line.get_xdata()) == list(SIZES)  # pyright: ignore[reportArgumentType]
            np.testing.assert_allclose(np.asarray(line.get_ydata()), ratio.groupby(own["size"]).mean())
        first: Any = panels[title].collections[0]
        corners = first.get_paths()[0].vertices
        own = table.loc[(table["operation"] == operation) & (table["scorer"] == _first(table, operation))]
        last = own.loc[own["size"] == 5]
        interval = bootstrap_mean(last["edited_probability"] / last["clean_probability"], n_resamples=1999)
        assert corners[corners[:, 0] == 5][:, 1].min() == pytest.approx(interval.low)
        assert corners[corners[:, 0] == 5][:, 1].max() == pytest.approx(interval.high)
    assert_inside(figure)
    assert_apart(figure, visible_texts(figure))


def _first(table: pd.DataFrame, operation: str) -> str:
    return str(table.loc[table["operation"] == operation, "scorer"].iloc[0])


def test_searches_of_one_scorer_are_told_apart(tmp_path: Any) -> None:
    table = pd.concat([effects(("joint_attribution",), ("remove",), search=name) for name in ("greedy", "linearized")])
    figure = edit_curves_figure(table)
    (axes,) = figure.axes
    lines = [line for line in axes.lines if not str(line.get_label()).startswith("_")]
    assert {line.get_label() for line in lines} == {"joint attribution (greedy)", "joint attribution (linearized)"}
    assert len({(line.get_color(), line.get_marker()) for line in lines}) == 2
    assert all(file.stat().st_size for file in save_figure(figure, tmp_path / "curves"))


def test_where_there_is_no_curve_it_says_what_to_do() -> None:
    table = effects(("random",), ("remove",))
    with pytest.raises(NeuronPathError, match="top_k above 1"):
        edit_curves_figure(table.loc[table["size"] == 5])
    with pytest.raises(NeuronPathError, match="lacks the column"):
        edit_curves_figure(table.drop(columns="size"))
