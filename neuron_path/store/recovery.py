"""Take up a run directory again: what is done there, and what does not belong there."""

from __future__ import annotations

import contextlib
import json
import os
import warnings
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from neuron_path.errors import NeuronPathError
from neuron_path.store.evidence import EVIDENCE_FILE
from neuron_path.store.identity import check_same, differences
from neuron_path.store.layout import (
    EFFECTS_FILE,
    PARTS_DIRECTORY,
    PATHS_FILE,
    RUN_FILE,
    SCORES_FILE,
    SET_ASIDE_DIRECTORY,
    leftovers,
    list_parts,
    set_aside,
)
from neuron_path.store.parquet import read_metadata, read_parquet
from neuron_path.store.reader import read_json
from neuron_path.store.schema import KEY_COLUMNS, conform
from neuron_path.store.skipped import forget_skipped

Method = tuple[str, ...]
"""(scorer, search); of rows that belong to no method ()."""

_MADE_OF_PATHS = (EFFECTS_FILE, SCORES_FILE, EVIDENCE_FILE, "report.html", "figures")


@dataclass(frozen=True)
class Opened:
    """A run directory, ready to be written to.

    Attributes:
        provenance: what goes into ``run.json`` and into every table: the given one in a new directory, else that of the
            search that began there, with a line in ``resumed`` for each time it was taken up again.
        done: names of the images that have a row of every method.
    """

    provenance: dict[str, Any]
    done: frozenset[str] = frozenset()


def open_search(
    run_dir: Path, schema: pa.Schema, provenance: Mapping[str, Any], methods: Collection[Method], *, force: bool = False
) -> Opened:
    """Begin a search in a new directory, or continue the same one where it was left.

    Files that are torn, foreign or of another search are moved into ``set_aside`` and named in a warning. Call it in
    one process, before any process starts to write.

    Args:
        run_dir: the directory, from :func:`neuron_path.store.layout.make_run_dir`.
        schema: the columns of each part.
        provenance: what would make the numbers now, with an ``identity``.
        methods: what is searched for every image.
        force: whether to continue a search of another identity; the difference is kept in ``provenance["forced"]``.

    Raises:
        NeuronPathError: results of another search, or of none that is known, and a directory that cannot be written.
    """
    moved: dict[str, str] = {}
    stored, is_torn = _read_stored(run_dir)
    continued = dict(provenance) if stored is None else _continue(run_dir, stored, provenance, force)
    if is_torn:
        moved[set_aside(run_dir / RUN_FILE, run_dir).name] = "torn"
    if stored is not None and differences(stored["identity"], continued["identity"]):
        for file in filter(Path.exists, (run_dir / name for name in _MADE_OF_PATHS)):
            moved[set_aside(file, run_dir).name] = "of the search before"
    for file in leftovers(run_dir):
        file.unlink(missing_ok=True)
    forget_skipped(run_dir)
    for file in list_parts(run_dir).foreign:
        moved[set_aside(file, run_dir).name] = "foreign: not a part's name"
    accepted = [continued["identity"], *(before["identity"] for before in continued.get("forced", ()))]
    done = _read_done(run_dir, _tables(run_dir), schema, accepted, frozenset(methods), moved)
    _warn(run_dir, moved, "search")
    return Opened(continued, done)


def open_stage(
    run_dir: Path, stage: str, schema: pa.Schema, identity: Mapping[str, Any], methods: Collection[Method]
) -> frozenset[str]:
    """Continue a stage behind the search where it was left; parts that cannot be used are moved into ``set_aside``.

    Args:
        run_dir: of a finished search, locked.
        stage: as :mod:`neuron_path.store.layout` names it.
        schema: the columns of each part.
        identity: all that its rows depend on, as in the provenance of its parts.
        methods: what is done for every image.

    Returns:
        The images that have a row of every method.
    """
    moved: dict[str, str] = {}
    for file in leftovers(run_dir):
        file.unlink(missing_ok=True)
    parts = list_parts(run_dir, stage)
    for file in parts.foreign:
        moved[set_aside(file, run_dir).name] = "foreign: not a part's name"
    done = _read_done(run_dir, parts.parts, schema, [identity], frozenset(methods), moved, stage)
    _warn(run_dir, moved, stage)
    return done


def _warn(run_dir: Path, moved: Mapping[str, str], what: str) -> None:
    """Warn of the files that were set aside, by name and with the reason."""
    if moved:
        listed = "; ".join(f"{name} ({reason})" for name, reason in moved.items())
        warnings.warn(
            f"Set aside {len(moved)} file(s) that are no part of this {what}, into "
            f"{os.fspath(run_dir / SET_ASIDE_DIRECTORY)!r}: {listed}.",
            stacklevel=3,
        )


def holds_run(run_dir: Path) -> bool:
    """Whether a search has stored something in a directory."""
    return bool(_tables(run_dir))


def _read_stored(run_dir: Path) -> tuple[dict[str, Any] | None, bool]:
    """What ``run.json`` says, or where it is missing or torn the tables, None in a directory without tables; and
    whether ``run.json`` is torn."""
    try:
        stored, is_torn = read_json(run_dir / RUN_FILE), False
    except NeuronPathError:
        stored, is_torn = {}, True
    tables = _tables(run_dir)
    if not tables:
        return None, is_torn  # nothing was found yet, so nothing can be mixed up
    for table in tables if not stored else ():
        with contextlib.suppress(NeuronPathError):  # a torn one is found again and reported when its rows are read
            stored = read_metadata(table)
            break
    if not stored:
        return None, is_torn
    if not isinstance(stored.get("identity"), dict):
        raise NeuronPathError(
            f"Run directory {os.fspath(run_dir)!r} already holds results ({_described(run_dir)}) that do not say which "
            "search made them, as of an older version: choose another directory with hydra.run.dir=DIR."
        )
    return stored, is_torn


def _continue(run_dir: Path, stored: Mapping[str, Any], provenance: Mapping[str, Any], force: bool) -> dict[str, Any]:
    """The provenance of a search that is taken up again, now."""
    before, now = stored["identity"], json.loads(json.dumps(provenance["identity"]))
    if not force:
        check_same(run_dir, _described(run_dir), before, now)
    session = {name: provenance.get(name) for name in ("versions", "git", "environment")}
    resumed = {"resumed": [*stored.get("resumed", ()), session]}
    if changed := differences(before, now):
        forced = {"identity": before, "differences": changed}
        return {**provenance, **resumed, "forced": [*stored.get("forced", ()), forced]}
    return {**stored, **resumed}


def _read_done(
    run_dir: Path,
    tables: Sequence[Path],
    schema: pa.Schema,
    accepted: Sequence[Mapping[str, Any]],
    methods: frozenset[Method],
    moved: dict[str, str],
    stage: str = "search",
) -> frozenset[str]:
    """The images that are done; files whose rows cannot be used are set aside until the others fit together."""
    held: dict[Path, list[tuple[str, Method]]] = {}
    seen: set[tuple[str, Method]] = set()
    merged: frozenset[tuple[str, Method]] = frozenset()
    with ThreadPoolExecutor(4) as threads:  # more would wait for each other in Python
        found = threads.map(lambda file: _read_rows(file, schema, accepted, stage), tables)
        read = [*zip(tables, found, strict=True)]
    for file, (rows, reason) in read:  # the merged table first
        if rows and merged.issuperset(rows):
            file.unlink()  # left over from a merge that was cut short after its table was whole
        elif reason or len(set(rows)) < len(rows) or not seen.isdisjoint(rows):
            moved[set_aside(file, run_dir).name] = reason or "repeats rows"
        else:
            held[file] = rows
            seen.update(rows)
            if file.name == PATHS_FILE:
                merged = frozenset(rows)
    while True:
        found = Counter(name for rows in held.values() for name, method in rows if method in methods)
        partial = {name for name, count in found.items() if count < len(methods)}
        unusable = [file for file, rows in held.items() if any(name in partial for name, _ in rows)]
        if not unusable:
            return frozenset(found)
        for file in unusable:
            moved[set_aside(file, run_dir).name] = "lacks rows of some methods"
            del held[file]


def _read_rows(
    file: Path, schema: pa.Schema, accepted: Sequence[Mapping[str, Any]], stage: str
) -> tuple[list[tuple[str, Method]], str]:
    """The keys of a table's rows, and why they cannot be used, if so. Every byte is read, and its checksum compared."""
    try:
        table, made = read_parquet(file)
    except NeuronPathError:
        return [], "torn, or no table of this library"
    if made.get("identity") not in accepted:
        return [], f"foreign: of another {stage}"
    try:
        conform(table, schema, "The table", "")
    except NeuronPathError:
        return [], "foreign: other columns"
    names, *method = (table[name].to_pylist() for name in KEY_COLUMNS if name in schema.names)
    return list(zip(names, zip(*method, strict=True) if method else [()] * len(names), strict=True)), ""


def _tables(run_dir: Path) -> list[Path]:
    finished = run_dir / PATHS_FILE
    return [*([finished] if finished.exists() else []), *list_parts(run_dir).parts]


def _described(run_dir: Path) -> str:
    if (run_dir / PATHS_FILE).exists():
        return f"a finished {PATHS_FILE}"
    return f"{len(list_parts(run_dir).parts)} file(s) in {PARTS_DIRECTORY}/"
