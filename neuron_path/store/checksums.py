"""Whether a finished run's files are as they were written, in the format that ``sha256sum --check`` reads."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from neuron_path.errors import NeuronPathError
from neuron_path.store.atomic import write_text
from neuron_path.store.evidence import EVIDENCE_FILE
from neuron_path.store.layout import (
    CHECKSUMS_FILE,
    EFFECTS_FILE,
    METRICS_FILE,
    PATHS_FILE,
    RUN_FILE,
    SCORES_FILE,
    SKIPPED_FILE,
)

_LENGTH = 64


def stored_files(run_dir: Path) -> list[Path]:
    """What a run directory holds of the store and the numbers: the files whose checksums are kept."""
    names = (PATHS_FILE, EVIDENCE_FILE, EFFECTS_FILE, SCORES_FILE, RUN_FILE, METRICS_FILE, SKIPPED_FILE)
    return [run_dir / name for name in names if (run_dir / name).exists()]


def write_checksums(run_dir: Path, files: Iterable[Path]) -> Path:
    """Write the SHA-256 of files of a run, replacing an older list, and return the list's file."""
    lines = [f"{sha256(file)}  {file.relative_to(run_dir).as_posix()}\n" for file in files]
    write_text(run_dir / CHECKSUMS_FILE, "".join(sorted(lines, key=lambda line: line[_LENGTH:])))
    return run_dir / CHECKSUMS_FILE


def changed_files(run_dir: Path) -> tuple[list[str], list[str]]:
    """Return the names of all listed files, and of those that are missing or have another content now.

    Raises:
        NeuronPathError: no list, or one that cannot be read.
    """
    listed = _read(run_dir / CHECKSUMS_FILE)
    changed = [name for name, expected in listed.items() if _is_changed(run_dir / name, expected)]
    return list(listed), changed


def _read(file: Path) -> dict[str, str]:
    try:
        lines = [line.split("  ", 1) for line in file.read_text(encoding="utf-8").splitlines()]
        listed = {name: checksum for checksum, name in lines}
    except FileNotFoundError as error:
        raise NeuronPathError(f"There is no file {os.fspath(file)!r}: the run has not finished.") from error
    except (OSError, ValueError) as error:
        raise NeuronPathError(f"{os.fspath(file)!r} is no list of checksums ({error}).") from error
    if odd := [name for name in listed if Path(name).is_absolute() or ".." in Path(name).parts]:
        raise NeuronPathError(f"{os.fspath(file)!r} names {odd[0]!r}, which lies outside the run directory.")
    return listed


def _is_changed(file: Path, expected: str) -> bool:
    try:
        return sha256(file) != expected
    except OSError:
        return True


def sha256(file: Path) -> str:
    """The SHA-256 of a file's bytes."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
