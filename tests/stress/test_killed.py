"""Runs killed at random moments and continued: no image lost, none doubled, every row as ever."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pandas as pd
import pytest

from neuron_path.store.evidence import EVIDENCE_FILE
from neuron_path.store.layout import EFFECTS_FILE, EVALUATION, EVIDENCE, SCORES_FILE, SEARCH
from neuron_path.store.reader import load_paths
from tests.stress import killed
from tests.stress.killed import Command
from tests.tables import same_paths, same_run

# Processes before and after the kill.
KINDS = {"one process": (1, 1), "two processes": (2, 2), "two, then one": (2, 1)}
N_SEARCHES = 20
SEARCHED = Command("search")
STAGES = ("quadrature.n_steps=2", "baselines=[]", "report=false", "evidence=true")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    run_dir = tmp_path_factory.mktemp("uninterrupted") / "run"
    killed.finish(run_dir, SEARCHED, 1)
    return load_paths(run_dir)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(1, N_SEARCHES + 1))
def test_many_killed_searches_go_on(kind: str, seed: int, uninterrupted: pd.DataFrame, tmp_path: Path) -> None:
    kill_and_compare(kind, seed, uninterrupted, tmp_path / "run")


def kill_and_compare(kind: str, seed: int, expected: pd.DataFrame, run_dir: Path) -> None:
    """Kill a search once to three times, let it end, and compare its rows."""
    before, after = KINDS[kind]
    chance = random.Random(f"{kind} {seed}")
    for _ in range(chance.randint(1, 3)):
        killed.kill_at_random(run_dir, SEARCHED, before, chance, SEARCH)
    killed.finish(run_dir, SEARCHED, after)
    found = load_paths(run_dir)
    assert found["sample_id"].tolist() == expected["sample_id"].tolist()  # in the order of the data too
    same_paths(found, expected)


def whole_run(tmp_path_factory: pytest.TempPathFactory, limit: int) -> tuple[Command, Path]:
    command = Command("run", STAGES, limit)
    run_dir = tmp_path_factory.mktemp("whole") / "run"
    killed.finish(run_dir, command, 1)
    return command, run_dir


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Command, Path]:
    """A run that nobody has killed."""
    return whole_run(tmp_path_factory, 12)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Command, Path]:
    return whole_run(tmp_path_factory, killed.LIMIT)


@pytest.mark.parametrize(
    ("n_processes", "stages"),
    [(1, [SEARCH, EVIDENCE, EVALUATION]), pytest.param(2, [SEARCH], marks=pytest.mark.slow)],
)
def test_a_killed_run_goes_on_as_if_nothing_had_happened(
    n_processes: int, stages: list[str], small: tuple[Command, Path], tmp_path: Path
) -> None:
    kill_stages_and_compare(small, n_processes, 0, tmp_path / "run", stages)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [EVIDENCE, EVALUATION])
@pytest.mark.parametrize("n_processes", [1, 2])
@pytest.mark.parametrize("seed", range(1, N_SEARCHES + 1))
def test_evidence_and_evaluation_that_are_killed_often_go_on(
    stage: str, n_processes: int, seed: int, large: tuple[Command, Path], tmp_path: Path
) -> None:
    kill_stages_and_compare(large, n_processes, seed, tmp_path / "run", [stage])


def kill_stages_and_compare(
    whole: tuple[Command, Path], n_processes: int, seed: int, run_dir: Path, stages: list[str]
) -> None:
    """Take a run up before the first of the stages, kill it in each, let it end, and compare all its tables."""
    command, expected = whole
    if SEARCH not in stages:
        shutil.copytree(expected, run_dir)
        for name in (EVIDENCE_FILE, EFFECTS_FILE, SCORES_FILE):
            if name != EVIDENCE_FILE or EVIDENCE in stages:
                (run_dir / name).unlink()
    chance = random.Random(f"{stages} {n_processes} {seed}")
    for stage in stages:
        for _ in range(chance.randint(1, 3) if seed else 1):
            killed.kill_at_random(run_dir, command, n_processes, chance, stage)
    killed.finish(run_dir, command, n_processes)
    assert not (run_dir / "parts").exists()
    same_run(run_dir, expected)
