"""Searches killed at random moments and continued: no image lost, none doubled, every row as ever."""

from __future__ import annotations

import random
from pathlib import Path

import pandas as pd
import pytest

from neuron_path.store.reader import load_paths
from tests.stress import killed
from tests.tables import same_paths

# Processes before and after the kill.
KINDS = {"one process": (1, 1), "two processes": (2, 2), "two, then one": (2, 1)}
N_SEARCHES = 20


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    run_dir = tmp_path_factory.mktemp("uninterrupted") / "run"
    killed.finish(run_dir, 1)
    return load_paths(run_dir)


@pytest.mark.parametrize("kind", ["one process", "two processes"])
def test_a_killed_search_goes_on_as_if_nothing_had_happened(
    kind: str, uninterrupted: pd.DataFrame, tmp_path: Path
) -> None:
    kill_and_compare(kind, seed=0, expected=uninterrupted, run_dir=tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(1, N_SEARCHES + 1))
def test_many_killed_searches_go_on(kind: str, seed: int, uninterrupted: pd.DataFrame, tmp_path: Path) -> None:
    kill_and_compare(kind, seed, uninterrupted, tmp_path / "run")


def kill_and_compare(kind: str, seed: int, expected: pd.DataFrame, run_dir: Path) -> None:
    """Kill a search once to three times, let it end, and compare its rows."""
    before, after = KINDS[kind]
    chance = random.Random(f"{kind} {seed}")
    for _ in range(chance.randint(1, 3) if seed else 1):
        killed.kill_at_random(run_dir, before, chance)
    killed.finish(run_dir, after)
    found = load_paths(run_dir)
    assert found["sample_id"].tolist() == expected["sample_id"].tolist()  # in the order of the data too
    same_paths(found, expected)
