"""A search that was stopped goes on: by resume=DIR or in the same hydra.run.dir, and only as the same search."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections import Counter
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from neuron_path.errors import NeuronPathError
from neuron_path.stopping import RESUMABLE
from neuron_path.store.layout import EVALUATION, EVIDENCE, SEARCH, list_parts
from neuron_path.store.reader import load_paths
from neuron_path.store.writer import PartWriter
from tests import pictures
from tests.command import Outcome, call, run_in
from tests.tables import same_paths, same_run

OPTIONS = ["data.limit=10", "data.batch_size=2", "scorer=activation"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    run_dir = tmp_path_factory.mktemp("whole") / "run"
    assert run_in(run_dir, "search", *OPTIONS).code == 0
    return load_paths(run_dir)


@pytest.fixture(scope="module")
def stopped_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a search whose disk was full after two batches."""
    run_dir = tmp_path_factory.mktemp("stopped") / "run"
    append, batches = PartWriter.append, []
    with pytest.MonkeyPatch.context() as patch:

        def full(self: PartWriter, table: object) -> None:
            if len(batches) == 2:
                patch.setattr(os, "fsync", _no_space)
            batches.append(table)
            append(self, table)  # pyright: ignore[reportArgumentType]

        patch.setattr(PartWriter, "append", full)
        outcome = run_in(run_dir, "search", *OPTIONS)
    assert (outcome.code, outcome.err.count("\n")) == (1, 1)
    assert "No space left on device. Free some space or choose another directory." in outcome.err
    assert outcome.results == ["parts", "run.json"]
    return run_dir


@pytest.fixture
def stopped(stopped_once: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return shutil.copytree(stopped_once, tmp_path / "run")


def _no_space(*_: object) -> None:
    raise OSError(28, "No space left on device")


def goes_on(outcome: Outcome, whole: pd.DataFrame) -> None:
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("10 images, 4 found before, ")
    same_paths(load_paths(outcome.run_dir), whole)
    assert outcome.results == ["paths.parquet", "run.json", "metrics.json", "SHA256SUMS"]
    metrics = json.loads((outcome.run_dir / "metrics.json").read_text())
    assert (metrics["images"], metrics["images_done_before"]) == (10, 4)


@pytest.mark.core
def test_the_same_directory_again_goes_on(stopped: Path, whole: pd.DataFrame) -> None:
    goes_on(run_in(stopped, "search", *OPTIONS), whole)
    made = load_paths(stopped).attrs["provenance"]
    assert json.loads((stopped / "run.json").read_text()) == made
    assert len(made["resumed"]) == 1


def test_resume_goes_on_with_other_batches(stopped: Path, whole: pd.DataFrame) -> None:
    options = ["data.limit=10", "data.batch_size=7", "data.num_workers=1", "scorer=activation", "micro_batch=3"]
    goes_on(Outcome(*call("search", *options, f"resume={stopped}", "trainer.threads=1"), stopped), whole)


def test_a_finished_search_has_nothing_left_to_do(stopped: Path, whole: pd.DataFrame) -> None:
    goes_on(run_in(stopped, "search", *OPTIONS), whole)
    before = (stopped / "paths.parquet").read_bytes()
    speed = json.loads((stopped / "metrics.json").read_text())["images_per_second"]
    outcome = run_in(stopped, "search", *OPTIONS)
    assert (outcome.code, outcome.out.splitlines()[0]) == (0, "10 images, all found before")
    assert (stopped / "paths.parquet").read_bytes() == before
    assert json.loads((stopped / "metrics.json").read_text())["images_per_second"] == speed


CHANGES = {
    "scorer": ("scorer=random", "scorer.name was 'activation' and is 'random'"),
    "seed": ("seed=1", "seed was 0 and is 1"),
    "quadrature": ("quadrature.n_steps=4", "quadrature.n_steps was 8 and is 4"),
    "target": ("target=logit", "target was 'probability' and is 'logit'"),
    "target class": ("target_class=3", "target_class was 'auto' and is '3'"),
    "top_k": ("top_k=2", "top_k was 1 and is 2"),
    "scope": ("token_scope=patch", "token_scope was 'cls' and is 'patch'"),
    "precision": ("precision=bf16", "precision was 'fp32' and is 'bf16'"),
    "data": ("data.limit=11", "data.images was 10 and is 11"),
    "split": ("data.split=val", "data.split was 'test' and is 'val'"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_another_search_is_refused_in_one_line_that_shows_the_difference(change: str, stopped: Path) -> None:
    override, told = CHANGES[change]
    before = {file: file.read_bytes() for file in stopped.rglob("*") if file.is_file()}
    outcome = run_in(stopped, "search", *OPTIONS, override)
    assert (outcome.code, outcome.out, outcome.err.count("\n")) == (1, "", 1)
    assert told in outcome.err
    assert {file: file.read_bytes() for file in stopped.rglob("*") if file.is_file()} == before


def test_force_adds_images_to_a_search(stopped: Path, whole: pd.DataFrame) -> None:
    outcome = run_in(stopped, "search", *OPTIONS, "data.limit=20", "resume_mode=force")
    assert (outcome.code, outcome.err) == (0, "")
    found = load_paths(stopped)
    assert len(found) == 20
    assert found.attrs["provenance"]["forced"][0]["differences"][0] == "data.images was 10 and is 20"
    shared = found.loc[found["sample_id"].isin(whole["sample_id"])]
    same_paths(shared, whole.loc[whole["sample_id"].isin(found["sample_id"])])


def test_force_onto_other_images_leaves_a_run_that_is_what_it_says(stopped: Path) -> None:
    one, two, force = "data.classes=[0]", "data.classes=[1]", "resume_mode=force"
    for options in ([], [one, force], [two, force], [one, force]):
        ended = run_in(stopped, "search", *OPTIONS, *options)
        assert ended.code == 0
        made = load_paths(stopped).attrs["provenance"]
        assert json.loads((stopped / "run.json").read_text()) == made
        code, out, err = call("verify", str(stopped), "--sample=2")
        assert code == 0, out + err
        if options:
            assert made["config"]["data"]["classes"] == [options[0][-2]]
            assert set(load_paths(stopped)["label"]) == {int(options[0][-2])}


@pytest.mark.filterwarnings("default")
def test_force_sets_aside_what_was_made_of_other_paths(tmp_path: Path) -> None:
    options = ["data.limit=2", "baselines=[]", "scorer=activation", "evaluation.operations=[remove]"]
    assert run_in(tmp_path / "run", "run", *options, "report=false").code == 0
    (tmp_path / "run" / "report.html").write_text("of these paths")
    outcome = run_in(tmp_path / "run", "search", *options, "data.limit=3", "resume_mode=force")
    assert (outcome.code, outcome.err.count("\n")) == (0, 1)
    moved = [f"{name} (of the search before)" for name in ("effects.parquet", "scores.parquet", "report.html")]
    assert "; ".join(moved) in outcome.err
    assert outcome.results == ["paths.parquet", "run.json", "metrics.json", "SHA256SUMS"]
    assert call("verify", str(tmp_path / "run"))[0] == 0


@pytest.mark.filterwarnings("default")
def test_a_torn_record_is_moved_only_by_a_search_that_goes_on(stopped: Path) -> None:
    record = stopped / "run.json"
    record.write_text(record.read_text()[:100])
    assert run_in(stopped, "search", *OPTIONS, "seed=1").code == 1
    assert record.exists()
    assert not (stopped / "set_aside").exists()
    outcome = run_in(stopped, "search", *OPTIONS)
    assert (outcome.code, outcome.err.count("\n")) == (0, 1)
    assert ": run.json (torn)." in outcome.err


@pytest.mark.filterwarnings("default")
def test_torn_and_foreign_files_are_named_on_one_line(stopped: Path, whole: pd.DataFrame) -> None:
    torn = sorted((stopped / "parts").iterdir())[0]
    torn.write_bytes(torn.read_bytes()[:50])
    (stopped / "parts" / "notes.txt").write_text("mine")
    outcome = run_in(stopped, "search", *OPTIONS)
    assert (outcome.code, outcome.err.count("\n")) == (0, 1)
    assert outcome.err.startswith("neuron-path: warning: Set aside 2 file(s)")
    assert f"notes.txt (foreign: not a part's name); {torn.name} (torn" in outcome.err
    assert outcome.out.startswith("10 images, 2 found before, ")
    same_paths(load_paths(stopped), whole)


def test_a_whole_run_goes_on_through_all_its_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ["data.limit=3", "baselines=[]", "report=false", "scorer=activation", "evaluation.operations=[remove]"]

    def fail(*_: object) -> None:
        raise NeuronPathError("The disk is full.")

    with monkeypatch.context() as patch:
        patch.setattr("neuron_path.pipeline.evaluate.write_scores", fail)
        assert run_in(tmp_path / "run", "run", *options).code == 1
    outcome = run_in(tmp_path / "run", "run", *options)
    assert (outcome.code, outcome.err) == (0, "")
    assert {"effects.parquet", "scores.parquet"} < set(outcome.results)
    assert outcome.out.startswith("3 images, all found before\n")


ALL = (SEARCH, EVIDENCE, EVALUATION)
STAGES = ["data.limit=6", "data.batch_size=2", "scorer=activation", "baselines=[]", "report=false", "evidence=true"]
STAGES.append("evaluation.operations=[enhance]")


def rows_written(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How many rows each stage appends from now on."""
    append, n_rows = PartWriter.append, Counter[str]()

    def count(self: PartWriter, table: pa.Table) -> None:
        n_rows[self.stage] += table.num_rows
        append(self, table)

    monkeypatch.setattr(PartWriter, "append", count)
    return n_rows


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run through all stages that nothing has stopped."""
    run_dir = tmp_path_factory.mktemp("staged") / "run"
    outcome = run_in(run_dir, "run", *STAGES)
    assert (outcome.code, outcome.err) == (0, "")
    return run_dir


@pytest.mark.parametrize("stage", ALL)
def test_every_stage_ends_between_batches_and_goes_on_there(
    stage: str, staged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = PartWriter.append

    def append_and_end(self: PartWriter, table: pa.Table) -> None:
        append(self, table)
        if self.stage == stage:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(PartWriter, "append", append_and_end)
        outcome = run_in(tmp_path / "run", "run", *STAGES)
    assert (outcome.code, outcome.out) == (RESUMABLE, "")
    assert len(list_parts(tmp_path / "run", stage).parts) == 1
    n_rows = rows_written(monkeypatch)
    outcome = run_in(tmp_path / "run", "run", *STAGES, "data.batch_size=4")
    assert (outcome.code, outcome.err) == (0, "")
    before = ALL.index(stage)
    assert n_rows == {name: 4 if place == before else 6 for place, name in enumerate(ALL) if place >= before}
    same_run(tmp_path / "run", staged)


def test_a_finished_run_repeats_no_stage(staged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_dir = shutil.copytree(staged, tmp_path / "run")
    n_rows = rows_written(monkeypatch)
    outcome = run_in(run_dir, "run", *STAGES)
    assert (outcome.code, outcome.err, n_rows) == (0, "", {})
    outcome = run_in(run_dir, "run", *STAGES, "evaluation.factor=3")
    assert (outcome.code, n_rows) == (0, {EVALUATION: 6})  # other settings
    n_rows.clear()
    assert call("evaluate", f"run_dir={run_dir}", STAGES[-1], "trainer.threads=1")[0] == 0
    assert n_rows == {EVALUATION: 6}  # as asked
    same_run(run_dir, staged)


def test_pictures_that_could_not_be_read_are_tried_again(tmp_path: Path) -> None:
    folder = pictures.flat_folder(tmp_path / "data", n=2)
    good = sorted(folder.iterdir())[0].read_bytes()
    pictures.truncated(folder / "x.jpg")
    data = ["data=image_folder", f"data.root={folder}", "data.num_workers=0", "data.on_error=skip", "scorer=activation"]
    outcome = run_in(tmp_path / "run", "search", *data)
    assert (outcome.code, outcome.out.splitlines()[0].split(",")[:2]) == (0, ["2 images", " 1 skipped"])
    speed = json.loads((tmp_path / "run" / "metrics.json").read_text())["images_per_second"]
    outcome = run_in(tmp_path / "run", "search", *data)
    assert (outcome.code, outcome.out.splitlines()[0]) == (0, "2 images, 1 skipped, all found before")
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["images_per_second"] == speed
    (folder / "x.jpg").write_bytes(good)
    outcome = run_in(tmp_path / "run", "search", *data)
    assert (outcome.code, outcome.out.splitlines()[0].split(",")[:2]) == (0, ["3 images", " 2 found before"])
    assert len(load_paths(tmp_path / "run")) == 3


def test_pictures_of_other_content_are_refused(tmp_path: Path) -> None:
    folder = pictures.flat_folder(tmp_path / "data", n=3)
    data = ["data=image_folder", f"data.root={folder}", "data.num_workers=0", "scorer=activation"]
    assert run_in(tmp_path / "run", "search", *data).code == 0
    moved = folder.rename(tmp_path / "moved")
    data[1] = f"data.root={moved}"
    assert run_in(tmp_path / "run", "search", *data).code == 0
    changed = sorted(moved.iterdir())[1]
    pictures.save(changed, seed=7)
    outcome = run_in(tmp_path / "run", "search", *data)
    assert (outcome.code, outcome.err.count("\n")) == (1, 1)
    assert f"of another search: data.content.{changed.name} was '" in outcome.err
    code, out, _ = call("verify", str(tmp_path / "run"), f"--root={moved}")
    assert code == 1
    assert f"FAILED  source  data.content.{changed.name} was '" in out


def test_there_must_be_something_to_resume(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    for name in ("none", "mine"):
        code, out, err = call("search", f"resume={tmp_path / name}")
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert f"There is nothing to resume in '{tmp_path / name}'" in err
    assert [file.name for file in tmp_path.rglob("*")] == ["mine", "notes.txt"]


def test_resume_and_another_directory_contradict_each_other(stopped: Path, tmp_path: Path) -> None:
    code, _, err = call("search", f"resume={stopped}", f"hydra.run.dir={tmp_path / 'other'}")
    assert (code, err.count("\n")) == (1, 1)
    assert "give one" in err


def test_a_sweep_goes_on_in_its_directory(tmp_path: Path) -> None:
    sweep = ["search", "-m", "scorer=activation,random", "data.limit=2", f"hydra.sweep.dir={tmp_path}"]
    assert call(*sweep, "trainer.threads=1")[0] == 0
    (tmp_path / "1" / "paths.parquet").unlink()
    code, out, _ = call(*sweep, "trainer.threads=1")
    assert code == 0
    assert out.count("all found before") == 1
    assert len(load_paths(tmp_path / "1")) == 2
    code, _, err = call(*sweep, f"resume={tmp_path / '0'}")
    assert code == 1
    assert "resume is for one run" in err


def test_a_stored_head_is_not_fitted_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ["+model.kwargs.num_classes=0", "head=linear_probe", "data.limit=2", "scorer=activation"]
    assert run_in(tmp_path / "run", "search", *options).code == 0
    (tmp_path / "run" / "paths.parquet").unlink()
    monkeypatch.setattr("neuron_path.pipeline.build.fit_head", lambda *_: pytest.fail("fitted again"))
    outcome = run_in(tmp_path / "run", "search", *options)
    assert (outcome.code, outcome.err) == (0, "")
