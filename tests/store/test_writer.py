"""Parts and their merge: nothing lost, nothing doubled, one order."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuron_path.errors import NeuronPathError
from neuron_path.store.layout import EVIDENCE, list_parts, open_run_dir
from neuron_path.store.merge import merge_parts, ordered_parts, read_parts, remove_parts
from neuron_path.store.parquet import read_parquet
from neuron_path.store.reader import load_effects, load_scores
from neuron_path.store.schema import effect_schema, path_schema, score_schema
from neuron_path.store.writer import PartWriter, write_effects, write_scores
from tests.store.rows import PROVENANCE, PathWriter, effect_table, keys, path_table, score_table

IDS = [f"class/{index:02d}.png" for index in range(12)]
SCHEMA = path_schema(1)


def make_writer(run_dir: Path, rank: int = 0) -> PathWriter:
    return PathWriter(run_dir, SCHEMA, PROVENANCE, rank)


def test_rows_are_on_the_disk_when_append_returns(tmp_path: Path) -> None:
    writer = make_writer(tmp_path)
    writer.append(path_table(IDS[:2]))
    writer.append(path_table(IDS[2:3]))
    assert [file.name for file in list_parts(tmp_path).parts] == [
        "part-00000-000000.parquet",
        "part-00000-000001.parquet",
    ]
    assert read_parts(tmp_path, SCHEMA)["sample_id"].to_pylist() == IDS[:3]
    assert pq.ParquetFile(list_parts(tmp_path).parts[0]).metadata.row_group(0).column(0).compression == "ZSTD"


@pytest.mark.core
def test_merge_sorts_and_removes_the_parts(tmp_path: Path) -> None:
    run_dir = open_run_dir(tmp_path / "run")
    writer = make_writer(run_dir)
    (run_dir / "parts" / ".part-00000-000009.parquet.1.ab.tmp").write_bytes(b"PAR1 torn")
    writer.append(path_table(IDS[::-1]))
    target = writer.merge(keys(IDS))
    assert os.listdir(run_dir) == ["paths.parquet"]
    table, provenance = read_parquet(target)
    assert table["sample_id"].to_pylist() == IDS
    assert provenance == PROVENANCE
    with pytest.raises(NeuronPathError, match="already holds results"):
        open_run_dir(run_dir)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), ranks=st.integers(1, 3), batch=st.integers(1, 5))
@pytest.mark.core
def test_bytes_do_not_depend_on_order_batch_or_processes(
    tmp_path_factory: pytest.TempPathFactory, seed: int, ranks: int, batch: int
) -> None:
    def run(names: list[str], ranks: int, batch: int) -> bytes:
        run_dir = tmp_path_factory.mktemp("run")
        for rank in range(ranks):
            writer = make_writer(run_dir, rank)
            mine = names[rank::ranks]
            for start in range(0, len(mine), batch):
                writer.append(path_table(mine[start : start + batch]))
        return merge_parts(run_dir, SCHEMA, PROVENANCE, keys(IDS)).read_bytes()

    shuffled = random.Random(seed).sample(IDS, len(IDS))
    assert run(shuffled, ranks, batch) == run(IDS, 1, len(IDS))


def test_methods_share_images_and_are_told_apart(tmp_path: Path) -> None:
    writer = make_writer(tmp_path)
    for scorer in ("activation", "joint_attribution"):
        writer.append(path_table(IDS[:2], scorer=scorer))
    expected = [(name, scorer, "greedy") for name in IDS[:2] for scorer in ("joint_attribution", "activation")]
    table, _ = read_parquet(writer.merge(expected))
    assert list(zip(table["sample_id"].to_pylist(), table["scorer"].to_pylist(), strict=True)) == [
        key[:2] for key in expected
    ]


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ([IDS[:8]], "4 missing ('class/08.png / joint_attribution', 'class/09.png / joint_attribution', "),
        ([IDS, IDS[:2]], "2 duplicated ('class/00.png / joint_attribution', 'class/01.png / joint_attribution')"),
        ([IDS, ["other.png"]], "1 unexpected ('other.png / joint_attribution')"),
        ([IDS[1:], IDS[1:2]], "1 missing ('class/00.png / joint_attribution'); 1 duplicated ("),
        ([], "12 missing"),
    ],
)
@pytest.mark.core
def test_wrong_coverage_is_refused_and_the_parts_stay(tmp_path: Path, written: list[list[str]], told: str) -> None:
    writer = make_writer(tmp_path)
    for ids in written:
        writer.append(path_table(ids))
    with pytest.raises(NeuronPathError) as error:
        writer.merge(keys(IDS))
    assert told in str(error.value)
    assert str(error.value).count("class/") <= 6
    assert len(list_parts(tmp_path).parts) == len(written)
    assert not (tmp_path / "paths.parquet").exists()


def test_expected_rows_must_be_told_apart(tmp_path: Path) -> None:
    writer = make_writer(tmp_path)
    writer.append(path_table(IDS[:1]))
    with pytest.raises(NeuronPathError, match="named twice"):
        writer.merge(keys([IDS[0], IDS[0]]))
    with pytest.raises(NeuronPathError, match="keys of"):
        writer.merge([(IDS[0],)])


@pytest.mark.parametrize("kept", [0, 10, 500, -1])
def test_a_truncated_part_is_reported_and_nothing_merged(tmp_path: Path, kept: int) -> None:
    writer = make_writer(tmp_path)
    writer.append(path_table(IDS[:6]))
    writer.append(path_table(IDS[6:]))
    torn = list_parts(tmp_path).parts[1]
    torn.write_bytes(torn.read_bytes()[:kept])
    with pytest.raises(NeuronPathError, match=r"part-00000-000001\.parquet': it is torn") as error:
        writer.merge(keys(IDS))
    assert "\n" not in str(error.value)
    assert len(list_parts(tmp_path).parts) == 2


def test_foreign_files_among_the_parts_are_reported(tmp_path: Path) -> None:
    writer = make_writer(tmp_path)
    writer.append(path_table(IDS))
    (tmp_path / "parts" / "notes.txt").touch()
    with pytest.raises(NeuronPathError, match=r"notes\.txt' is no part of this run"):
        writer.merge(keys(IDS))


def test_a_part_with_other_columns_is_reported(tmp_path: Path) -> None:
    make_writer(tmp_path).append(path_table(IDS[:6]))
    PathWriter(tmp_path, path_schema(3), PROVENANCE, rank=1).append(path_table(IDS[6:], top_k=3))
    with pytest.raises(NeuronPathError, match=r"part-00001-000000.*column 'path'"):
        merge_parts(tmp_path, SCHEMA, PROVENANCE, keys(IDS))


def test_a_batch_with_other_columns_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NeuronPathError, match="column 'path'"):
        make_writer(tmp_path).append(path_table(IDS, top_k=3))
    assert list_parts(tmp_path).parts == []


def test_a_second_writer_of_a_rank_keeps_the_older_parts(tmp_path: Path) -> None:
    make_writer(tmp_path).append(path_table(IDS[:6]))
    writer = make_writer(tmp_path)
    writer.append(path_table(IDS[6:]))
    assert read_parquet(writer.merge(keys(IDS)))[0].num_rows == 12


def test_a_file_in_the_way_of_the_parts_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "parts").touch()
    with pytest.raises(NeuronPathError, match="Move the file that is in the way"):
        make_writer(tmp_path)


def test_a_killed_process_leaves_whole_parts_only(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.store.test_writer import IDS, make_writer, path_table\n"
        "writer = make_writer(Path(sys.argv[1])); print('ready', flush=True)\n"
        "while True: writer.append(path_table(IDS))"
    )
    root = Path(__file__).parents[2]
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=root)
    assert process.stdout is not None
    with process, process.stdout:
        assert process.stdout.readline() == "ready\n"
        while len(list_parts(tmp_path).parts) < 5:
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    parts = list_parts(tmp_path)
    assert parts.foreign == []
    assert read_parts(tmp_path, SCHEMA)["sample_id"].to_pylist() == IDS * len(parts.parts)


def test_effects_come_back_with_their_provenance(tmp_path: Path) -> None:
    write_effects(tmp_path, effect_table(IDS), PROVENANCE)
    frame = load_effects(tmp_path)
    assert list(frame.columns) == effect_schema().names
    assert frame["sample_id"].tolist() == IDS
    assert frame.attrs["provenance"] == PROVENANCE
    with pytest.raises(NeuronPathError, match="missing"):
        write_effects(tmp_path, effect_table(IDS).drop_columns("target"), PROVENANCE)


def test_scores_come_back_with_their_provenance(tmp_path: Path) -> None:
    write_scores(tmp_path, score_table(IDS), PROVENANCE)
    frame = load_scores(tmp_path)
    assert list(frame.columns) == score_schema().names
    assert frame["sample_id"].tolist() == IDS
    assert frame["complete"].tolist() == score_table(IDS)["complete"].to_pylist()
    assert frame.attrs["provenance"] == PROVENANCE
    with pytest.raises(NeuronPathError, match="complete missing"):
        write_scores(tmp_path, score_table(IDS).drop_columns("complete"), PROVENANCE)


ROWS = pa.schema([pa.field("sample_id", pa.string(), nullable=False), pa.field("value", pa.int32())])


def test_stages_keep_their_parts_apart(tmp_path: Path) -> None:
    rows = pa.table({"sample_id": IDS[:2], "value": [1, 2]}, schema=ROWS)
    later = PartWriter(tmp_path, ROWS, PROVENANCE, stage=EVIDENCE)
    later.append(rows.slice(1))
    writer = make_writer(tmp_path)
    writer.append(path_table(IDS))
    later.append(rows.slice(0, 1))
    writer.merge(keys(IDS))
    assert list_parts(tmp_path) == ([], [])
    assert ordered_parts(tmp_path, ROWS, [(name,) for name in IDS[:2]], EVIDENCE).equals(rows)
    with pytest.raises(NeuronPathError, match="10 missing"):
        ordered_parts(tmp_path, ROWS, [(name,) for name in IDS], EVIDENCE)
    remove_parts(tmp_path, EVIDENCE)
    assert os.listdir(tmp_path) == ["paths.parquet"]
