"""Weights & Biases: the one module that knows it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from neuron_path.errors import NeuronPathError, unknown_name

LOGGERS = ("none", "wandb")
MODES = ("offline", "online", "disabled")


class Tracker(Protocol):
    """Where a run's numbers are streamed to, beside the store, which is the record."""

    def log(self, values: Mapping[str, float]) -> None:
        """Numbers of this moment."""
        ...

    def finish(self, metrics: Mapping[str, Any], files: Sequence[Path]) -> None:
        """The run's final numbers, and its result files as an artifact."""
        ...

    def fail(self) -> None:
        """Mark the run as failed."""
        ...


class NullTracker:
    """Streams nowhere."""

    def log(self, values: Mapping[str, float]) -> None:
        """Do nothing."""

    def finish(self, metrics: Mapping[str, Any], files: Sequence[Path]) -> None:
        """Do nothing."""

    def fail(self) -> None:
        """Do nothing."""


class WandbTracker:
    """A Weights & Biases run.

    Args:
        directory: where W&B keeps its files: the run directory.
        provenance: becomes the run's config; its configuration's hash is part of the run's name.
        options: `project`, `entity`, `mode` ("offline", "online", "disabled"), `group`, `tags`, `init_timeout` in s.

    Raises:
        NeuronPathError: the run cannot be started (no key, no server).
    """

    def __init__(self, directory: Path, provenance: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        import wandb

        digest = hashlib.sha256(json.dumps(provenance["config"], sort_keys=True).encode()).hexdigest()[:8]
        try:
            wandb.setup(wandb.Settings(silent=True))
            self._run = wandb.init(
                dir=str(directory),
                project=options["project"],
                entity=options["entity"],
                mode=options["mode"],
                group=options["group"],
                tags=list(options["tags"]),
                name=f"{provenance['model']}-{provenance['scorer']}-{digest}",
                job_type="search",
                config=dict(provenance),
                settings=wandb.Settings(init_timeout=options["init_timeout"], silent=True),
            )
        except (wandb.Error, OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise NeuronPathError(
                f"Weights & Biases could not start ({reason}): use logger.mode=offline or logger=none."
            ) from error

    def log(self, values: Mapping[str, float]) -> None:
        """Numbers of this moment."""
        self._run.log(dict(values))

    def finish(self, metrics: Mapping[str, Any], files: Sequence[Path]) -> None:
        """Final numbers into the summary, files into an artifact, pictures as pictures."""
        import wandb

        self._run.summary.update(dict(metrics))
        artifact = wandb.Artifact(f"paths-{self._run.id}", type="neuron-paths")
        for file in files:
            artifact.add_file(str(file), name=file.name, policy="immutable")  # no copy in the home directory
        pictures = {f"figures/{file.stem}": wandb.Image(str(file)) for file in files if file.suffix == ".png"}
        self._run.log(pictures)
        self._run.log_artifact(artifact)
        self._run.finish()

    def fail(self) -> None:
        """Mark the run as failed."""
        self._run.finish(exit_code=1)


def check_options(options: Mapping[str, Any]) -> None:
    """Raise a NeuronPathError for a logger or a mode that does not exist."""
    for option, kind, known in (("name", "logger", LOGGERS), ("mode", "mode of the logger", MODES)):
        if options[option] not in known:
            raise unknown_name(kind, options[option], known)


def make_tracker(directory: Path, provenance: Mapping[str, Any], options: Mapping[str, Any]) -> Tracker:
    """The tracker that `options["name"]` asks for: "none" or "wandb"."""
    return NullTracker() if options["name"] == "none" else WandbTracker(directory, provenance, options)
