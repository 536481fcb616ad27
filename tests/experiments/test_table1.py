"""The recipe of Table 1, on few images and scorers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from sweep import sweep_and_gather

ROOT = Path(__file__).parents[2]


def table1(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "experiments" / "table1.py"), *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_every_job_runs_and_the_table_has_them_all_twice_the_same(tmp_path: Path) -> None:
    scorers = ["joint_attribution", "random"]
    options = [f"scorer={','.join(scorers)}", "data.limit=4", "top_k=1,2", "trainer.threads=1"]
    for name in ("one", "two"):
        ran = table1(name, *options, cwd=tmp_path)
        assert (ran.returncode, ran.stderr) == (0, "")
    one, two = (tmp_path / name / "comparison" for name in ("one", "two"))
    for file in ("table.md", "table.tex", "table.html", "table.csv", "tests.csv", "classes.csv"):
        assert (one / file).read_bytes() == (two / file).read_bytes()
    cells = pd.read_csv(one / "table.csv")
    assert set(cells["scorer"]) == set(scorers)
    assert set(cells["top_k"]) == {1, 2}
    assert set(cells["n"]) == {4}
    assert {"remove", "enhance", "mean_ablation", "resample_ablation", "keep_only"} <= set(cells["operation"].dropna())


@pytest.mark.slow
def test_a_job_that_fails_is_told_and_the_table_made_of_the_others(tmp_path: Path) -> None:
    options = ["scorer=joint_attribution,ablation", "data.limit=2", "top_k=20", "evaluation.operations=[remove]"]
    ran = table1(*options, cwd=tmp_path)
    assert ran.returncode == 1
    assert ran.stderr.count("\n") == 1
    assert "Job 1" in ran.stderr
    assert "top_k is 20, but 'ablation' rates only 16 neurons of a block" in ran.stderr
    table = (tmp_path / "outputs" / "table1" / "comparison" / "table.md").read_text()
    assert "| joint attribution" in table
    assert "ablation/top_20: failed: Job 1 (" in table


def test_a_mistake_shows_how_to_call_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert sweep_and_gather("table1", ["one", "two"], lambda _: pytest.fail("gathered")) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("usage: python experiments/table1.py")
    assert sweep_and_gather("table1", ["hydra.sweep.dir=a/b"], lambda _: pytest.fail("gathered")) == 2
    assert capsys.readouterr().err == "table1: error: hydra.sweep.dir is DIR here: give a/b alone.\n"
    assert list(tmp_path.iterdir()) == []
