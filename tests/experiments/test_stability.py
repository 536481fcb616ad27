"""The recipe of the stability tables, on few images and a model that has hardly been trained."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_every_table_is_there_and_holds_what_it_must(tmp_path: Path) -> None:
    script = ROOT / "experiments" / "stability.py"
    options = ["seeds=[1]", "epochs=1", "searches=[greedy]", "limit=16", "noise=[0,0.1]", "out=found"]
    ran = subprocess.run(
        [sys.executable, str(script), *options],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    out = tmp_path / "found"
    table = pd.read_csv(out / "perturbations.csv")
    overlaps = dict(zip(table["what"].tolist(), table["overlap"].tolist(), strict=True))
    assert overlaps["noise, 0"] == 1
    assert 0 < overlaps["an image of another class"] < overlaps["noise, 0.1"] < 1
    (seeds,) = pd.read_csv(out / "seeds.csv").to_dict("records")
    assert seeds["seeds"] == "0, 1"
    assert seeds["raw"] < 0.2
    assert 0 < seeds["correlation_of_matched"] < 1
    models = pd.read_csv(out / "models.csv").to_dict("records")
    assert [model["training seed"] for model in models] == [0, 1]
    assert models[0]["accuracy"] > 0.9
    assert "## perturbations" in (out / "table.md").read_text()
