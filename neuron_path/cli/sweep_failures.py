"""What went wrong in the jobs of a sweep: each leaves a line in the sweep's directory, and who started them reads it.

A launcher may run jobs in processes and on machines of their own, and hands on the first error only.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from neuron_path.errors import NeuronPathError
from neuron_path.store.atomic import write_text
from neuron_path.store.layout import ERROR_FILE

_FOLDER = ".failed"


class _Sweep:
    """The sweep that this process has started, if any."""

    directory: str | None = None
    failures: tuple[str, ...] = ()


class FailedJobs(Callback):
    """Hydra's callback that gathers the lines of a sweep's jobs."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Forget those of a sweep that was stopped."""
        _Sweep.directory = config.hydra.sweep.dir
        shutil.rmtree(_folder(config.hydra.sweep.dir), ignore_errors=True)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Read them, by the number of the job."""
        folder = _folder(config.hydra.sweep.dir)
        with suppress(OSError):
            files = sorted(folder.glob("*.txt"), key=lambda file: int(file.stem))
            _Sweep.failures = tuple(file.read_text(encoding="utf-8").strip() for file in files)
        shutil.rmtree(folder, ignore_errors=True)


def begin() -> None:
    """Forget the sweep before."""
    _Sweep.directory, _Sweep.failures = None, ()


def collected() -> tuple[str, ...]:
    """The lines of the sweep that has ended."""
    return _Sweep.failures


def sweep_directory() -> str | None:
    """Where the jobs of the sweep write; None outside one."""
    return _Sweep.directory


def leave(sweep_dir: str, number: int, error: NeuronPathError) -> None:
    """Write a job's line where the sweep is gathered, if that can be done."""
    _write(_folder(sweep_dir) / f"{number}.txt", error)


def keep(run_dir: Path, error: NeuronPathError) -> None:
    """Write a job's line into its own directory, if that can be done."""
    _write(run_dir / ERROR_FILE, error)


def take_away(run_dir: Path) -> None:
    """Remove the line of an earlier try."""
    with suppress(OSError):
        (run_dir / ERROR_FILE).unlink(missing_ok=True)


def as_line(error: NeuronPathError) -> str:
    """An error's text without line breaks."""
    return " ".join(str(error).split())


def _write(file: Path, error: NeuronPathError) -> None:
    with suppress(NeuronPathError, OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, f"{as_line(error)}\n")


def _folder(sweep_dir: str) -> Path:
    return Path(sweep_dir) / _FOLDER
