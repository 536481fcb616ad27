"""Find the run directories below a folder, also those that hold no results."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from neuron_path.errors import NeuronPathError
from neuron_path.store.layout import (
    EFFECTS_FILE,
    ERROR_FILE,
    PARTS_DIRECTORY,
    PATHS_FILE,
    RUN_FILE,
    SET_ASIDE_DIRECTORY,
)


@dataclass(frozen=True, slots=True)
class Missing:
    """What a comparison cannot hold.

    Attributes:
        run_dir: the run directory.
        reason: what it lacks, and what to do.
    """

    run_dir: str
    reason: str


def find_runs(directories: Sequence[str | os.PathLike[str]]) -> tuple[list[Path], list[Missing]]:
    """Return the evaluated run directories among and below ``directories``, and those that hold no effects.

    A run directory holds ``effects.parquet``, ``paths.parquet``, ``run.json``, ``parts`` or ``error.txt``. An empty
    folder counts as one that lacks everything, as a job of a sweep leaves it that was killed early. Links inside the
    directories are not followed, and names that begin with a dot are passed over.

    Args:
        directories: run directories, or folders above them, such as a sweep's; a directory given twice counts once.

    Returns:
        The evaluated ones and the others, each sorted by name.

    Raises:
        NeuronPathError: for a directory that does not exist, cannot be read or holds no run.
    """
    if not directories:
        raise NeuronPathError("There are no run directories to compare; give one or more, or a folder above them.")
    found: dict[Path, tuple[Path, str]] = {}
    for directory in directories:
        try:
            runs = list(_walk(Path(directory)))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise NeuronPathError(
                f"Cannot look for runs in {os.fspath(directory)!r}: {reason}. Give a directory that you may read."
            ) from error
        if not runs:
            raise NeuronPathError(
                f"There is no run in {os.fspath(directory)!r}: no {EFFECTS_FILE} there or below. "
                "Give the directory of a run, or of a sweep."
            )
        for path, lack in runs:
            # The shortest name of a directory that was reached in two ways, whatever the order they were given in.
            found[path.resolve()] = min(found.get(path.resolve(), (path, lack)), (path, lack), key=_shortest)
    runs = sorted(found.values())
    return [path for path, lack in runs if not lack], [Missing(str(path), lack) for path, lack in runs if lack]


def _shortest(run: tuple[Path, str]) -> tuple[int, str]:
    return len(str(run[0])), str(run[0])


def _walk(directory: Path, inside: bool = False) -> Iterator[tuple[Path, str]]:
    """Run directories with what they lack; ``inside`` one, an empty folder is no failed job."""
    entries = sorted(entry for entry in directory.iterdir() if not entry.name.startswith("."))
    lack = _lack(directory, {entry.name for entry in entries})
    if lack is not None and not (inside and not entries):
        yield directory, lack
    for entry in entries:
        if entry.is_dir() and not entry.is_symlink() and entry.name not in (PARTS_DIRECTORY, SET_ASIDE_DIRECTORY):
            yield from _walk(entry, inside or lack is not None)


def _lack(directory: Path, names: set[str]) -> str | None:
    """What a run directory lacks to be compared; None where there is none."""
    if EFFECTS_FILE in names:
        return ""
    if ERROR_FILE in names:
        return f"failed: {(directory / ERROR_FILE).read_text(encoding='utf-8', errors='replace').strip()}"
    if PATHS_FILE in names:
        return f"no {EFFECTS_FILE}: measure its paths with neuron-path evaluate run_dir={directory}"
    if PARTS_DIRECTORY in names:
        return f"unfinished: {PARTS_DIRECTORY}, but no {PATHS_FILE}; let its search finish"
    if RUN_FILE in names:
        return f"failed or still running: {RUN_FILE}, but no {PATHS_FILE}"
    return None if names else "empty: its run failed before it stored anything, or has not begun"
