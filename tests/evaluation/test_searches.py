"""Searches beside the greedy one, from made-up runs whose gains and effects are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from neuron_path.errors import NeuronPathError
from neuron_path.evaluation.searches import SearchComparison, compare_searches, ratio_of_means
from neuron_path.report.tables.cells import to_records
from neuron_path.report.tables.searches import search_table
from neuron_path.store.reader import load_effects, load_paths
from tests.evaluation.stores import write_run

N = 60
GREEDY = np.linspace(0.5, 2.0, N)
GAINS = np.where(np.arange(N) % 3 == 0, 0.0, np.linspace(0.1, 0.4, N))
COSTS = np.linspace(2.0, 8.0, N)
WEAKER = {"joint_attribution": 0.15}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A greedy run, one of exchange, and a failed job.

    With exchange every third image gains nothing, the others' paths move in two blocks, and effects are weaker.
    """
    root = tmp_path_factory.mktemp("sweep")
    paths = np.stack(load_paths(write_run(root / "greedy", ["joint_attribution", "random"]))["path"].tolist()[:N])
    paths[GAINS > 0, 1:] += 1
    columns = {"objective": GREEDY + GAINS, "greedy_objective": GREEDY, "search_cost": COSTS, "path": paths}
    config = {"search": {"name": "exchange", "measure": "joint", "budget": 3.0}}
    write_run(
        root / "exchange",
        ["joint_attribution"],
        search="exchange",
        searched=columns,
        strength=WEAKER,
        seed=1,
        config={"seed": 0, "target_class": "auto", "data": {"split": "test", "limit": None}} | config,
    )
    (root / "failed").mkdir()
    return root


@pytest.fixture(scope="module")
def comparison(sweep: Path) -> SearchComparison:
    return compare_searches([sweep], n_bootstrap=999)


def row_of(comparison: SearchComparison, search: str) -> dict[str, Any]:
    (found,) = (row for row in to_records(comparison.rows) if row["search"] == search)
    return found


def test_the_gain_is_told_beside_greedy(comparison: SearchComparison) -> None:
    row = row_of(comparison, "exchange")
    assert row["objective"] == pytest.approx((GREEDY + GAINS).mean())
    assert row["ratio"] == pytest.approx((GREEDY + GAINS).sum() / GREEDY.sum())
    assert row["ratio_low"] < row["ratio"] < row["ratio_high"]
    assert row["improved"] == pytest.approx(2 / 3)
    assert row["moved"] == pytest.approx(2 * 2 / 3)
    assert (row["cost"], row["cost_max"], row["budget"]) == (pytest.approx(5.0), 8.0, 3.0)


def test_effects_are_compared_image_by_image(sweep: Path, comparison: SearchComparison) -> None:
    row = row_of(comparison, "exchange")
    changes = []
    for run in ("exchange", "greedy"):
        table = load_effects(sweep / run)
        own = table.loc[(table["operation"] == "remove") & (table["scorer"] == "joint_attribution")]
        own = own.set_index("sample_id")
        changes.append(100 * (own["edited_probability"] / own["clean_probability"] - 1))
    difference = (changes[0] - changes[1]).loc[load_paths(sweep / "exchange")["sample_id"]]
    assert row["remove"] == pytest.approx(changes[0].mean())
    assert row["remove_difference"] == pytest.approx(difference.mean())
    assert row["remove_difference_low"] < 5 < row["remove_difference_high"]  # of 20 % and 15 %
    assert row["remove_p"] < 0.01
    # A stronger removal lowers the probability more.
    found: Any = stats.spearmanr(GAINS, -difference.to_numpy())
    assert row["remove_correlation"] == pytest.approx(found.statistic)


def test_greedy_has_a_row_of_its_own_and_other_scorers_none(comparison: SearchComparison) -> None:
    assert list(comparison.rows["search"]) == ["greedy", "exchange"]
    greedy = row_of(comparison, "greedy")
    assert (greedy["ratio"], greedy["cost"]) == (1.0, 1.0)
    assert greedy["remove"] < row_of(comparison, "exchange")["remove"] < 0
    assert [run.run_dir.rpartition("/")[2] for run in comparison.missing] == ["failed"]


def test_the_table_leaves_out_what_is_the_same_in_all_rows(comparison: SearchComparison) -> None:
    table = search_table(comparison)
    assert list(table.columns[:3]) == ["scorer", "search", "score / greedy"]
    assert list(table["search"]) == ["greedy", "exchange, budget 3"]
    assert table["cost"].tolist() == ["1", "5.0 (8.0)"]
    assert table["improved, %"].tolist()[1].startswith("66.7 [")


def test_without_a_greedy_run_effects_stand_alone(sweep: Path) -> None:
    found = compare_searches([sweep / "exchange"], n_bootstrap=99)
    (row,) = to_records(found.rows)
    assert row["ratio"] > 1
    assert "moved" not in row
    assert found.notes == ["No greedy run of joint_attribution: moved blocks and effects are not compared."]
    assert search_table(found)["moved"].tolist() == ["–"]


def test_greedy_runs_alone_are_refused(sweep: Path) -> None:
    with pytest.raises(NeuronPathError, match=r"^None of 1 runs holds a search that maximises the score: run one with"):
        compare_searches([sweep / "greedy"])


def test_a_ratio_of_means_redraws_images_in_pairs() -> None:
    one, other = GREEDY + GAINS, GREEDY
    found = ratio_of_means(one, other, confidence=0.9, n_bootstrap=4999, seed=3)
    bootstrap = stats.bootstrap(
        (one, other), lambda a, b, axis=-1: a.mean(axis) / b.mean(axis), paired=True, vectorized=True,
        n_resamples=4999, confidence_level=0.9, method="percentile", rng=np.random.default_rng(3),
    ).confidence_interval  # fmt: skip
    assert (found.low, found.high) == pytest.approx((bootstrap.low, bootstrap.high), abs=2e-3)
    # Shifted together, a ratio hardly moves: unpaired redraws would give an interval several times as wide.
    assert found.high - found.low < 0.06


@pytest.mark.parametrize("other", [np.array([-1.0, 0.5]), np.array([0.0, 0.0])])
def test_a_ratio_to_what_is_not_positive_is_none(other: np.ndarray) -> None:
    assert np.isnan(ratio_of_means(np.array([1.0, 2.0]), other, confidence=0.95, n_bootstrap=9, seed=0).mean)
