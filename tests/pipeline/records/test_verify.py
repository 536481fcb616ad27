"""A finished run is checked against its record, and made again from it."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from neuron_path.config import Config, ImageFolderConfig, LinearProbeConfig
from neuron_path.errors import NeuronPathError
from neuron_path.pipeline.records.sameness import compare_paths
from neuron_path.pipeline.records.verify import moved, verify
from neuron_path.stopping import RESUMABLE
from neuron_path.store.atomic import write_json
from neuron_path.store.checksums import changed_files, stored_files, write_checksums
from neuron_path.store.parquet import read_parquet, write_parquet
from neuron_path.store.reader import load_paths
from neuron_path.store.writer import PartWriter
from tests import pictures
from tests.command import Outcome, call, run_in
from tests.tables import same_paths

TABLES = ("paths", "effects", "scores")


@pytest.fixture
def run_dir(finished: Outcome, tmp_path: Path) -> Path:
    """A copy of a finished run, to be spoilt."""
    return shutil.copytree(finished.run_dir, tmp_path / "run")


def test_a_finished_run_is_what_it_says(finished: Outcome) -> None:
    code, out, err = call("verify", str(finished.run_dir), "--sample=3")
    assert (code, err) == (0, "")
    assert [line.split()[:2] for line in out.splitlines()] == [
        ["ok", name] for name in ("record", "files", "rows", "source", "paths")
    ]
    assert "12 images, each once for each of 4 method(s)" in out
    assert "3 images searched again: 12 paths identical" in out


def record_of(finished: Outcome, run_dir: Path) -> Path:
    """A directory with the record and the paths of a run that draws no report: that takes long."""
    run_dir.mkdir()
    shutil.copy(finished.run_dir / "paths.parquet", run_dir / "paths.parquet")
    made = json.loads((finished.run_dir / "run.json").read_text())
    made["config"]["report"] = False
    write_json(run_dir / "run.json", made)
    return run_dir


def rewrite(run_dir: Path, change: Callable[[pa.Table], pa.Table], name: str = "paths") -> None:
    """Change a table behind the run's back, checksums and all."""
    table, made = read_parquet(run_dir / f"{name}.parquet")
    write_parquet(run_dir / f"{name}.parquet", change(table), made)
    write_checksums(run_dir, stored_files(run_dir))


def with_values(column: str, values: Callable[[list[Any]], list[Any]]) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        place = table.schema.get_field_index(column)
        field = table.schema.field(place)
        return table.set_column(place, field, pa.array(values(table[column].to_pylist()), field.type))

    return change


def restate(run_dir: Path, change: Callable[[dict[str, Any]], object], names: Sequence[str] = TABLES) -> None:
    """Change the record, and what tables say of their making."""
    for name in names:
        table, made = read_parquet(run_dir / f"{name}.parquet")
        change(made)
        write_parquet(run_dir / f"{name}.parquet", table, made)
    made = json.loads((run_dir / "run.json").read_text())
    change(made)
    write_json(run_dir / "run.json", made)
    write_checksums(run_dir, stored_files(run_dir))


def another_seed(made: dict[str, Any]) -> None:
    made["identity"]["seed"] = made["config"]["seed"] = made["seed"] = 4


def rename(run_dir: Path, of: Callable[[str], str]) -> None:
    """Give images other names, in every table."""
    for name in TABLES:
        rewrite(run_dir, with_values("sample_id", lambda names: [of(name) for name in names]), name)


def unlist(run_dir: Path, name: str) -> None:
    lines = (run_dir / "SHA256SUMS").read_text().splitlines(keepends=True)
    (run_dir / "SHA256SUMS").write_text("".join(line for line in lines if name not in line))


def miscount(run_dir: Path) -> None:
    write_json(run_dir / "metrics.json", {"skipped_images": "x"})
    write_checksums(run_dir, stored_files(run_dir))


SPOILT: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "no record": (lambda run: (run / "run.json").unlink(), "record", "does not say which search"),
    "torn record": (lambda run: (run / "run.json").write_text("{"), "record", "run.json"),
    "torn table": (lambda run: (run / "scores.parquet").write_bytes(b"PAR1"), "record", "torn"),
    "another record": (
        lambda run: write_json(run / "run.json", json.loads((run / "run.json").read_text()) | {"top_k": 2}),
        "record",
        "paths.parquet was made by something else than run.json says: top_k differ",
    ),
    "no table": (lambda run: (run / "paths.parquet").unlink(), "record", "holds no paths.parquet"),
    "changed file": (lambda run: (run / "metrics.json").write_text("{}"), "files", "metrics.json changed"),
    "key taken out of the record": (
        lambda run: restate(run, lambda made: made.pop("config"), ()),
        "record",
        "says: config differ",
    ),
    "baselines taken out": (
        lambda run: restate(run, lambda made: made.pop("baselines"), ()),
        "record",
        "says: baselines differ",
    ),
    "key taken out everywhere": (
        lambda run: restate(run, lambda made: made.pop("baselines")),
        "rows",
        "run.json or a table is damaged (KeyError: 'baselines')",
    ),
    "configuration taken out everywhere": (
        lambda run: restate(run, lambda made: made.pop("config")),
        "source",
        "'config'",
    ),
    "another weight hash": (
        lambda run: restate(run, lambda made: made.update(weight_hash="0")),
        "source",
        "weight_hash was '0' and is '",
    ),
    "emptied checksums": (
        lambda run: (run / "SHA256SUMS").write_text(""),
        "files",
        "paths.parquet, effects.parquet, scores.parquet, run.json, metrics.json not listed in SHA256SUMS",
    ),
    "unlisted file": (lambda run: unlist(run, "scores"), "files", "scores.parquet not listed in SHA256SUMS"),
    "lost row": (lambda run: rewrite(run, lambda table: table.slice(1)), "rows", "47 paths of 12 images, 0 of them"),
    "doubled row": (
        lambda run: rewrite(run, lambda table: pa.concat_tables([table, table.slice(0, 1)])),
        "rows",
        "49 paths of 12 images, 1 of them doubled; expected 48 of 12",
    ),
    "renamed row": (
        lambda run: rewrite(run, with_values("sample_id", lambda names: ["zz", *names[1:]])),
        "rows",
        "48 paths of 13 images",
    ),
    "renamed effects": (
        lambda run: rewrite(run, with_values("sample_id", lambda names: [f"{name}'" for name in names]), "effects"),
        "rows",
        "effects.parquet does not hold every path",
    ),
    "renamed images": (
        lambda run: rename(run, lambda name: f"{name}'"),
        "source",
        "paths.parquet has digits/0021' where the data has digits/0021",
    ),
    "renamed image": (
        lambda run: rename(run, lambda name: name.replace("digits/0021", "zz")),
        "source",
        "paths.parquet has zz where the data has digits/0021",
    ),
    "another order": (
        lambda run: rewrite(run, lambda table: table.take(list(reversed(range(len(table)))))),
        "source",
        "where the data has digits/0021",
    ),
    "strange count": (miscount, "rows", "metrics.json counts 'x' skipped images; expected 0"),
    "empty paths": (
        lambda run: rewrite(run, with_values("path", lambda paths: [[] for _ in paths])),
        "paths",
        "other paths or classes",
    ),
    "lost effect": (
        lambda run: rewrite(run, lambda table: table.slice(1), "effects"),
        "rows",
        "effects.parquet does not hold every path",
    ),
    "another path": (
        lambda run: rewrite(run, with_values("path", lambda paths: [[(n + 1) % 192 for n in path] for path in paths])),
        "paths",
        "other paths or classes",
    ),
    "another score": (
        lambda run: rewrite(run, with_values("score", lambda scores: [score * 1.001 for score in scores])),
        "paths",
        "scores that differ by up to 0.001",
    ),
    "another seed": (lambda run: restate(run, another_seed), "paths", "other paths or classes"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_what_was_changed_is_found(name: str, run_dir: Path) -> None:
    spoil, check, told = SPOILT[name]
    spoil(run_dir)
    code, out, err = call("verify", str(run_dir), f"--sample={int(check == 'paths')}")
    assert (code, err.count("\n")) == (1, 1)
    assert check in err.split(":")[-1]
    line = next(line for line in out.splitlines() if line.startswith("FAILED"))
    assert line.split()[1] == check
    assert told in line


def test_debug_shows_what_a_damaged_record_raises(run_dir: Path) -> None:
    restate(run_dir, lambda made: made.pop("baselines"))
    code, _, err = call("verify", str(run_dir), "--debug")
    assert code == 1
    assert "KeyError: 'baselines'" in err
    assert "in _rows" in err


def test_another_model_is_found(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neuron_path.pipeline.records.verify.weights_of", lambda study: "0" * 64)
    checks = {check.name: check for check in verify(run_dir, 1)}
    assert not checks["source"].is_good
    assert "model.weights was '" in checks["source"].finding
    assert "paths" not in checks


@pytest.mark.parametrize("raised", [RuntimeError("CUDA out of memory"), TypeError("a mistake of ours")])
@pytest.mark.parametrize("where", ["pipeline.records.verify.build_work", "search.finder.PathFinder.find"])
def test_what_goes_wrong_in_checking_does_not_make_the_run_damaged(
    where: str, raised: Exception, finished: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr(f"neuron_path.{where}", fail)
    with pytest.raises(type(raised), match=str(raised)):
        list(verify(finished.run_dir, 1))


def test_no_image_is_searched_again_where_none_is_asked_for(finished: Outcome) -> None:
    code, out, err = call("verify", str(finished.run_dir), "--sample=0")
    assert (code, err) == (0, "")
    assert "no image searched again" in out.splitlines()[-1]


def test_a_search_that_was_forced_to_go_on_is_what_it_says_or_says_why_not(tmp_path: Path) -> None:
    search = ["search", "scorer=random", "quadrature.n_steps=1", "resume_mode=force"]
    assert run_in(tmp_path / "run", *search, "data.limit=2").code == 0
    assert run_in(tmp_path / "run", *search, "data.limit=3").code == 0
    code, out, err = call("verify", str(tmp_path / "run"))
    assert (code, err) == (0, "")
    assert "3 images, each once for each of 1 method(s)" in out
    assert run_in(tmp_path / "run", *search, "data.limit=4", "seed=1").code == 0
    code, out, _ = call("verify", str(tmp_path / "run"))
    assert code == 1
    assert "some are of another search, which was continued by force" in " ".join(out.split())


@pytest.fixture
def of_pictures(tmp_path: Path) -> Path:
    """A search on two pictures and a broken one, with weights from a file."""
    pictures.truncated(pictures.flat_folder(tmp_path / "data", n=2) / "1b.jpg")
    with resources.as_file(resources.files("neuron_path.models") / "weights" / "digits_vit.safetensors") as weights:
        shutil.copy(weights, tmp_path / "weights.safetensors")
    data = ["data=image_folder", f"data.root={tmp_path / 'data'}", "data.on_error=skip", "data.num_workers=0"]
    model = [f"model.checkpoint={tmp_path / 'weights.safetensors'}", "scorer=activation", "quadrature.n_steps=1"]
    outcome = run_in(tmp_path / "run", "search", *data, *model)
    assert (outcome.code, outcome.out.split(",")[:2]) == (0, ["2 images", " 1 skipped"])
    return outcome.run_dir


def test_skipped_images_are_among_those_of_the_data(of_pictures: Path) -> None:
    code, out, err = call("verify", str(of_pictures))
    assert (code, err) == (0, "")
    assert "2 images, each once for each of 1 method(s)" in out
    write_json(of_pictures / "skipped.json", {"1.png": "broken"})
    write_checksums(of_pictures, stored_files(of_pictures))
    code, out, _ = call("verify", str(of_pictures))
    assert code == 1
    assert "FAILED  source  paths.parquet has 1.png where the data has 1b.jpg" in out


def test_a_probe_s_pictures_move_with_the_data_that_they_are() -> None:
    data, head = ImageFolderConfig(root="/old"), LinearProbeConfig(root="/old")
    there = moved(Config(data=data, head=head), "/new")
    assert (there.data.root, there.head.root) == ("/new", "/new")  # pyright: ignore[reportAttributeAccessIssue]
    assert moved(Config(data=data, head=replace(head, root="/other")), "/new").head == replace(head, root="/other")


def test_data_and_weights_may_have_moved(of_pictures: Path, tmp_path: Path) -> None:
    root, checkpoint = (tmp_path / "data").rename(tmp_path / "D"), tmp_path / "W.safetensors"
    (tmp_path / "weights.safetensors").rename(checkpoint)
    places = [f"--root={root}", f"--checkpoint={checkpoint}"]
    for lacking in ([], places[:1], places[1:]):
        code, out, _ = call("verify", str(of_pictures), *lacking)
        assert code == 1
        assert "FAILED  source  " in out
    assert call("rerun", str(of_pictures))[0] == 1
    code, out, err = call("verify", str(of_pictures), *places)
    assert (code, err) == (0, "")
    code, out, err = call("rerun", str(of_pictures), *places)
    assert (code, err) == (0, "")
    assert out.splitlines()[-1].startswith("Same:   2 paths identical")
    config = json.loads((tmp_path / "run-rerun" / "run.json").read_text())["config"]
    assert (config["data"]["root"], config["model"]["checkpoint"]) == (str(root), str(checkpoint))


def test_other_data_in_the_new_place_is_found(of_pictures: Path, tmp_path: Path) -> None:
    root = pictures.flat_folder(tmp_path / "other", n=2)
    code, out, _ = call("verify", str(of_pictures), f"--root={root}")
    assert code == 1
    assert "FAILED  source  data.images was 3 and is 2; data.labels was" in out
    code, _, err = call("rerun", str(of_pictures), f"--root={root}")
    assert (code, err.count("\n")) == (1, 1)
    assert "This would be another search than that one: data.images was 3 and is 2" in err


@pytest.mark.parametrize("command", ["verify", "rerun"])
@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("--root=D", "The run's data 'digits' has no root: leave out --root."),
        ("--checkpoint=W", "The run's model 'digits_vit' takes no checkpoint: leave out --checkpoint."),
    ],
)
def test_a_place_that_the_run_has_not_is_refused(command: str, option: str, told: str, finished: Outcome) -> None:
    assert call(command, str(finished.run_dir), option) == (1, "", f"neuron-path: error: {told}\n")
    assert not finished.run_dir.with_name("run-rerun").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["verify"], "needs one run directory"),
        (["verify", "a", "b"], "needs one run directory"),
        (["verify", "nowhere"], "record failed"),
        (["verify", "nowhere", "--sample=x"], "expected a whole number"),
        (["verify", "nowhere", "--smple=1"], "Did you mean '--sample'?"),
        (["rerun"], "needs one run directory"),
        (["rerun", "nowhere"], "There is no run.json in 'nowhere'"),
        (["rerun", "nowhere", "--out="], "has no value"),
    ],
)
def test_wrong_arguments_are_one_line(arguments: list[str], told: str) -> None:
    code, _, err = call(*arguments)
    assert (code, err.count("\n")) == (1, 1)
    assert told in err


def test_the_help_says_what_is_checked() -> None:
    for command in ("verify", "rerun"):
        code, out, err = call(command, "--help")
        assert (code, err) == (0, "")
        assert f"usage: neuron-path {command} DIR" in out


def test_a_run_is_not_made_again_in_its_own_place(run_dir: Path) -> None:
    (run_dir.parent / "link").symlink_to(run_dir)
    for out in (run_dir, run_dir / ".." / "run", run_dir.parent / "link"):
        code, told, err = call("rerun", str(run_dir), f"--out={out}")
        assert (code, told, err.count("\n")) == (1, "", 1)
        assert f"--out is the run itself, '{run_dir}'" in err


DAMAGED: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no configuration": (lambda made: made.pop("config"), "The stored configuration is of another version"),
    "odd configuration": (lambda made: made.update(config=[1]), "The stored configuration is of another version"),
    "list of commands": (lambda made: made.update(command=["run"]), "is of an older version, or of something else"),
    "no identity": (lambda made: made.pop("identity"), "is of an older version, or of something else"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_record_cannot_be_followed(name: str, run_dir: Path) -> None:
    damage, told = DAMAGED[name]
    made = json.loads((run_dir / "run.json").read_text())
    damage(made)
    write_json(run_dir / "run.json", made)
    code, out, err = call("rerun", str(run_dir))
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert told in err


def test_a_torn_table_is_found_before_the_search(run_dir: Path) -> None:
    (run_dir / "paths.parquet").write_bytes(b"PAR1")
    code, out, err = call("rerun", str(run_dir))
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "torn" in err
    assert not (run_dir.parent / "run-rerun").exists()


def test_a_stopped_rerun_goes_on(finished: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append = PartWriter.append

    def stop(self: PartWriter, table: pa.Table) -> None:
        append(self, table)
        os.kill(os.getpid(), signal.SIGTERM)

    recorded, again = record_of(finished, tmp_path / "run"), tmp_path / "again"
    command = ("rerun", str(recorded), f"--out={again}")
    with monkeypatch.context() as patch:
        patch.setattr(PartWriter, "append", stop)
        code, out, err = call(*command)
    told = "neuron-path: error: Terminated. What was finished is kept: the same command goes on.\n"
    assert (code, out, err) == (RESUMABLE, "", told)
    code, out, err = call(*command)
    assert (code, err) == (0, "")
    assert out.startswith("12 images, 5 found before, ")
    assert out.splitlines()[-1].startswith("Same:   48 paths identical")
    same_paths(load_paths(again), load_paths(finished.run_dir))
    assert (again / "effects.parquet").exists()
    made, first = (json.loads((run_dir / "run.json").read_text()) for run_dir in (again, finished.run_dir))
    assert made["identity"] == first["identity"]


def test_a_run_that_has_not_finished_is_made_again(of_pictures: Path) -> None:
    (of_pictures / "paths.parquet").unlink()
    code, out, err = call("rerun", str(of_pictures))
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == "The run itself has not finished: there is nothing to compare with."


def test_what_cannot_be_the_same_search_is_refused(run_dir: Path, tmp_path: Path) -> None:
    made = json.loads((run_dir / "run.json").read_text())
    made["identity"]["model"]["weights"] = "0" * 64
    write_json(run_dir / "run.json", made)
    code, out, err = call("rerun", str(run_dir), f"--out={tmp_path / 'again'}")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "This would be another search than that one: model.weights was '000" in err
    assert not (tmp_path / "again").exists()


def test_checksums_are_those_of_sha256sum(run_dir: Path, tmp_path: Path) -> None:
    lines = (run_dir / "SHA256SUMS").read_text().splitlines()
    assert [line[66:] for line in lines] == sorted(line[66:] for line in lines)
    assert changed_files(run_dir) == ([line[66:] for line in lines], [])
    (run_dir / "run.json").unlink()
    assert changed_files(run_dir)[1] == ["run.json"]
    (run_dir / "SHA256SUMS").write_text(f"{'0' * 64}  ../outside\n")
    with pytest.raises(NeuronPathError, match="outside the run directory"):
        changed_files(run_dir)


def test_sameness_counts_what_differs(finished: Outcome) -> None:
    one = load_paths(finished.run_dir)
    assert compare_paths(one, one.sample(frac=1, random_state=0)).is_same
    other = one.copy(deep=True)
    other.at[0, "path"] = np.roll(one.loc[0, "path"], 1)
    other.loc[1, "score"] *= 1 + 2e-3
    other.loc[2, "prediction"] = 9 - one.loc[2, "prediction"]
    found = compare_paths(one, pd.concat([other.iloc[:-1]]))
    assert (found.rows, found.missing) == (47, 1)
    assert found.other == [one.loc[0, "sample_id"], one.loc[2, "sample_id"]]
    assert found.far == [one.loc[1, "sample_id"]]
    assert found.largest == pytest.approx(2e-3, rel=1e-2)
