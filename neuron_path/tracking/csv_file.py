"""A CSV file in the run directory, which can be watched while the run goes on."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from lightning.fabric.loggers.csv_logs import CSVLogger

from neuron_path.tracking.tracker import NO_TABLES, flat

DIRECTORY = "csv"


class CsvTracker:
    """Rows of `csv/JOB_TYPE/metrics.csv`, on disk as soon as they are logged; the last one holds the final metrics.

    A job that is started again in the same run directory writes beside the older file, into `csv/JOB_TYPE-2`.

    Args:
        directory: the run directory.
        job_type: what the run does: "search", "evaluate", "run".
    """

    def __init__(self, directory: Path, job_type: str) -> None:
        names = itertools.chain([job_type], (f"{job_type}-{number}" for number in itertools.count(2)))
        version = next(name for name in names if not (directory / DIRECTORY / name).exists())
        self._logger = CSVLogger(directory, name=DIRECTORY, version=version, flush_logs_every_n_steps=1)
        self._step = 0

    def log(self, values: Mapping[str, float]) -> None:
        """Numbers of this moment, as a row."""
        self._logger.log_metrics(dict(values), self._step)  # its own count of steps begins anew with every flush
        self._step += 1

    def finish(
        self, metrics: Mapping[str, Any], files: Sequence[Path], tables: Mapping[str, pd.DataFrame] = NO_TABLES
    ) -> None:
        """The final numbers, as the last row; files and tables lie in the run directory anyway."""
        self.log(flat(metrics))

    def fail(self) -> None:
        """Nothing to do: every row is on disk."""
