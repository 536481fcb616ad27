"""Read a store back as data frames, whatever state it is in: a table, or one line that says what is wrong."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from neuron_path.errors import NeuronPathError
from neuron_path.store.layout import EFFECTS_FILE, PATHS_FILE, SCORES_FILE, list_parts
from neuron_path.store.parquet import read_metadata, read_parquet
from neuron_path.store.schema import conform, effect_schema, is_valued, path_schema, score_schema


def load_paths(run_dir_or_file: str | os.PathLike[str]) -> pd.DataFrame:
    """Return the neuron paths of a run, one row per image and method.

    Args:
        run_dir_or_file: a run directory, or its ``paths.parquet`` (any ``.parquet`` file of the same columns).

    Returns:
        The columns of :func:`neuron_path.store.schema.path_schema`, in the order of the data. Each ``path`` is an int32
        array (L,), or (L, k) for top-k paths; each ``margins`` a float64 array (L,). ``label`` is a nullable Int32.
        ``attrs["provenance"]`` says what made the table.

    Raises:
        NeuronPathError: when there is no such run, it is unfinished, or the file is torn or foreign.
    """
    path = _locate(run_dir_or_file, PATHS_FILE)
    table, provenance = read_parquet(path)
    nested = "path" in table.schema.names and _is_nested(table.schema.field("path").type)
    frame = _to_frame(path, table, path_schema(2 if nested else 1))
    # Through pandas' defaults a column with a missing integer turns into floats; a label stays a whole number.
    frame["label"] = pd.array(table["label"].to_pylist(), dtype="Int32")
    if nested:
        if any(not len(cell) for cell in frame["path"]):
            raise NeuronPathError(
                f"File {os.fspath(path)!r} holds an empty path: give a table that this library wrote."
            )
        paths = [np.stack(cell) for cell in frame["path"]]
        frame["path"] = pd.Series(paths, index=frame.index, dtype=object)
    frame.attrs["provenance"] = provenance
    return frame


def load_effects(run_dir_or_file: str | os.PathLike[str]) -> pd.DataFrame:
    """Return the effects of a run's interventions, one row per image, method, operation and size.

    Args:
        run_dir_or_file: a run directory, or its ``effects.parquet``.

    Returns:
        The columns of :func:`neuron_path.store.schema.effect_schema`, with the target function's own values where the
        run attributed no probability; ``attrs["provenance"]`` says what made them.

    Raises:
        NeuronPathError: when there are none, or the file is torn or foreign.
    """
    return _load(run_dir_or_file, EFFECTS_FILE, lambda names: effect_schema(valued=is_valued(names)))


def load_scores(run_dir_or_file: str | os.PathLike[str]) -> pd.DataFrame:
    """Return both measures of a run's paths, one row per image and method.

    Args:
        run_dir_or_file: a run directory, or its ``scores.parquet``.

    Returns:
        The columns of :func:`neuron_path.store.schema.score_schema`; ``attrs["provenance"]`` says what made them.

    Raises:
        NeuronPathError: when there are none, or the file is torn or foreign.
    """
    return _load(run_dir_or_file, SCORES_FILE, lambda _: score_schema())


def _load(
    run_dir_or_file: str | os.PathLike[str], name: str, schema: Callable[[Sequence[str]], pa.Schema]
) -> pd.DataFrame:
    """A table whose schema follows from the names of its columns."""
    path = _locate(run_dir_or_file, name)
    table, provenance = read_parquet(path)
    frame = _to_frame(path, table, schema(table.schema.names))
    frame.attrs["provenance"] = provenance
    return frame


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what a JSON file of a run directory holds; nothing where there is none.

    Raises:
        NeuronPathError: a file that is torn, or no JSON mapping.
    """
    try:
        held = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise NeuronPathError(f"Cannot read {os.fspath(path)!r} ({error}): restore it, or remove it.") from error
    if not isinstance(held, dict):
        raise NeuronPathError(f"{os.fspath(path)!r} holds no JSON mapping: restore it, or remove it.")
    return held


def read_provenance(run_dir_or_file: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what made a run's paths, without reading them.

    Raises:
        NeuronPathError: as :func:`load_paths`.
    """
    return read_metadata(_locate(run_dir_or_file, PATHS_FILE))


def _locate(run_dir_or_file: str | os.PathLike[str], name: str) -> Path:
    path = Path(run_dir_or_file)
    shown = repr(os.fspath(path))
    try:
        if path.suffix == ".parquet" and not path.is_dir():
            return path
        if not path.exists():
            raise NeuronPathError(f"There is no run directory {shown}; give the directory of a finished run.")
        if not path.is_dir():
            raise NeuronPathError(f"{shown} is neither a run directory nor a .parquet file; give one of the two.")
        if (path / name).exists():
            return path / name
        parts = list_parts(path).parts
    except (OSError, ValueError) as error:  # no permission to look, or a name that no file can have
        raise NeuronPathError(f"Cannot read {shown}: {error}. Give a directory that you may read.") from error
    if parts and name == PATHS_FILE:
        raise NeuronPathError(
            f"Run directory {shown} is unfinished: {len(parts)} part(s), but no {name}. Let its search finish first."
        )
    raise NeuronPathError(f"Run directory {shown} holds no {name}; give the directory of a finished run.")


def _to_frame(path: Path, table: pa.Table, schema: pa.Schema) -> pd.DataFrame:
    return conform(table, schema, f"File {os.fspath(path)!r}", "Give a table that this library wrote").to_pandas()


def _is_nested(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) and pa.types.is_list(kind.value_type)
