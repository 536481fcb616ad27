"""A run directory taken up again: what is done is found, what is foreign set aside, another search refused."""

from __future__ import annotations

import copy
import json
import os
import re
import warnings
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuron_path.errors import NeuronPathError
from neuron_path.store import recovery
from neuron_path.store.atomic import write_json
from neuron_path.store.layout import EVIDENCE, list_parts, make_run_dir, part_path
from neuron_path.store.reader import load_paths
from neuron_path.store.recovery import Opened, holds_run, open_search, open_stage
from neuron_path.store.schema import path_schema
from neuron_path.store.skipped import read_skipped
from neuron_path.store.writer import PartWriter
from tests.store.rows import PathWriter, keys, path_table

IDS = [f"class/{index:02d}.png" for index in range(8)]
SCHEMA = path_schema(1)
IDENTITY = {"model": {"name": "digits_vit", "weights": "ab" * 32}, "scorer": {"name": "activation"}, "seed": 0}
MADE: dict[str, Any] = {"identity": IDENTITY, "versions": {"torch": "2"}, "git": {}, "environment": {}}
METHODS = [("activation", "greedy"), ("random", "greedy")]


def reopen(run_dir: Path, made: dict[str, Any] = MADE, **options: Any) -> Opened:
    return open_search(run_dir, SCHEMA, made, METHODS, **options)


def rows(ids: list[str], scorers: tuple[str, ...] = ("activation", "random")) -> pa.Table:
    return pa.concat_tables(path_table(ids, scorer=scorer) for scorer in scorers)


def begin(run_dir: Path, *batches: list[str], made: dict[str, Any] = MADE, rank: int = 0) -> PathWriter:
    """A search that was stopped after these batches."""
    make_run_dir(run_dir)
    write_json(run_dir / "run.json", made)
    writer = PathWriter(run_dir, SCHEMA, made, rank)
    for batch in batches:
        writer.append(rows(batch))
    return writer


def expected() -> list[tuple[str, ...]]:
    return [key for scorer, _ in METHODS for key in keys(IDS, scorer)]


def other(**changes: Any) -> dict[str, Any]:
    return copy.deepcopy(MADE) | {"identity": copy.deepcopy(IDENTITY) | changes}


def test_an_empty_directory_begins_a_search(tmp_path: Path) -> None:
    assert reopen(make_run_dir(tmp_path / "run")) == Opened(MADE, frozenset())
    assert list((tmp_path / "run").iterdir()) == []
    assert not holds_run(tmp_path / "run")


def test_a_search_that_had_stored_nothing_begins_anew(tmp_path: Path) -> None:
    begin(tmp_path, made=other(seed=1))
    assert reopen(tmp_path) == Opened(MADE, frozenset())


@settings(max_examples=20)
@given(done=st.lists(st.integers(0, 7), unique=True, max_size=8), ranks=st.integers(1, 3), batch=st.integers(1, 4))
@pytest.mark.core
def test_what_is_done_is_found_and_the_rest_completes_it(
    tmp_path_factory: pytest.TempPathFactory, done: list[int], ranks: int, batch: int
) -> None:
    run_dir = tmp_path_factory.mktemp("run")
    names = [IDS[place] for place in done]
    for rank in range(ranks):
        mine = names[rank::ranks]
        begin(run_dir, *(mine[start : start + batch] for start in range(0, len(mine), batch)), rank=rank)
    opened = reopen(run_dir)
    assert opened.done == set(names)
    left = [name for name in IDS if name not in opened.done]
    writer = PathWriter(run_dir, SCHEMA, opened.provenance)
    if left:
        writer.append(rows(left))
    writer.merge(expected())
    assert load_paths(run_dir)["sample_id"].tolist() == IDS * 2
    assert not (run_dir / "set_aside").exists()


def test_each_time_it_is_taken_up_is_noted(tmp_path: Path) -> None:
    begin(tmp_path, IDS[:2])
    first = reopen(tmp_path).provenance
    assert first == MADE | {"resumed": [{name: MADE[name] for name in ("versions", "git", "environment")}]}
    write_json(tmp_path / "run.json", first)
    assert len(reopen(tmp_path).provenance["resumed"]) == 2


@pytest.mark.core
def test_a_finished_search_is_done(tmp_path: Path) -> None:
    begin(tmp_path, IDS).merge(expected())
    assert reopen(tmp_path).done == set(IDS)


def test_parts_left_by_a_merge_that_was_cut_short_go(tmp_path: Path) -> None:
    writer = begin(tmp_path, IDS[:5], IDS[5:])
    kept = [(part, part.read_bytes()) for part in list_parts(tmp_path).parts]
    writer.merge(expected())
    (tmp_path / "parts").mkdir()
    for part, content in kept:
        part.write_bytes(content)
    assert reopen(tmp_path).done == set(IDS)
    assert list_parts(tmp_path).parts == []


def damage(kind: str, run_dir: Path) -> str:
    """Put something among the parts that does not belong there; its name."""
    part = part_path(run_dir, 0, 1)
    if kind == "torn":
        part.write_bytes(part.read_bytes()[:-40])
    elif kind == "flipped":
        content = bytearray(part.read_bytes())
        content[len(content) // 8] ^= 0xFF
        part.write_bytes(content)
    elif kind == "empty":
        part.write_bytes(b"")
    elif kind == "no provenance":
        pq.write_table(rows(IDS[2:4]), part)
    elif kind == "another search":
        PathWriter(run_dir, SCHEMA, other(seed=1), 5).append(rows(IDS[6:]))
        part = part_path(run_dir, 5, 0)
    elif kind == "other columns":
        PathWriter(run_dir, path_schema(2), MADE, 5).append(path_table(IDS[6:], top_k=2))
        part = part_path(run_dir, 5, 0)
    elif kind == "repeated":
        part = part_path(run_dir, 5, 0)
        part.write_bytes(part_path(run_dir, 0, 1).read_bytes())
    elif kind == "one method":
        PathWriter(run_dir, SCHEMA, MADE, 5).append(rows(IDS[6:], ("activation",)))
        part = part_path(run_dir, 5, 0)
    else:
        part = run_dir / "parts" / "notes.txt"
        part.write_text("hello")
    return part.name


DAMAGES = {
    "torn": ("torn", 2),
    "flipped": ("torn", 2),
    "empty": ("torn", 2),
    "no provenance": ("no table of this library", 2),
    "another search": ("foreign: of another search", 4),
    "other columns": ("foreign: other columns", 4),
    "repeated": ("repeats rows", 4),
    "one method": ("lacks rows of some methods", 4),
    "not a part": ("foreign: not a part's name", 4),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_what_does_not_belong_is_set_aside_and_named(kind: str, tmp_path: Path) -> None:
    begin(tmp_path, IDS[:2], IDS[2:4])
    name = damage(kind, tmp_path)
    reason, n_done = DAMAGES[kind]
    with pytest.warns(UserWarning, match=rf"Set aside 1 file\(s\).*{re.escape(name)} \(.*{re.escape(reason)}"):
        opened = reopen(tmp_path)
    assert opened.done == set(IDS[:n_done])
    assert [file.name for file in (tmp_path / "set_aside").iterdir()] == [name]
    left = [name for name in IDS if name not in opened.done]
    writer = PathWriter(tmp_path, SCHEMA, opened.provenance)
    writer.append(rows(left))
    writer.merge(expected())
    assert load_paths(tmp_path)["sample_id"].tolist() == IDS * 2


def test_two_files_of_one_name_are_both_kept(tmp_path: Path) -> None:
    for content in ("one", "two"):
        begin(tmp_path, IDS[:2]) if content == "one" else None
        (tmp_path / "parts" / "notes.txt").write_text(content)
        with pytest.warns(UserWarning, match="notes"):
            reopen(tmp_path)
    assert {file.name: file.read_text() for file in (tmp_path / "set_aside").iterdir()} == {
        "notes.txt": "one",
        "notes.txt.1": "two",
    }


def test_a_torn_table_of_a_finished_search_is_found_again(tmp_path: Path) -> None:
    table = begin(tmp_path, IDS).merge(expected())
    table.write_bytes(table.read_bytes()[:100])
    with pytest.warns(UserWarning, match=r"paths\.parquet \(torn"):
        assert reopen(tmp_path).done == set()


@pytest.mark.parametrize("content", ["{", "[]", None])
def test_the_parts_say_what_a_torn_record_does_not(content: str | None, tmp_path: Path) -> None:
    begin(tmp_path, IDS[:3])
    (tmp_path / "run.json").unlink()
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert reopen(tmp_path).done == set(IDS[:3])
        with pytest.raises(NeuronPathError, match="seed was 0 and is 1"):
            reopen(tmp_path, other(seed=1))
    assert [("run.json (torn)" in str(told.message)) for told in caught] == ([] if content is None else [True])


def test_leftovers_of_a_crash_go_without_a_word(tmp_path: Path) -> None:
    writer = begin(tmp_path, IDS[:2])
    writer.skip([("torn.jpg", "truncated")])
    leftover = tmp_path / "parts" / ".part-00000-000009.parquet.1.ab.tmp"
    leftover.write_bytes(b"PAR1")
    assert reopen(tmp_path).done == set(IDS[:2])
    assert not leftover.exists()
    assert read_skipped(tmp_path) == []  # tried again


def test_another_search_is_refused_with_the_difference_and_nothing_changes(tmp_path: Path) -> None:
    begin(tmp_path, IDS[:2])
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    with pytest.raises(NeuronPathError) as error:
        reopen(tmp_path, other(scorer={"name": "random", "seed": 3}, seed=1))
    assert "already holds results (1 file(s) in parts/) of another search: scorer.name was 'activation' and is" in str(
        error.value
    )
    assert "scorer.seed was absent and is 3; seed was 0 and is 1. Choose another directory" in str(error.value)
    assert "resume_mode=force" in str(error.value)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


def test_results_of_an_unknown_search_are_refused(tmp_path: Path) -> None:
    begin(tmp_path, IDS[:2], made={"model": "digits_vit"})
    with pytest.raises(NeuronPathError, match="do not say which search made them"):
        reopen(tmp_path)


def test_force_continues_another_search_and_says_so(tmp_path: Path) -> None:
    begin(tmp_path, IDS[:4])
    opened = reopen(tmp_path, other(seed=1), force=True)
    assert opened.done == set(IDS[:4])
    assert opened.provenance["identity"]["seed"] == 1
    assert opened.provenance["forced"] == [{"identity": IDENTITY, "differences": ["seed was 0 and is 1"]}]
    write_json(tmp_path / "run.json", opened.provenance)
    PathWriter(tmp_path, SCHEMA, opened.provenance).append(rows(IDS[4:6]))
    assert reopen(tmp_path, other(seed=1)).done == set(IDS[:6])  # parts of both are its own now


def test_force_keeps_rows_of_images_that_are_gone(tmp_path: Path) -> None:
    begin(tmp_path, IDS).merge(expected())
    opened = reopen(tmp_path, other(data={"images": 3}), force=True)
    writer = PathWriter(tmp_path, SCHEMA, opened.provenance)
    writer.merge([key for key in expected() if key[0] in IDS[:3]], keep_others=True)
    assert load_paths(tmp_path)["sample_id"].tolist() == IDS[:3] * 2
    assert load_paths(tmp_path / "set_aside" / "paths.parquet")["sample_id"].tolist() == IDS * 2


def test_the_record_is_strict_json(tmp_path: Path) -> None:
    begin(tmp_path, IDS[:1])
    assert json.loads(json.dumps(reopen(tmp_path).provenance, allow_nan=False))


REFUSALS = {
    "full disk": ("fsync", OSError(28, "No space left on device"), "Free some space or choose another directory"),
    "quota": ("fsync", OSError(122, "Disk quota exceeded"), "Free some of your quota or choose another directory"),
    "no permission": ("open", PermissionError(13, "Permission denied"), "Choose a directory that you may write to"),
    "read-only": ("replace", OSError(30, "Read-only file system"), "on a file system that is not read-only"),
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_a_directory_that_takes_no_more_is_one_line(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step, error, advice = REFUSALS[kind]
    writer = begin(tmp_path, IDS[:2])

    def refuse(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, step, refuse)
        with pytest.raises(NeuronPathError, match=f"{error.strerror}.*{advice}"):
            writer.append(rows(IDS[2:4]))
    assert reopen(tmp_path).done == set(IDS[:2])
    assert len(list((tmp_path / "parts").iterdir())) == 1


class _Name(str):
    """A sample id that counts how often it is looked up, which is what the rows of a resumed run cost."""

    n_looked_up = 0

    def __hash__(self) -> int:
        _Name.n_looked_up += 1
        return super().__hash__()


def test_each_row_is_looked_up_a_few_times_however_many_files_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = {tmp_path / "paths.parquet": [_Name(f"{index}") for index in range(500)]}
    held |= {part_path(tmp_path, 0, part): [_Name(f"new {part}")] for part in range(300)}
    read = {file: ([(name, METHODS[0]) for name in names], "") for file, names in held.items()}
    monkeypatch.setattr(recovery, "_read_rows", lambda file, *_: read[file])
    _Name.n_looked_up = 0
    done = recovery._read_done(tmp_path, list(held), SCHEMA, [IDENTITY], frozenset(METHODS[:1]), {})
    assert _Name.n_looked_up < 20 * 800
    assert len(done) == 800


def test_a_later_stage_goes_on_and_takes_nothing_of_another(tmp_path: Path) -> None:
    schema = pa.schema([pa.field("sample_id", pa.string(), nullable=False)])
    begin(tmp_path, IDS).merge(expected())
    for rank, identity in enumerate([{"settings": 1}, {"settings": 2}]):
        writer = PartWriter(tmp_path, schema, {"identity": identity}, rank, stage=EVIDENCE)
        writer.append(pa.table({"sample_id": IDS[rank : rank + 2]}, schema=schema))
    assert reopen(tmp_path).done == set(IDS)
    told = r"Set aside 1 file.*evidence-00000-000000\.parquet \(foreign: of another evidence\)"
    with pytest.warns(UserWarning, match=told):
        assert open_stage(tmp_path, EVIDENCE, schema, {"settings": 2}, [()]) == set(IDS[1:3])
    assert open_stage(tmp_path, EVIDENCE, schema, {"settings": 2}, [()]) == set(IDS[1:3])
