"""What went wrong in the jobs of a sweep: each leaves a line in its directory, and who started them reads it there.

A launcher may run jobs in processes and on machines of their own, and hands on the first error only.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from neuron_path.errors import NeuronPathError
from neuron_path.store.atomic import write_text
from neuron_path.store.layout import ERROR_FILE

_told: list[str] = []


class FailedJobs(Callback):
    """Hydra's callback that gathers the lines which the jobs of a sweep have left since it began."""

    def __init__(self) -> None:
        self._before: dict[Path, int] = {}

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Note what earlier sweeps have left."""
        self._before = _left(config)
        _told.clear()

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Read what is new."""
        for file, time in _left(config).items():
            if self._before.get(file) != time:
                with suppress(OSError):
                    _told.append(file.read_text(encoding="utf-8").strip())


def take_told() -> list[str]:
    """The lines of the sweep that has just ended, once, in the order of its directories."""
    lines = list(_told)
    _told.clear()
    return lines


def leave(run_dir: Path, error: NeuronPathError) -> None:
    """Write a job's line into its directory, if that can be done."""
    with suppress(NeuronPathError):
        write_text(run_dir / ERROR_FILE, f"{' '.join(str(error).split())}\n")


def take_away(run_dir: Path) -> None:
    """Remove the line of an earlier try."""
    with suppress(OSError):
        (run_dir / ERROR_FILE).unlink(missing_ok=True)


def _left(config: DictConfig) -> dict[Path, int]:
    files = sorted(Path(config.hydra.sweep.dir).rglob(ERROR_FILE))
    return {file: file.stat().st_mtime_ns for file in files}
