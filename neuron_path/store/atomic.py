"""Files that are whole or absent: written under a temporary name, flushed to the disk, then renamed.

A reader, or a run that is continued after a crash, never meets half a file under its final name.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from neuron_path.errors import NeuronPathError
from neuron_path.store.jsonable import dump_json

TEMPORARY_SUFFIX = ".tmp"

_ADVICE = {
    errno.ENOSPC: "Free some space or choose another directory",
    errno.EDQUOT: "Free some of your quota or choose another directory",
    errno.EROFS: "Choose a directory on a file system that is not read-only",
    errno.EACCES: "Choose a directory that you may write to",
    errno.EPERM: "Choose a directory that you may write to",
    errno.EEXIST: "Move the file that is in the way, or choose another name",
    errno.ENOTDIR: "Move the file that is in the way, or choose another directory",
    errno.EISDIR: "Move the directory that is in the way, or choose another name",
}


def write_error(path: str | os.PathLike[str], error: OSError | ValueError) -> NeuronPathError:
    """Make the one-line error for a path that cannot be written, with advice that fits its cause.

    >>> write_error("run/x.json", OSError(errno.ENOSPC, "No space left on device"))
    NeuronPathError("Cannot write 'run/x.json': No space left on device. Free some space or choose another directory.")
    """
    if isinstance(error, OSError):
        found = error.strerror or str(error)
        advice = _ADVICE.get(error.errno or 0, "Choose another directory")
    else:
        found, advice = str(error), "Choose another name"
    # repr: a name may hold a line break or a byte that no terminal prints, and an error is one line.
    return NeuronPathError(f"Cannot write {os.fspath(path)!r}: {found}. {advice}.")


def fsync_directory(directory: Path) -> None:
    """Make the names in ``directory`` survive a power cut, where the file system can promise that."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network and FUSE file systems have no such call for directories; the rename itself is still atomic there.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Give a binary file that becomes ``path`` when the block ends well, and vanishes when it does not.

    The temporary file lies beside ``path`` (a rename is atomic within one file system only) and takes the process's
    usual permissions. Missing parent directories are made. An older file at ``path`` stays until the new one is whole.

    Raises:
        NeuronPathError: when it cannot be written (permission, full disk, a file in the way, an impossible name).

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic_write(Path(folder) / "a.txt") as file:
    ...         _ = file.write(b"whole")
    ...     print(os.listdir(folder))
    ['a.txt']
    """
    path = Path(path)
    try:
        temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}")
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except (OSError, ValueError) as error:
        raise write_error(path, error) from error
    try:
        with open(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        fsync_directory(path.parent)
    except OSError as error:
        # A block may also fail on a file of its own, which its message names; writing here leaves no name, or ours.
        if error.filename not in (None, os.fspath(temporary), os.fspath(path.parent)):
            raise
        raise write_error(path, error) from error
    finally:
        with contextlib.suppress(OSError):  # after the rename it is gone; after a failure the first error counts
            os.unlink(temporary)


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write ``data`` to ``path``, whole or not at all."""
    with atomic_write(path) as file:
        file.write(data)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` to ``path`` as UTF-8, whole or not at all; characters without a UTF-8 form become escapes."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write ``value`` to ``path`` as indented strict JSON, whole or not at all; NaN becomes ``null``.

    Raises:
        NeuronPathError: when ``value`` has no JSON form or ``path`` cannot be written.
    """
    write_bytes(path, dump_json(value, indent=2) + b"\n")
