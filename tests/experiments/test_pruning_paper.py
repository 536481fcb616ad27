"""The recipe of the paper's pruning experiment, on few images and sizes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import pruning_paper

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_it_searches_masks_and_makes_table_and_figure(tmp_path: Path) -> None:
    options = ["top_k=1,2", "data.limit=20", "trainer.threads=1", "seeds=[0,1]", "shares=[1.0]", "depths=[3]"]
    ran = subprocess.run(
        [sys.executable, str(ROOT / "experiments" / "pruning_paper.py"), "one", *options],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    out = tmp_path / "one" / "protocol_corrected"
    table = pd.read_csv(out / "table.csv")
    assert set(table["top_k"]) == {1, 2}
    assert {(row["depth"], row["share"]) for _, row in table.iterrows()} == {(3, 1.0), (12, 1.0), (12, 0.0)}
    assert set(table["n_seeds"]) == {2}
    assert (out / "digits_vit.png").exists()
    page = (out / "table.md").read_text()
    assert "not to be compared with the numbers above" in page
    assert "(paper:" not in page


@pytest.mark.parametrize(
    ("wrong", "told"),
    [("protocol=papers", "Did you mean 'paper'"), ("seeds=[]", "one seed at least"), ("shares=x", "")],
)
def test_a_mistake_in_its_own_settings_is_one_line(
    wrong: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert pruning_paper.main(["one", wrong]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert told in err
    assert list(tmp_path.iterdir()) == []
