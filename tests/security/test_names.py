"""Names that come from data are text: they make no markup, no path, no command and no template."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import neuron_path
from tests import pictures
from tests.command import Outcome, call, run_in
from tests.data.test_shards import png, write

MARKUP = "<img src=x onerror=alert(1)>"
NAMES = (  # ten, as the embedded model has classes
    MARKUP,
    "evil..",
    "$(touch ran)",
    "`touch ran`",
    "{{ 987654321 * 987654321 }}",
    "${oc.env:HOME}",
    "\\input{ran}",
    "=cmd|' !A0",
    '"><script>alert(1)</script>'.replace("/", "⁄"),
    "two\nlines | and a pipe",
)
LEADING_OUT = ("../../evil", "/etc/passwd", "..", "a/../../b", "C:\\evil")


def files(folder: Path) -> set[Path]:
    return {file.relative_to(folder) for file in folder.rglob("*")}


def texts(run_dir: Path) -> Iterator[tuple[str, str]]:
    """All that a person or a browser may open."""
    for file in run_dir.rglob("*"):
        if file.suffix in (".md", ".html", ".svg", ".tex"):
            yield file.name, file.read_text(encoding="utf-8")


def run_on(command: str, tmp_path: Path, *options: str) -> Outcome:
    quick = ("data.num_workers=0", "quadrature.n_steps=1")
    if command == "run":
        quick = (*quick, "baselines=[random]", "evaluation.operations=[remove]")
    outcome = run_in(tmp_path / "here" / "run", command, *options, *quick)
    assert outcome.code == 0, outcome.err
    return outcome


def check_outputs(outcome: Outcome, tmp_path: Path, before: set[Path]) -> None:
    """Everything new lies in the run directory, and no name is markup in it."""
    new = files(tmp_path) - before
    assert {file.parts[:2] for file in new} == {("here",), ("here", "run")}
    for name, text in texts(outcome.run_dir):
        assert MARKUP not in text, name
        assert "<script>alert" not in text, name
        assert str(987654321**2) not in text, name


def test_class_folders_and_broken_pictures_of_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(NAMES):
        pictures.save(tmp_path / "data" / name / f"{name}.png", seed)
        (tmp_path / "data" / name / f"broken {name}.png").write_text(MARKUP)
    before = files(tmp_path)
    outcome = run_on("run", tmp_path, "data=image_folder", f"data.root={tmp_path / 'data'}", "data.on_error=skip")
    check_outputs(outcome, tmp_path, before)
    made = neuron_path.load_paths(outcome.run_dir).attrs["provenance"]
    assert made["classes"] == sorted(NAMES)
    assert json.loads((outcome.run_dir / "metrics.json").read_text())["skipped_images"] == len(NAMES)
    assert any("onerror" in text for _, text in texts(outcome.run_dir))
    code, out, _ = call("compare", str(outcome.run_dir))
    assert code == 0
    assert MARKUP not in out
    check_outputs(outcome, tmp_path, before)


def test_classes_that_files_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = pictures.flat_folder(tmp_path / "data", n=10)
    named = [*LEADING_OUT, *NAMES[:5]]
    labels, index = tmp_path / "labels.csv", tmp_path / "index.csv"
    tables: dict[Path, list[list[object]]] = {
        labels: [["file", "class"], *([f"{place}.png", name] for place, name in enumerate(named))],
        index: [["key", "index", "name"], *([name, place, f"{name} "] for place, name in enumerate(named))],
    }
    for file, rows in tables.items():
        with file.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows(rows)
    before = files(tmp_path)
    options = [f"data.root={data}", f"data.labels={labels}", f"data.class_index={index}"]
    outcome = run_on("run", tmp_path, "data=image_folder", *options)
    check_outputs(outcome, tmp_path, before)
    assert neuron_path.load_paths(outcome.run_dir).attrs["provenance"]["classes"] == [f"{name} " for name in named]


def test_members_of_a_shard_of_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = [f"{name}.png" for name in ("../../evil", str(tmp_path / "evil"), MARKUP, "a\nb")]
    labels = {name.replace(".png", ".cls"): b"1" for name in names}
    write(tmp_path / "a.tar", labels | {name: png(seed) for seed, name in enumerate(names)})
    before = files(tmp_path)
    outcome = run_on("search", tmp_path, "data=webdataset", f"data.root={tmp_path / 'a.tar'}")
    check_outputs(outcome, tmp_path, before)
    found = set(neuron_path.load_paths(outcome.run_dir)["sample_id"])
    assert found == {f"a.tar/{name}" for name in names}


@pytest.mark.parametrize("name", ["../../evil", "/etc/hostname", "..", "a/../../x"])
@pytest.mark.parametrize("group", ["scorer", "search", "data", "experiment"])
def test_an_option_is_no_path(group: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = run_in(tmp_path / "run", "search", f"{group}={name}")
    assert outcome.is_refusal(), outcome
    assert files(tmp_path) <= {Path("run")}
