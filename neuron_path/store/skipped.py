"""The images that could not be read: a file for each batch among the parts, and after the merge ``skipped.json``."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from neuron_path.errors import NeuronPathError
from neuron_path.store.atomic import write_json
from neuron_path.store.layout import SKIPPED_FILE, list_skipped, skipped_path
from neuron_path.store.reader import read_json

Problem = tuple[str, str]
"""An image's sample_id, and why it cannot be read."""


def write_skipped(run_dir: Path, rank: int, sequence: int, problems: Iterable[Problem]) -> None:
    """Write the images that a process has skipped in a batch; errors as in ``write_json``."""
    write_json(skipped_path(run_dir, rank, sequence), dict(problems))


def read_skipped(run_dir: Path) -> list[Problem]:
    """Return the images that all processes have skipped, by name.

    Raises:
        NeuronPathError: a file that is torn or foreign.
    """
    problems: dict[str, str] = {}
    for file in [run_dir / SKIPPED_FILE, *list_skipped(run_dir)]:
        held = read_json(file)
        if not all(isinstance(reason, str) for reason in held.values()):
            raise NeuronPathError(f"{os.fspath(file)!r} does not name skipped images: remove it.")
        problems |= held
    return sorted(problems.items())


def merge_skipped(run_dir: Path) -> None:
    """Put the names of all processes into one file, where there are any; errors as in :func:`read_skipped`."""
    if problems := read_skipped(run_dir):
        write_json(run_dir / SKIPPED_FILE, dict(problems))


def forget_skipped(run_dir: Path) -> None:
    """Remove the names, as before the images are tried again."""
    for file in [run_dir / SKIPPED_FILE, *list_skipped(run_dir)]:
        file.unlink(missing_ok=True)
