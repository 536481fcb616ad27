"""The figure of masked models: every mean where it belongs, nothing on top of another."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib.container import ErrorbarContainer

from neuron_path.errors import NeuronPathError
from pruning_protocol.figure import protocol_curve_figure
from tests.report.figures.drawing import assert_apart, assert_inside, visible_texts


def test_the_protocol_is_drawn_for_all_blocks() -> None:
    rows = [
        ("m", "corrected", top_k, depth, share, 90 - 10 * share + top_k, 0.9 - 0.1 * share)
        for top_k in (1, 5, 50)
        for depth, share in ((3, 0.5), (12, 0.0), (12, 0.5), (12, 1.0))
    ]
    names = ["model", "protocol", "top_k", "depth", "share", "accuracy", "probability"]
    summary = pd.DataFrame(rows, columns=names).assign(n_seeds=3, n=180)
    for name in ("accuracy", "probability"):
        summary[f"{name}_low"], summary[f"{name}_high"] = 0.99 * summary[name], 1.01 * summary[name]
    figure = protocol_curve_figure(summary)
    for axes, name in zip(figure.axes, ("accuracy", "probability"), strict=True):
        drawn = [one for one in axes.containers if isinstance(one, ErrorbarContainer)]
        assert [str(one.get_label()) for one in drawn] == ["50 %", "100 %"]
        for one, share in zip(drawn, (0.5, 1.0), strict=True):
            own = summary.loc[(summary["depth"] == 12) & (summary["share"] == share)]
            np.testing.assert_allclose(np.asarray(one.lines[0].get_xydata())[:, 1], own[name])
        assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "5", "50"]
    assert_inside(figure)
    assert_apart(figure, visible_texts(figure))
    with pytest.raises(NeuronPathError, match="no row"):
        protocol_curve_figure(summary.iloc[:0])
