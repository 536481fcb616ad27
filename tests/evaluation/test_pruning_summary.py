"""The summary of pruned models, from records made by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from neuron_path.errors import NeuronPathError
from neuron_path.evaluation.pruning import summarise_pruning

SEEN = {0: range(40), 1: range(20, 60)}


def rows(method: str, keep: float, is_right: dict[int, set[int]], group: str = "all") -> pd.DataFrame:
    """A row for each seed and image; which images are right is given for each seed."""
    table = [
        {
            "seed": seed,
            "method": method,
            "keep": keep,
            "sample_id": f"image/{image:03d}",
            "group": group,
            "label": 2,
            "prediction": 2 if image in is_right[seed] else 1,
            "probability": 0.75 if image in is_right[seed] else 0.25,
        }
        for seed, images in SEEN.items()
        for image in images
    ]
    return pd.DataFrame(table)


EVERY = set(range(60))
RECORDS = pd.concat(
    [
        rows("original", 1.0, {0: EVERY, 1: EVERY}),
        rows("path", 0.5, {0: EVERY - {0, 1}, 1: EVERY - {20, 21}}),
        rows("random", 0.5, {0: set(range(10)), 1: set(range(20, 30))}),
        rows("taylor", 0.5, {0: EVERY, 1: EVERY - {22, 23, 24, 25}}),
        rows("random", 0.9, {0: EVERY, 1: EVERY}),
    ]
)


def test_means_and_differences_are_those_of_the_records() -> None:
    summary = summarise_pruning(RECORDS, "path").set_index(["method", "keep"])
    assert summary.loc[("original", 1.0), "accuracy"] == 100
    assert summary.loc[("path", 0.5), "accuracy"] == pytest.approx(95)
    assert summary.loc[("random", 0.5), "accuracy"] == pytest.approx(25)
    assert summary.loc[("path", 0.5), "accuracy_deviation"] == pytest.approx(-5)
    assert summary.loc[("random", 0.5), "ahead"] == pytest.approx(70)
    assert summary.loc[("random", 0.5), "probability"] == pytest.approx(0.75 * 0.25 + 0.25 * 0.75)
    assert set(summary["n_seeds"]) == {2}
    assert set(summary["n"]) == {60}


def test_the_reference_wins_ties_or_loses_by_the_interval() -> None:
    summary = summarise_pruning(RECORDS, "path").set_index(["method", "keep"])
    assert summary["verdict"].to_dict() == {
        ("original", 1.0): "",
        ("path", 0.5): "",
        ("random", 0.5): "wins",
        ("taylor", 0.5): "ties",
        ("random", 0.9): "",  # the reference was not measured at this share
    }
    assert np.isnan(summary.loc[("random", 0.9), "ahead"])
    turned = summarise_pruning(RECORDS, "random").set_index(["method", "keep"])
    assert turned.loc[("path", 0.5), "verdict"] == "loses"
    assert turned.loc[("path", 0.5), "ahead_high"] < 0


def test_groups_are_apart_and_the_order_of_records_does_not_matter() -> None:
    both = pd.concat([RECORDS, rows("original", 1.0, {0: EVERY, 1: EVERY}, "others")])
    summary = summarise_pruning(both, "path")
    assert list(dict.fromkeys(summary["group"])) == ["all", "others"]
    whole = summarise_pruning(RECORDS, "path").set_index(["method", "keep"]).sort_index()
    shuffled = summarise_pruning(RECORDS.sample(frac=1, random_state=0), "path").set_index(["method", "keep"])
    pd.testing.assert_frame_equal(shuffled.sort_index(), whole)


def test_records_without_the_original_or_a_column_are_refused() -> None:
    with pytest.raises(NeuronPathError, match="lack the method 'original'"):
        summarise_pruning(RECORDS.loc[RECORDS["method"] != "original"], "path")
    with pytest.raises(NeuronPathError, match="lack column"):
        summarise_pruning(RECORDS.drop(columns="seed"), "path")
    with pytest.raises(NeuronPathError, match="no records"):
        summarise_pruning(RECORDS.iloc[:0], "path")
