"""Damaged and foreign stores: every command that reads a run directory refuses them in one line."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from neuron_path.store.parquet import METADATA_KEY
from tests.bad_input.refusals import Damage, check_refusal, damages, few_by_default
from tests.bad_input.test_files import jsons
from tests.command import call, run_in


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two images."""
    run_dir = tmp_path_factory.mktemp("whole") / "run"
    quick = ("data.limit=2", "quadrature.n_steps=1", "baselines=[]", "report=false", "evaluation.operations=[remove]")
    assert run_in(run_dir, "run", *quick).code == 0
    return run_dir


def copy(whole: Path, folder: Path) -> Path:
    """A copy that may be damaged."""
    target = Path(tempfile.mkdtemp(dir=folder)) / "run"
    shutil.copytree(whole, target)
    return target


def evaluate(run_dir: Path) -> tuple[int, str, str]:
    return call("evaluate", f"run_dir={run_dir}", "evaluation.operations=[remove]", "trainer.threads=1")


def compare(run_dir: Path) -> tuple[int, str, str]:
    return call("compare", str(run_dir))


READERS = {"evaluate": (evaluate, "paths.parquet"), "compare": (compare, "effects.parquet")}


@pytest.mark.parametrize("reader", READERS)
@few_by_default(3, 8)
def test_a_damaged_table_is_one_line_or_the_same(examples: int, reader: str, whole: Path, tmp_path: Path) -> None:
    read, name = READERS[reader]
    refused: set[Damage] = set()

    @settings(max_examples=examples, derandomize=True, database=None, phases=[Phase.generate])
    @given(damages)
    def check(damage: Damage) -> None:
        run_dir = copy(whole, tmp_path)
        (run_dir / name).write_bytes(damage.of((whole / name).read_bytes()))
        code, _, err = read(run_dir)
        if code:
            check_refusal(code, err)
            refused.add(damage)
        shutil.rmtree(run_dir)

    check()
    assert len(refused) >= examples / 3


provenances = st.one_of(
    jsons,
    st.sampled_from(["config", "weight_hash", "n_neurons", "preprocessing", "seed"]),  # left out
    st.tuples(st.sampled_from(["config", "weight_hash", "classes", "quadrature"]), jsons),  # replaced
)


@few_by_default(3, 10)
def test_a_table_with_foreign_provenance_is_one_line_or_read(examples: int, whole: Path, tmp_path: Path) -> None:
    table = pq.read_table(whole / "paths.parquet")
    made = json.loads(table.schema.metadata[METADATA_KEY])

    @settings(max_examples=examples, derandomize=True, database=None, phases=[Phase.generate])
    @given(provenances)
    def check(other: Any) -> None:
        held = other
        if isinstance(other, str) and other in made:
            held = {name: value for name, value in made.items() if name != other}
        elif isinstance(other, tuple):
            held = {**made, other[0]: other[1]}
        run_dir = copy(whole, tmp_path)
        pq.write_table(table.replace_schema_metadata({METADATA_KEY: json.dumps(held)}), run_dir / "paths.parquet")
        code, _, err = evaluate(run_dir)
        if code:
            check_refusal(code, err)
        shutil.rmtree(run_dir)

    check()


def with_path(table: pa.Table, path: list[int]) -> pa.Table:
    """The table with this path in every row."""
    index, field = table.schema.get_field_index("path"), table.schema.field("path")
    return table.set_column(index, field, pa.array([path] * len(table), field.type))


COLUMNS = {
    "a column less": lambda table: table.drop_columns(["path"]),
    "a column more": lambda table: table.append_column("zz", pa.array([1] * len(table))),
    "another type": lambda table: table.set_column(0, "sample_id", pa.array(range(len(table)))),
    "no rows": lambda table: table.slice(0, 0),
    "rows twice": lambda table: pa.concat_tables([table, table]),
    "unknown images": lambda table: table.set_column(
        0, pa.field("sample_id", pa.string(), nullable=False), pa.array(["zz"] * len(table))
    ),
    "missing values": lambda table: table.set_column(
        0, pa.field("sample_id", pa.string()), pa.array([None] * len(table), pa.string())
    ),
    "neurons outside": lambda table: with_path(table, [99999] * 12),
    "negative neurons": lambda table: with_path(table, [-1] * 12),
    "too few blocks": lambda table: with_path(table, [0] * 3),
    "targets outside": lambda table: table.set_column(
        table.schema.get_field_index("target"),
        table.schema.field("target"),
        pa.array([10] * len(table), pa.int32()),
    ),
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_tables_of_other_content_are_one_line(kind: str, whole: Path, tmp_path: Path) -> None:
    run_dir = copy(whole, tmp_path)
    table = pq.read_table(run_dir / "paths.parquet")
    changed = COLUMNS[kind](table).replace_schema_metadata(table.schema.metadata)
    pq.write_table(changed, run_dir / "paths.parquet")
    code, _, err = evaluate(run_dir)
    check_refusal(code, err)


@few_by_default(1, 4)
def test_damaged_metrics_are_one_line(examples: int, whole: Path, tmp_path: Path) -> None:
    @settings(max_examples=examples, derandomize=True, database=None, phases=[Phase.generate])
    @given(st.binary(max_size=30))
    def check(held: bytes) -> None:
        run_dir = copy(whole, tmp_path)
        (run_dir / "metrics.json").write_bytes(held)
        code, _, err = evaluate(run_dir)
        assert "metrics.json" in check_refusal(code, err)
        shutil.rmtree(run_dir)

    check()


PLACES = ("", "none", "file.txt", "empty", "metrics.json")


@pytest.mark.covering
@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("place", PLACES)
def test_what_is_no_run_directory_is_one_line(reader: str, place: str, tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("hello")
    (tmp_path / "metrics.json").write_text("{}")
    (tmp_path / "empty").mkdir()
    code, _, err = READERS[reader][0](tmp_path / place)
    check_refusal(code, err)
