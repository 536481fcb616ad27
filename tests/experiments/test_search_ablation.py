"""The recipe of the search ablation, on few images and searches."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parents[2]


def test_every_job_runs_and_the_table_has_them_all(tmp_path: Path) -> None:
    script = ROOT / "experiments" / "search_ablation.py"
    options = ["scorer=joint_attribution", "search=greedy,exchange", "data.limit=4", "trainer.threads=1"]
    ran = subprocess.run(
        [sys.executable, str(script), "found", *options],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    out = tmp_path / "found" / "comparison"
    greedy, exchange = pd.read_csv(out / "table.csv").to_dict("records")
    assert (greedy["search"], exchange["search"]) == ("greedy", "exchange")
    assert exchange["ratio"] > 1
    assert exchange["n"] == 4
    assert greedy["remove"] < 0
    assert exchange["remove"] < 0
    assert "| exchange" in (out / "table.md").read_text()
    assert (out / "gain.svg").stat().st_size > 1000
