"""The files below a folder: listed without touching the files, and not listed again while the folder is the same."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from neuron_path.data.cache import Stamp, recall, remember, stamp
from neuron_path.errors import NeuronPathError

WORTHWHILE = 10_000
"""So many files, at least, make a listing worth remembering."""
_THREADS = 8  # a network's file system answers several questions in the time of one


@dataclass(frozen=True)
class _Folder:
    """What lies directly in one folder; names are relative to the root."""

    name: str
    stamp: Stamp
    files: list[str]
    folders: list[str]
    lasts: bool  # whether its stamp tells all changes


def list_files(root: Path, *, cached: bool = True) -> list[str]:
    """All visible files below a folder, as relative names with `/`, in the order of these names.

    Links are followed, but not those that lead back to a folder above them. A large listing is remembered; it is used
    again when no folder below the root has got, lost or renamed an entry since, which costs one look at each folder.

    Args:
        root: the folder.
        cached: False lists it anew, where a file system does not keep its folders' times.

    Raises:
        NeuronPathError: no such folder, one that may not be listed, or a name that is not UTF-8.
    """
    if not root.is_dir():
        raise NeuronPathError(f"No image folder '{root}': expected a folder of pictures or of class folders.")
    table = recall("files", root) if cached else None
    if table is not None and table.schema.names == ["file"]:
        return table["file"].to_pylist()
    begin = time.time()
    folders = _walk(root)
    files = sorted(file for folder in folders for file in folder.files)
    check_text(files, root)
    if cached and len(files) >= WORTHWHILE and all(folder.lasts for folder in folders):
        stamps = {folder.name: folder.stamp for folder in folders}
        remember("files", root, pa.table({"file": pa.array(files, pa.large_string())}), stamps, begin)
    return files


def check_text(names: Iterable[str], where: Path) -> None:
    """Raise a NeuronPathError for a name that cannot be stored: a byte that is no UTF-8 reaches Python as half a
    character."""
    try:
        "".join(names).encode()
    except UnicodeEncodeError:
        odd = next(name for name in names if any(0xD800 <= ord(letter) <= 0xDFFF for letter in name))
        raise NeuronPathError(f"File name {odd!r} in '{where}' is not UTF-8: rename it.") from None


def _walk(root: Path) -> list[_Folder]:
    """All folders, level by level: those of a level are read at the same time."""
    found: list[_Folder] = []
    level = [""]
    with ThreadPoolExecutor(_THREADS) as threads:
        while level:
            read = list(threads.map(lambda name: _read(root, name), level))
            found += read
            level = [name for folder in read for name in folder.folders]
    return found


def _read(root: Path, name: str) -> _Folder:
    path = os.path.join(root, name)
    prefix = f"{name}/" if name else ""
    files: list[str] = []
    folders: list[str] = []
    lasts = True
    try:
        taken = stamp(path)  # before the entries are read, so that a change while they are is told by a later stamp
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if not entry.is_dir():
                    files.append(prefix + entry.name)
                    # A link to nothing may become a folder without a trace in this one.
                    lasts = lasts and not (entry.is_symlink() and not os.path.exists(entry.path))
                elif not (entry.is_symlink() and _leads_back(Path(entry.path))):
                    folders.append(prefix + entry.name)
    except OSError as error:
        raise NeuronPathError(f"Folder '{path}' cannot be listed: {error.strerror}.") from error
    return _Folder(name, taken, files, folders, lasts)


def _leads_back(folder: Path) -> bool:
    """Whether a link leads to a folder that it was reached through, round and round."""
    return folder.resolve() in [parent.resolve() for parent in folder.absolute().parents]
