"""The figures of pruned models: every mean where it belongs, nothing on top of another."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.container import ErrorbarContainer

from neuron_path.errors import NeuronPathError
from neuron_path.report.figures import pruning_curve_figure
from neuron_path.report.pruning import cost_table, curve_table, verdict_table
from tests.report.figures.drawing import assert_apart, assert_inside, visible_texts

METHODS = ["path+taylor", "path", "random", "magnitude"]


def summary_of(groups: list[str]) -> pd.DataFrame:
    rows = []
    for group in groups:
        rows.append((group, "original", 1.0, 99.0, np.nan, ""))
        for place, method in enumerate(METHODS):
            for keep in (0.25, 0.5):
                verdict = "" if place == 0 else "wins"
                rows.append((group, method, keep, 90.0 * keep + place, 10.0 - place, verdict))
    table = pd.DataFrame(rows, columns=["group", "method", "keep", "accuracy", "ahead", "verdict"])
    table = table.assign(accuracy_deviation=table["accuracy"] - 99, n_seeds=3, n=180)
    for name in ("accuracy", "ahead", "accuracy_deviation"):
        table[f"{name}_low"], table[f"{name}_high"] = table[name] - 2, table[name] + 1
    return table


@pytest.mark.parametrize("groups", [["all"], ["chosen", "others"]])
def test_every_accuracy_is_drawn_with_its_interval(groups: list[str]) -> None:
    summary = summary_of(groups)
    figure = pruning_curve_figure(summary, chosen=["3", "a $very$ long <name>" * 4])
    assert len(figure.axes) == len(groups)
    for axes, group in zip(figure.axes, groups, strict=True):
        drawn = [one for one in axes.containers if isinstance(one, ErrorbarContainer)]
        assert [str(one.get_label()) for one in drawn] == ["path, then taylor", "path", "random", "magnitude"]
        for one, method in zip(drawn, METHODS, strict=True):
            own = summary.loc[(summary["group"] == group) & (summary["method"] == method)]
            x, y = np.asarray(one.lines[0].get_xydata()).T
            np.testing.assert_allclose(y, own["accuracy"])
            np.testing.assert_allclose(x, 100 * own["keep"], atol=2)
            segments = one.lines[2][0].get_segments()
            np.testing.assert_allclose([line[:, 1] for line in segments], own[["accuracy_low", "accuracy_high"]])
    assert_inside(figure)
    assert_apart(figure, visible_texts(figure))


def test_without_a_pruned_model_there_is_nothing_to_draw() -> None:
    with pytest.raises(NeuronPathError, match="has none"):
        pruning_curve_figure(summary_of(["all"]).iloc[:1])


def test_tables_say_who_is_ahead() -> None:
    summary = summary_of(["all"])
    curve = curve_table(summary, "all")
    assert curve.columns.tolist() == ["kept", "path, then taylor", "path", "random", "magnitude"]
    assert curve["kept"].tolist() == ["25 %", "50 %"]
    assert curve["random"].iloc[1] == "47.0 [45.0, 48.0]"
    verdicts = verdict_table(summary, "all", "path+taylor")
    assert verdicts["path, then taylor against random"].iloc[0] == "+8.0 [+6.0, +9.0] wins"
    costs = {name: {"original": 200, "pruned": 100} for name in ("neurons", "parameters", "flops")}
    latency = [{"batch_size": 32, "original": [2.0, 3.0], "pruned": [1.0, 1.0], "speedup": 2.5}]
    table = cost_table(summary, costs | {"latency": latency}, "path", 0.5).set_index("")
    assert table.loc["FFN neurons"].tolist() == ["200", "100", "−50 %"]
    assert table.loc["ms for a batch of 32, median", "change"] == "2.50× faster"
    same = {name: {"original": 200, "pruned": 200} for name in ("neurons", "parameters", "flops")}
    assert cost_table(summary, same | {"latency": []}, "path", 0.5)["change"].tolist()[:3] == ["0 %"] * 3
    assert table.loc["accuracy, %"].tolist() == [
        "99.0 [97.0, 100.0]",
        "46.0 [44.0, 47.0]",
        "−53.0 [−55.0, −52.0] points",
    ]
