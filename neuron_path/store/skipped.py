"""The images that no process could read, kept among the parts until the merge."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from neuron_path.errors import NeuronPathError
from neuron_path.store.atomic import write_json
from neuron_path.store.layout import list_skipped, skipped_path
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
    for file in list_skipped(run_dir):
        held = read_json(file)
        if not all(isinstance(reason, str) for reason in held.values()):
            raise NeuronPathError(f"{os.fspath(file)!r} does not name skipped images: remove it.")
        problems |= held
    return sorted(problems.items())


def forget_skipped(run_dir: Path) -> None:
    """Remove the list, as before the images are tried again."""
    for file in list_skipped(run_dir):
        file.unlink(missing_ok=True)
