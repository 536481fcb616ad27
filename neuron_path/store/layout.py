"""Where a run directory keeps what: the one owner of the store's file names."""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path
from typing import NamedTuple

from neuron_path.errors import NeuronPathError
from neuron_path.store.atomic import TEMPORARY_SUFFIX, write_bytes, write_error

PATHS_FILE = "paths.parquet"
EFFECTS_FILE = "effects.parquet"
SCORES_FILE = "scores.parquet"
RUN_FILE = "run.json"
METRICS_FILE = "metrics.json"
SKIPPED_FILE = "skipped.json"
CHECKSUMS_FILE = "SHA256SUMS"
ERROR_FILE = "error.txt"
PARTS_DIRECTORY = "parts"
SET_ASIDE_DIRECTORY = "set_aside"

SEARCH, EVALUATION, EVIDENCE = "part", "evaluation", "evidence"
"""The stages of a run, as the names of their parts begin."""

_PART_NAME = re.compile(rf"({SEARCH}|{EVALUATION}|{EVIDENCE})-(\d{{5,}})-(\d{{6,}})\.parquet")
_SKIPPED_NAME = re.compile(r"(skipped)-(\d{5,})-(\d{6,})\.json")


class PartFiles(NamedTuple):
    """What lies in a run's ``parts``: those of a stage, and what belongs to no stage, each list sorted by name."""

    parts: list[Path]
    foreign: list[Path]


def part_path(run_dir: Path, rank: int, sequence: int, stage: str = SEARCH) -> Path:
    """Return the file of one part; no two stages or processes (ranks) ever share a name.

    >>> part_path(Path("run"), 1, 12).as_posix()
    'run/parts/part-00001-000012.parquet'
    """
    return run_dir / PARTS_DIRECTORY / f"{stage}-{rank:05d}-{sequence:06d}.parquet"


def skipped_path(run_dir: Path, rank: int, sequence: int) -> Path:
    """Return the file that names images which could not be read; it lies among the parts.

    >>> skipped_path(Path("run"), 1, 12).as_posix()
    'run/parts/skipped-00001-000012.json'
    """
    return run_dir / PARTS_DIRECTORY / f"skipped-{rank:05d}-{sequence:06d}.json"


def list_parts(run_dir: Path, stage: str = SEARCH) -> PartFiles:
    """List the parts of a stage, and whatever is no part among them; leftovers of interrupted writes are neither."""
    files = [file for file in _list(run_dir) if not _SKIPPED_NAME.fullmatch(file.name)]
    named = [(file, _PART_NAME.fullmatch(file.name)) for file in files]
    return PartFiles(
        parts=[file for file, name in named if name and name[1] == stage],
        foreign=[file for file, name in named if not name],
    )


def list_skipped(run_dir: Path) -> list[Path]:
    """List the files that name images which could not be read."""
    return [file for file in _list(run_dir) if _SKIPPED_NAME.fullmatch(file.name)]


def next_sequence(run_dir: Path, rank: int) -> int:
    """Return the number of the first part that ``rank`` may write without touching an older one."""
    names = [_PART_NAME.fullmatch(file.name) or _SKIPPED_NAME.fullmatch(file.name) for file in _list(run_dir)]
    return 1 + max((int(name[3]) for name in names if name and int(name[2]) == rank), default=-1)


def leftovers(run_dir: Path) -> list[Path]:
    """List the temporary files of writes that a crash has cut short."""
    return [*run_dir.glob(f".*{TEMPORARY_SUFFIX}"), *(run_dir / PARTS_DIRECTORY).glob(f".*{TEMPORARY_SUFFIX}")]


def set_aside(file: Path, run_dir: Path, name: str | None = None) -> Path:
    """Move a file out of the run's way, into its ``set_aside``, and return its new place; nothing there is replaced.

    Args:
        file: the file.
        run_dir: the run.
        name: what it is called there, followed by a number where that is taken; None for its own name.

    Raises:
        NeuronPathError: when it cannot be moved.
    """
    folder = run_dir / SET_ASIDE_DIRECTORY
    try:
        folder.mkdir(exist_ok=True)
        names = (f"{name or file.name}{f'.{number}' if number else ''}" for number in itertools.count())
        target = next(folder / name for name in names if not (folder / name).exists())
        return file.rename(target)
    except OSError as error:
        raise write_error(folder, error) from error


def _list(run_dir: Path) -> list[Path]:
    try:
        files = sorted((run_dir / PARTS_DIRECTORY).iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise NeuronPathError(
            f"Cannot list the parts of run directory {os.fspath(run_dir)!r}: {error.strerror}."
        ) from error
    return [file for file in files if file.suffix != TEMPORARY_SUFFIX]


def make_run_dir(run_dir: str | os.PathLike[str]) -> Path:
    """Make ``run_dir`` where it is missing, check that it can be written, and return it.

    Raises:
        NeuronPathError: when it cannot be made or written.
    """
    path = Path(run_dir)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise write_error(path, error) from error
    # Permission bits do not tell what a mount or a quota allows; only writing does, and early is better than late.
    probe = path / ".probe"
    write_bytes(probe, b"probe")
    probe.unlink(missing_ok=True)
    return path


def open_run_dir(run_dir: str | os.PathLike[str]) -> Path:
    """Make ``run_dir``, check that it can be written and that it holds no results yet, and return it.

    Call it once, before any process starts to write. Other files (logs, a copy of the configuration) may lie there.

    Raises:
        NeuronPathError: when the directory holds ``paths.parquet`` or parts, or cannot be made or written.
    """
    path = make_run_dir(run_dir)
    finished = (path / PATHS_FILE).exists()
    parts, foreign = list_parts(path)
    if finished or parts or foreign:
        found = f"a finished {PATHS_FILE}" if finished else f"{len(parts) + len(foreign)} file(s) in {PARTS_DIRECTORY}/"
        raise NeuronPathError(
            f"Run directory {os.fspath(path)!r} already holds results ({found}); expected a new or empty directory. "
            "Choose another one with hydra.run.dir=DIR, or move the results away."
        )
    return path
