"""From the parts of all processes to one table: nothing lost, nothing doubled, in the order that is asked for."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from neuron_path.errors import NeuronPathError
from neuron_path.store.atomic import TEMPORARY_SUFFIX, write_bytes
from neuron_path.store.layout import PARTS_DIRECTORY, PATHS_FILE, SEARCH, list_parts, list_skipped, set_aside
from neuron_path.store.parquet import read_parquet, write_parquet
from neuron_path.store.schema import KEY_COLUMNS, conform
from neuron_path.store.skipped import merge_skipped

Key = tuple[str, ...]
"""(sample_id, scorer) or (sample_id, scorer, search); where rows are of no method, (sample_id,)."""


def read_parts(run_dir: Path, schema: pa.Schema, stage: str = SEARCH) -> pa.Table:
    """Return the rows of all parts of a stage, in no promised order.

    Raises:
        NeuronPathError: naming the first part that is torn, foreign or of other columns.
    """
    parts, foreign = list_parts(run_dir, stage)
    if foreign:
        raise NeuronPathError(
            f"{os.fspath(foreign[0])!r} is no part of this run; expected only part-*.parquet there. Move it away."
        )
    return pa.concat_tables([schema.empty_table(), *(_read_part(part, schema) for part in parts)])


def ordered_parts(run_dir: Path, schema: pa.Schema, expected: Iterable[Key], stage: str) -> pa.Table:
    """Return the rows of all parts of a stage in the order of ``expected``; errors as in :func:`merge_parts`."""
    return _ordered(run_dir, read_parts(run_dir, schema, stage), [tuple(key) for key in expected])


def merge_parts(
    run_dir: str | os.PathLike[str],
    schema: pa.Schema,
    provenance: Mapping[str, Any],
    expected: Iterable[Key],
    *,
    keep_others: bool = False,
) -> Path:
    """Merge all parts of a search into ``paths.parquet``, in the order of ``expected``, and remove the parts.

    Rows of an older ``paths.parquet`` are taken over: a search that has grown adds to them.

    The table depends on ``expected`` and the rows alone, so batch size and number of processes leave no trace in it.
    Call it in one process, after every process has flushed. Until the merged file is whole, the parts stay.

    Args:
        run_dir: where the parts lie.
        schema: the columns of each part.
        provenance: the merged table's metadata.
        expected: the key of every row that must be there, each once: (sample_id, scorer) or (sample_id, scorer,
            search), the same for all.
        keep_others: whether rows that are not expected are left out of the table, and the files that hold them moved
            to ``set_aside``; else they are an error.

    Raises:
        NeuronPathError: when rows are missing, doubled or unexpected (how many, and up to three of them), when a part
            is torn or foreign, or when the table cannot be written. The parts are kept.
    """
    run_dir, keys = Path(run_dir), [tuple(key) for key in expected]
    target = run_dir / PATHS_FILE
    table = read_parts(run_dir, schema)
    if target.exists():
        table = pa.concat_tables([_read_part(target, schema), table])
    ordered = _ordered(run_dir, table, keys, keep_others)
    if keep_others:
        _keep_others(run_dir, schema, keys)
    merge_skipped(run_dir)
    write_parquet(target, ordered, provenance)
    remove_parts(run_dir)
    return target


def _ordered(run_dir: Path, table: pa.Table, keys: Collection[Key], keep_others: bool = False) -> pa.Table:
    found = _row_keys(table, _key_width(keys, table.schema))
    _check_coverage(run_dir, found, keys, keep_others)
    position = {key: row for row, key in enumerate(found)}
    return table.take(pa.array([position[key] for key in keys], type=pa.int64())).combine_chunks()


def _keep_others(run_dir: Path, schema: pa.Schema, keys: Collection[Key]) -> None:
    """Set a copy of every table aside that holds other rows than the expected ones."""
    wanted, width = set(keys), _key_width(keys, schema)
    for file in [run_dir / PATHS_FILE, *list_parts(run_dir).parts]:
        if file.exists() and not wanted.issuperset(_row_keys(_read_part(file, schema), width)):
            copy = file.with_name(f".{file.name}{TEMPORARY_SUFFIX}")
            write_bytes(copy, file.read_bytes())
            set_aside(copy, run_dir, file.name)


def _read_part(part: Path, schema: pa.Schema) -> pa.Table:
    table, _ = read_parquet(part)
    # Also drops each part's own metadata, which tells processes apart and would keep tables from being joined.
    return conform(table, schema, f"Part {os.fspath(part)!r}", "It is foreign to this run: move it away")


def _key_width(keys: Collection[Key], schema: pa.Schema) -> int:
    allowed = {2, 3} if KEY_COLUMNS[1] in schema.names else {1}
    widths = {len(key) for key in keys} or {max(allowed)}
    if len(widths) > 1 or not widths <= allowed:
        raise NeuronPathError(
            f"Expected rows are named by keys of {sorted(widths)} values; give (sample_id, scorer) or "
            "(sample_id, scorer, search), the same for all."
        )
    return widths.pop()


def _row_keys(table: pa.Table, width: int) -> list[Key]:
    return list(zip(*(table[name].to_pylist() for name in KEY_COLUMNS[:width]), strict=True))


def _check_coverage(run_dir: Path, found: Collection[Key], keys: Collection[Key], keep_others: bool) -> None:
    asked = Counter(keys)
    if doubled := [key for key, count in asked.items() if count > 1]:
        raise NeuronPathError(
            f"{len(doubled)} image(s) are named twice by the data ({_name(doubled)}); give each its own sample_id."
        )
    counts = Counter(found)
    problems = {
        "missing": [key for key in asked if key not in counts],
        "duplicated": [key for key, count in counts.items() if count > 1],
        "unexpected": [] if keep_others else [key for key in counts if key not in asked],
    }
    if any(problems.values()):
        listed = "; ".join(f"{len(rows)} {kind} ({_name(rows)})" for kind, rows in problems.items() if rows)
        raise NeuronPathError(
            f"Run directory {os.fspath(run_dir)!r} does not hold each of its {len(asked)} expected rows once: "
            f"{listed}. What is finished is kept in {PARTS_DIRECTORY}/; run the search again, there or into a new "
            "directory."
        )


def _name(keys: list[Key]) -> str:
    named = [" / ".join(key) for key in sorted(keys)[:3]]
    # repr: a file's name may hold a line break, and an error is one line.
    return ", ".join(map(repr, named)) + (", …" if len(keys) > 3 else "")


def remove_parts(run_dir: Path, stage: str = SEARCH) -> None:
    """Remove the parts of a stage whose merged table is whole: one that cannot be removed costs space, not a result."""
    directory = run_dir / PARTS_DIRECTORY
    skipped = list_skipped(run_dir) if stage == SEARCH else []
    with contextlib.suppress(OSError):
        for file in [*list_parts(run_dir, stage).parts, *skipped, *directory.glob(f".*{TEMPORARY_SUFFIX}")]:
            file.unlink(missing_ok=True)
        directory.rmdir()
