"""`neuron-path analyze`: files, the headline on the console, and one line for every mistake."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from neuron_path.classes.grouping import group_paths
from neuron_path.classes.neurons import neuron_table
from neuron_path.classes.usage import count_usage
from neuron_path.store.evidence import evidence_schema, write_evidence
from neuron_path.store.parquet import read_parquet
from neuron_path.store.schema import build_table
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


@pytest.mark.slow
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
    ("options", "told"),
    [
        ({"n_classes": 1}, "The label of every image (40) is the same: classes are not compared."),
        ({"n": 4}, "Fewer than two of 4 classes (by label) have two images: classes are not compared."),
    ],
)
def test_where_no_classes_can_be_compared_the_rest_is_there(tmp_path: Path, options: dict, told: str) -> None:
    run = write(tmp_path / "run", {"joint_attribution": 0, "activation": 1}, **options)
    code, out, err = call("analyze", str(run))
    assert (code, err) == (0, "")
    assert f"Note: {told}" in " ".join(out.split())
    folder = run / "analysis"
    tables = ["concentration", "methods", "neurons", "summary", "usage"]
    assert sorted(file.stem for file in folder.glob("*.csv")) == tables
    assert {file.name for file in (folder / "figures").iterdir()} == {
        f"{place}_{name}_class_distribution.{kind}"
        for place, name in enumerate(("joint_attribution", "activation"))
        for kind in ("png", "svg")
    }
    assert pd.read_csv(folder / "summary.csv")["n_classes"].tolist() == [options.get("n_classes", 4)] * 2
    assert told in (folder / "analysis.md").read_text()
    assert told in json.loads((folder / "analysis.json").read_text())["notes"][0]


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


def test_where_a_run_keeps_evidence_the_most_telling_neurons_are_drawn(tmp_path: Path) -> None:
    run = write(tmp_path / "run", {"joint_attribution": 0})
    table = neuron_table(count_usage(group_paths(run)))
    gap = (table["top_frequency"] - table["mean_frequency"]).to_numpy()
    ranked = [(int(table["block"].tolist()[row]), int(table["neuron"].tolist()[row])) for row in np.argsort(-gap)]
    left_out, *kept = ranked  # one that the evidence does not cover
    kept = sorted(kept)
    n = len(kept)
    columns = {
        "block": [block for block, _ in kept], "neuron": [neuron for _, neuron in kept], "kind": ["image"] * n,
        "rank": [0] * n, "sample_id": ["image/000"] * n, "activation": [1.0] * n,
    }  # fmt: skip
    rows = {name: columns.get(name, [None] * n) for name in evidence_schema().names}
    write_evidence(run, build_table(evidence_schema(), rows), {})
    assert call("analyze", str(run), "--shuffles=9")[0] == 0
    drawn = {file.stem for file in (run / "analysis" / "figures").glob("neuron_*.png")}
    best = sorted(gap)[::-1]
    allowed = {f"neuron_{block}_{neuron}" for (block, neuron), one in zip(ranked, best, strict=True) if one >= best[3]}
    assert len(drawn) == 3
    assert drawn <= allowed - {f"neuron_{left_out[0]}_{left_out[1]}"}
    page = (run / "analysis" / "analysis.md").read_text()
    assert all(f"figures/{name}.png" in page for name in drawn)


def test_distances_are_read_where_nothing_is_compared(tmp_path: Path) -> None:
    run = write(tmp_path / "run", {"joint_attribution": 0}, n=4)
    code, _, err = call("analyze", str(run), "--no-figures", "--distances=none.csv")
    assert code == 1
    assert "Cannot read the distances in 'none.csv'" in err
