"""Tables that take long to gather, remembered for this user until what they were gathered from changes.

What a table was gathered from is told by stamps: of a folder or file its device, number, size and times. Nothing that
was changed a moment ago is remembered: the file system's clock may tick too slowly to tell a change after that from it.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import platformdirs
import pyarrow as pa
import pyarrow.parquet as pq

SETTLED = 3.0
"""Seconds since the last change after which a stamp is trusted: the coarsest clock of a file system ticks every two."""

Stamp = list[int]
_FORMAT = "1"
_METADATA = b"stamps"


def stamp(path: str | os.PathLike[str]) -> Stamp:
    """What changes when a folder gets or loses an entry, or a file is written: [device, number, size, times in ns].

    Raises:
        OSError: nothing is there.
    """
    found = os.stat(path)
    return [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def recall(kind: str, root: Path) -> pa.Table | None:
    """The table remembered for a folder; None where there is none, or what it was gathered from has changed."""
    try:
        with pq.ParquetFile(_file(kind, root), page_checksum_verification=True) as stored:
            stamps = json.loads((stored.schema_arrow.metadata or {})[_METADATA])
            if all(stamp(Path(root, name)) == known for name, known in stamps.items()):
                return stored.read().replace_schema_metadata(None)
    except (OSError, ValueError, KeyError, AttributeError, pa.ArrowException):
        pass  # missing, damaged, or of a folder that is gone: gathered again
    return None


def remember(kind: str, root: Path, table: pa.Table, stamps: Mapping[str, Stamp], begin: float) -> None:
    """Keep a table for the next time; without a word where that cannot be done.

    Args:
        kind: what the table holds, with the options that it depends on.
        root: the folder it is of.
        table: any table.
        stamps: relative name → stamp, taken before what lies there was read.
        begin: `time.time()` before that.
    """
    if any(max(taken[3:]) > (begin - SETTLED) * 1e9 for taken in stamps.values()):
        return
    file = _file(kind, root)
    partial = file.with_suffix(f".{os.getpid()}.{time.time_ns()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        stamped = table.replace_schema_metadata({_METADATA: json.dumps(stamps)})
        pq.write_table(stamped, partial, compression="zstd", write_page_checksum=True)
        partial.replace(file)
    except (OSError, ValueError, pa.ArrowException):  # no space, no permission, or names that are no text
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _file(kind: str, root: Path) -> Path:
    key = f"{_FORMAT}\0{kind}\0{os.path.realpath(root)}".encode(errors="surrogateescape")
    name = hashlib.blake2b(key, digest_size=16).hexdigest()
    return platformdirs.user_cache_path("neuron-path") / "listings" / f"{name}.parquet"
