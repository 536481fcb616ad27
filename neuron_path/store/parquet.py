"""One Parquet file with its provenance: written whole, and checked when it is read."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from neuron_path.errors import NeuronPathError
from neuron_path.store.atomic import atomic_write
from neuron_path.store.jsonable import dump_json

METADATA_KEY = b"neuron_path"
"""The key of the provenance in the file's schema metadata."""

_SMALL = 10_000  # rows


def write_parquet(path: str | os.PathLike[str], table: pa.Table, provenance: Mapping[str, Any]) -> None:
    """Write ``table`` to ``path``, whole or not at all, compressed with zstd, with ``provenance`` as its metadata.

    Every page carries a checksum, so that :func:`read_parquet` notices bits that changed on the disk.
    """
    # Sorted keys: the same provenance gives the same bytes, whatever the order it was gathered in.
    stamped = table.replace_schema_metadata({METADATA_KEY: dump_json(provenance, sort_keys=True)})
    with atomic_write(path) as file:
        pq.write_table(stamped, file, compression="zstd", write_page_checksum=True)


def read_parquet(path: str | os.PathLike[str]) -> tuple[pa.Table, dict[str, Any]]:
    """Return the table in ``path`` and its provenance.

    Raises:
        NeuronPathError: when the file is missing, torn, no Parquet, or not from this library.
    """
    with _open_parquet(Path(path)) as parquet:
        # Threads cost a small file more than they gain, and a search leaves thousands of these.
        table = parquet.read(use_threads=parquet.metadata.num_rows > _SMALL)
        return table, _parse_provenance(path, parquet.schema_arrow.metadata)


def read_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the provenance of ``path`` without reading its rows; errors as in :func:`read_parquet`."""
    with _open_parquet(Path(path)) as parquet:
        return _parse_provenance(path, parquet.schema_arrow.metadata)


@contextlib.contextmanager
def _open_parquet(path: Path) -> Iterator[pq.ParquetFile]:
    try:
        # ParquetFile, not read_table: the latter turns a folder called a=b, as sweeps make them, into a column.
        with path.open("rb") as file, pq.ParquetFile(file, page_checksum_verification=True) as parquet:
            yield parquet
    except FileNotFoundError as error:
        raise NeuronPathError(
            f"There is no file or folder {os.fspath(path)!r}; give an existing run directory or Parquet file."
        ) from error
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise NeuronPathError(
            f"Cannot read {os.fspath(path)!r}: it is torn or no Parquet file ({reason}). "
            "Restore it, or remove it and run again."
        ) from error


def _parse_provenance(path: str | os.PathLike[str], metadata: Mapping[bytes, bytes] | None) -> dict[str, Any]:
    provenance = json.loads((metadata or {}).get(METADATA_KEY, b"null"))
    if not isinstance(provenance, dict):
        raise NeuronPathError(
            f"{os.fspath(path)!r} is a foreign file: it carries no neuron_path provenance. "
            "Give a table that this library wrote."
        )
    return provenance
