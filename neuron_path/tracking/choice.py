"""From the options of `conf/logger` to a tracker."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neuron_path.errors import unknown_name
from neuron_path.tracking.tracker import GuardedTracker, NullTracker, Tracker, reason_of

LOGGERS = ("none", "csv", "wandb")
MODES = ("auto", "online", "offline", "disabled")


def check_options(options: Mapping[str, Any]) -> None:
    """Raise a NeuronPathError for a logger or a mode that does not exist."""
    for option, kind, known in (("name", "logger", LOGGERS), ("mode", "mode of the logger", MODES)):
        if options[option] not in known:
            raise unknown_name(kind, options[option], known)


def make_tracker(directory: Path, provenance: Mapping[str, Any], options: Mapping[str, Any], job_type: str) -> Tracker:
    """The tracker that `options["name"]` asks for, or one that streams nowhere where it cannot be started.

    Args:
        directory: the run directory.
        provenance: what the run's numbers depend on; becomes the config of a W&B run.
        options: the settings of `conf/logger`.
        job_type: what the run does: "search", "evaluate", "run".
    """
    name = options["name"]
    if name == "none":
        return NullTracker()
    try:
        tracker = _csv(directory, job_type) if name == "csv" else _wandb(directory, provenance, options, job_type)
    except Exception as error:
        warnings.warn(
            f"The logger '{name}' could not start ({reason_of(error)}): the run goes on without.", stacklevel=2
        )
        return NullTracker()
    return GuardedTracker(tracker, f"The logger '{name}'")


def _csv(directory: Path, job_type: str) -> Tracker:
    from neuron_path.tracking.csv_file import CsvTracker

    return CsvTracker(directory, job_type)


def _wandb(directory: Path, provenance: Mapping[str, Any], options: Mapping[str, Any], job_type: str) -> Tracker:
    if options["mode"] == "disabled":
        return NullTracker()
    # Before W&B is imported: its reports about itself would keep a run waiting for a silent server.
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    from neuron_path.tracking.wandb_run import WandbTracker

    return WandbTracker(directory, provenance, options, job_type)
