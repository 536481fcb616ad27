"""`neuron-path analyze`: files, the headline on the console, and one line for every mistake."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pandas as pd
import pytest

from neuron_path.store.parquet import read_parquet
from tests.classes.test_runs import write
from tests.command import call

TABLES = ["class_pairs", "classes", "concentration", "images", "methods", "neurons", "summary", "usage"]
FIGURES = ["class_distribution", "class_overlap", "class_similarity", "usage"]


def test_a_run_becomes_tables_figures_and_a_page(tmp_path: Path) -> None:
    run = write(tmp_path / "run", {"joint_attribution": 0})
    code, out, err = call("analyze", str(run), "--shuffles=199")
    assert (code, err) == (0, "")
    folder = run / "analysis"
    assert "exceeds that of images of different ones" in " ".join(out.split())
    assert out.endswith(f"\nAnalysis: {folder / 'analysis.md'}\n")
    files = [f"{name}.{kind}" for name in TABLES for kind in ("csv", "parquet")]
    assert sorted(os.listdir(folder)) == sorted([*files, "analysis.json", "analysis.md", "figures"])
    assert sorted(os.listdir(folder / "figures")) == [f"{name}.{kind}" for name in FIGURES for kind in ("png", "svg")]
    page = (folder / "analysis.md").read_text()
    assert all(f"figures/{name}.png" in page for name in FIGURES)
    record = json.loads((folder / "analysis.json").read_text())
    assert record["methods"][0]["overlap"]["p"] == 0.005
    assert record["settings"]["n_permutations"] == 199
    for name in TABLES:
        table, provenance = read_parquet(folder / f"{name}.parquet")
        read = pd.read_csv(folder / f"{name}.csv", keep_default_na=True)
        assert table.num_rows == len(read)
        assert table.column_names == list(read.columns)
        assert provenance["runs"][0]["provenance"]["model"] == "m"


def test_methods_are_set_side_by_side(tmp_path: Path) -> None:
    run = write(tmp_path / "run", {"joint_attribution": 0, "activation": 0, "random": 1})
    code, out, _ = call("analyze", str(run), "--no-figures", "--shuffles=19", f"--out={tmp_path / 'out'}")
    assert code == 0
    words = " ".join(out.split())
    assert "joint attribution and activation: their paths of the same image overlap by 100 %" in words
    assert not (tmp_path / "out" / "figures").exists()
    assert len(pd.read_csv(tmp_path / "out" / "methods.csv")) == 3


def test_the_same_runs_give_the_same_bytes(tmp_path: Path) -> None:
    run = write(tmp_path / "run", {"joint_attribution": 0})
    for name in ("a", "b"):
        assert call("analyze", str(run), "--shuffles=9", f"--out={tmp_path / name}")[0] == 0
    for file in sorted((tmp_path / "a").rglob("*.*")):
        other = tmp_path / "b" / file.relative_to(tmp_path / "a")
        assert file.read_bytes() == other.read_bytes(), file.name


def test_names_from_data_are_no_markup(tmp_path: Path) -> None:
    run = write(tmp_path / "run", {"joint_attribution": 0}, model="<b>|x")
    assert call("analyze", str(run), "--no-figures", "--shuffles=9")[0] == 0
    page = (run / "analysis" / "analysis.md").read_text()
    assert "<b>" not in page
    assert "&lt;b&gt;\\|x" in page


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "needs run directories"),
        (("{run}", "--shuffels=9"), "Did you mean '--shuffles'?"),
        (("{run}", "--shuffles=0"), "expected a number from 1 on"),
        (("{run}", "--seed=x"), "expected a number from 0 on"),
        (("{run}", "--by=class"), "expected auto, label, target"),
        (("{run}", "--scorer"), "has no value"),
        (("{run}", "--no-figures=1"), "takes no value"),
        (("{run}", "--scorer=nobody"), "No scorer of these runs is named 'nobody'"),
        (("{run}", "--distances=none.csv"), "Cannot read the distances"),
        (("{run}/absent",), "Cannot look for runs"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    run = write(tmp_path / "run", {"joint_attribution": 0})
    code, out, err = call("analyze", *(argument.format(run=run) for argument in arguments))
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert words in err
    assert not (run / "analysis").exists()


def test_help_names_every_option() -> None:
    code, out, _ = call("analyze", "--help")
    assert code == 0
    for option in ("--out", "--by", "--scorer", "--distances", "--shuffles", "--seed", "--no-figures"):
        assert option in out
