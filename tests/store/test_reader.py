"""Reading back: a data frame, or one line that says what is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from neuron_path.errors import NeuronPathError
from neuron_path.store.parquet import write_parquet
from neuron_path.store.reader import load_effects, load_paths, load_scores, read_provenance
from neuron_path.store.schema import path_schema
from tests.store.rows import BLOCKS, PROVENANCE, PathWriter, keys, path_columns, path_table

IDS = ["b.png", "a.png", "ü/c.png"]


def write_run(run_dir: Path, top_k: int = 1) -> Path:
    writer = PathWriter(run_dir, path_schema(top_k), PROVENANCE)
    writer.append(path_table(IDS, top_k=top_k))
    return writer.merge(keys(IDS))


@pytest.mark.parametrize("top_k", [1, 3])
def test_every_value_comes_back(tmp_path: Path, top_k: int) -> None:
    write_run(tmp_path, top_k)
    columns = path_columns(IDS, top_k=top_k)
    frame = load_paths(tmp_path)
    assert list(frame.columns) == path_schema(top_k).names
    assert frame["sample_id"].tolist() == IDS
    assert frame["label"].dtype == pd.Int32Dtype()
    assert [None if label is pd.NA else label for label in frame["label"].tolist()] == columns["label"]
    paths = np.stack(frame["path"].tolist())
    assert paths.dtype == np.int32
    np.testing.assert_array_equal(paths, columns["path"])
    assert paths.shape == ((3, BLOCKS) if top_k == 1 else (3, BLOCKS, 3))
    np.testing.assert_array_equal(np.stack(frame["margins"].tolist()), columns["margins"])
    np.testing.assert_array_equal(frame["score"], columns["score"])
    np.testing.assert_array_equal(frame["target"], columns["target"])
    assert frame["convergence_delta"].isna().tolist() == [True] * 3
    assert frame.attrs["provenance"] == PROVENANCE


def test_a_directory_and_its_file_are_the_same_run(tmp_path: Path) -> None:
    # A sweep names its folders so; read as a partitioned dataset, the name would become a column.
    run_dir = tmp_path / "scorer=activation"
    target = write_run(run_dir)
    pd.testing.assert_frame_equal(load_paths(str(run_dir)), load_paths(target))
    assert read_provenance(run_dir) == read_provenance(str(target)) == PROVENANCE


def one_line(path: Path | str) -> str:
    with pytest.raises(NeuronPathError) as error:
        load_paths(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_is_no_run_is_one_line(tmp_path: Path) -> None:
    assert "no run directory" in one_line(tmp_path / "nowhere")
    assert "There is no file" in one_line(tmp_path / "nowhere.parquet")
    assert "holds no paths.parquet" in one_line(tmp_path)
    (tmp_path / "table.csv").touch()
    assert "neither a run directory nor a .parquet file" in one_line(tmp_path / "table.csv")
    assert "Cannot read" in one_line("nul\0byte.parquet")
    assert "no run directory" in one_line("nul\0byte") or "Cannot read" in one_line("nul\0byte")
    with pytest.raises(NeuronPathError, match=r"holds no effects\.parquet"):
        load_effects(tmp_path)
    with pytest.raises(NeuronPathError, match=r"holds no scores\.parquet"):
        load_scores(tmp_path)


def test_an_unfinished_run_says_so(tmp_path: Path) -> None:
    PathWriter(tmp_path, path_schema(1), PROVENANCE).append(path_table(IDS))
    assert "unfinished: 1 part(s)" in one_line(tmp_path)


def test_a_foreign_parquet_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "paths.parquet"
    pq.write_table(path_table(IDS), path)
    assert "carries no neuron_path provenance" in one_line(path)
    pq.write_table(path_table(IDS).replace_schema_metadata({"neuron_path": "{torn"}), path)
    assert "Cannot read" in one_line(path)
    write_parquet(path, pa.table({"x": [1]}), PROVENANCE)
    assert "missing" in one_line(path)
    schema, table = path_schema(3), path_table(IDS, top_k=3)
    rows = table.to_pylist()
    write_parquet(path, pa.Table.from_pylist([*rows[1:], rows[0] | {"path": []}], schema=schema), PROVENANCE)
    assert "holds an empty path" in one_line(path)


def test_any_torn_or_flipped_byte_is_noticed_or_harmless(tmp_path: Path) -> None:
    whole = write_run(tmp_path).read_bytes()
    frame = load_paths(tmp_path)
    rng = np.random.default_rng(0)
    path = tmp_path / "damaged.parquet"
    noticed = 0
    for position in rng.integers(len(whole), size=200):
        for damaged in (whole[:position], whole[:position] + bytes([whole[position] ^ 0xFF]) + whole[position + 1 :]):
            path.write_bytes(damaged)
            try:
                read = load_paths(path)
            except NeuronPathError as error:
                assert "\n" not in str(error)  # noqa: PT017
                noticed += 1
            else:
                # Unchecked bytes (footer statistics, names of writers) may change; a value may not.
                assert read.map(str).equals(frame.map(str))
    assert noticed >= 250
