"""`neuron-path compare`: files, the table on the console, and one line for every mistake."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import call
from tests.evaluation.stores import write_run

ROOT = Path(__file__).parents[2]
FILES = ["classes.csv", "comparison.json", "table.csv", "table.html", "table.md", "table.tex", "tests.csv"]


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    for index, scorer in enumerate(("joint_attribution", "activation", "random")):
        write_run(tmp_path / "sweep" / str(index), [scorer], n=30)
    return tmp_path / "sweep"


def test_a_sweep_becomes_a_table(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, err = call("compare", str(sweep))
    assert (code, err) == (0, "")
    assert sorted(os.listdir(sweep / "comparison")) == FILES
    assert out.startswith("Methods compared (digits_vit, 1 neuron per block, n = 30)\n")
    assert max(map(len, out.split("Tables: ")[0].splitlines())) <= 80
    assert "it beats the 2 other methods compared" in " ".join(out.split())
    assert out.endswith(f"\nin      {sweep / 'comparison'}\n")


def test_the_same_runs_give_the_same_bytes(sweep: Path, tmp_path: Path) -> None:
    runs = [str(sweep / str(index)) for index in range(3)]
    assert call("compare", *runs, f"--out={tmp_path / 'a'}")[0] == 0
    assert call("compare", *runs[::-1], f"--out={tmp_path / 'b'}")[0] == 0
    assert call("compare", str(sweep), f"--out={tmp_path / 'c'}")[0] == 0
    for name in FILES:
        assert len({(tmp_path / folder / name).read_bytes() for folder in "abc"}) == 1, name
    assert not (sweep / "0" / "comparison").exists()


def test_a_table_beside_the_runs_is_no_run(sweep: Path) -> None:
    first = call("compare", str(sweep))
    before = (sweep / "comparison" / "table.csv").read_bytes()
    assert call("compare", str(sweep)) == first
    assert (sweep / "comparison" / "table.csv").read_bytes() == before


def test_the_reference_is_chosen(sweep: Path) -> None:
    code, out, _ = call("compare", str(sweep), "--reference=activation")
    assert code == 0
    assert "removing the path of activation" in " ".join(out.split())
    record = json.loads((sweep / "comparison" / "comparison.json").read_text())
    assert record["settings"]["reference"] == "activation"


def test_missing_runs_are_said(sweep: Path) -> None:
    (sweep / "3").mkdir()
    out = " ".join(call("compare", str(sweep))[1].split())
    assert f"Missing: {sweep / '3'}: empty: its run failed" in out.replace("- ", "-")


MISTAKES = {
    "nothing": ("", "needs run directories"),
    "unknown option": ("{sweep} --referense=random", "has no option '--referense'. Did you mean '--reference'?"),
    "no value": ("{sweep} --out", "The option '--out' has no value: give it as --out=VALUE."),
    "unknown reference": ("{sweep} --reference=randon", "named 'randon'. Did you mean 'random'?"),
    "no folder": ("nowhere", "Cannot look for runs in 'nowhere'"),
    "out is a file": ("{sweep} --out={sweep}/0/run.json", "Cannot write"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line(mistake: str, sweep: Path) -> None:
    arguments, words = MISTAKES[mistake]
    code, out, err = call("compare", *arguments.format(sweep=sweep).split())
    assert (code, out) == (1, "")
    assert err.startswith("neuron-path: error: ")
    assert err.count("\n") == 1
    assert words in err


def test_without_the_usual_reference_the_way_to_choose_another_is_told(tmp_path: Path) -> None:
    write_run(tmp_path / "run", ["activation", "random"], n=30)
    code, _, err = call("compare", str(tmp_path))
    assert code == 1
    assert "No compared scorer is named 'joint_attribution'." in err
    (advice,) = re.findall(r"as (--reference=\w+) ", err)
    assert advice == "--reference=activation"


def test_help_shows_examples() -> None:
    code, out, err = call("compare", "--help")
    assert (code, err) == (0, "")
    assert "usage: neuron-path compare DIR… [--out=DIR] [--reference=SCORER]" in out
    listed = call("--help")[1]
    assert "  compare    gather runs into one table" in listed
    assert "  evaluate   measure stored paths again" in listed


@pytest.mark.slow
def test_it_needs_neither_torch_nor_hydra(sweep: Path) -> None:
    code = (
        "import sys; from neuron_path.cli.main import main\n"
        "try: main(['compare', sys.argv[1]])\n"
        "except SystemExit as ended: assert not ended.code\n"
        "assert not {'torch', 'hydra', 'timm', 'lightning', 'wandb', 'statsmodels'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(sweep)],
        capture_output=True, text=True, check=False, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
