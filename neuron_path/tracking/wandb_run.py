"""A Weights & Biases run."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import wandb

from neuron_path.tracking.server import QUIET_MODES, settle_mode
from neuron_path.tracking.tracker import NO_TABLES, flat, reason_of


class WandbTracker:
    """A Weights & Biases run, all of whose files are in the run directory.

    Where W&B is to be online but there is no key or no server, a warning says so and the run is written offline.
    The same configuration, started again in the same directory, continues the same run.

    Args:
        directory: the run directory.
        provenance: becomes the run's config; its configuration is part of the run's name and id.
        options: `project`, `entity`, `mode` ("auto", "online", "offline", "disabled"), `group`, `tags`, `init_timeout`
            and `finish_timeout` in s.
        job_type: what the run does: "search", "evaluate", "run".

    Raises:
        Exception: whatever W&B raises when not even an offline run can be started.
    """

    def __init__(
        self, directory: Path, provenance: Mapping[str, Any], options: Mapping[str, Any], job_type: str
    ) -> None:
        self._directory = directory
        mode, reason = settle_mode(options["mode"], _setup())
        try:
            self._run = _start(directory, provenance, options, job_type, mode)
        except Exception as error:
            if mode in QUIET_MODES:
                raise
            reason = f"could not start online ({reason_of(error)})"
            wandb.teardown(1)  # else the run's id stays in use
            _setup()
            self._run = _start(directory, provenance, options, job_type, "offline")
        if reason:
            warnings.warn(
                f"Weights & Biases {reason}: the run is written offline into its directory, from where wandb sync can "
                "send it later; logger.mode=offline does so at once.",
                stacklevel=4,
            )

    def log(self, values: Mapping[str, float]) -> None:
        """Numbers of this moment."""
        self._run.log(dict(values))

    def finish(
        self, metrics: Mapping[str, Any], files: Sequence[Path], tables: Mapping[str, pd.DataFrame] = NO_TABLES
    ) -> None:
        """Final numbers into the summary, tables as tables, pictures as pictures, and all files into an artifact."""
        try:
            self._run.summary.update(flat(metrics))
            shown: dict[str, Any] = {f"tables/{name}": wandb.Table(dataframe=frame) for name, frame in tables.items()}
            pictures = [file for file in files if file.suffix == ".png"]
            shown |= {f"figures/{file.stem}": wandb.Image(str(file)) for file in pictures}
            with _staged_in(self._directory / "wandb"):
                if shown:
                    self._run.log(shown)
                self._run.log_artifact(self._artifact(files))
        except BaseException:
            self._run.finish(exit_code=1)
            raise
        self._run.finish()

    def fail(self) -> None:
        """Mark the run as failed."""
        self._run.finish(exit_code=1)

    def _artifact(self, files: Sequence[Path]) -> wandb.Artifact:
        """The store's files under their names in the run directory: a new version where the run had one before."""
        artifact = wandb.Artifact(f"paths-{self._run.id}", type="neuron-paths")
        for file in files:
            name = file.relative_to(self._directory).as_posix()
            artifact.add_file(str(file), name=name, policy="immutable")  # no copy in the home directory
        return artifact


@contextmanager
def _staged_in(folder: Path) -> Iterator[None]:
    """Let W&B keep what it prepares for artifacts here, not in the home directory, unless the user says where."""
    given = os.environ.get("WANDB_DATA_DIR")
    os.environ["WANDB_DATA_DIR"] = given or str(folder)
    try:
        yield
    finally:
        if given is None:
            del os.environ["WANDB_DATA_DIR"]


def run_id(directory: Path, config: Mapping[str, Any], job_type: str) -> str:
    """The run's id: of what is computed, where and in which job, however it is logged."""
    computed = {name: part for name, part in config.items() if name != "logger"}
    return _digest([computed, str(directory.resolve()), job_type])[:16]


def _setup() -> wandb.Settings:
    return wandb.setup(wandb.Settings(silent=True)).settings


def _start(
    directory: Path, provenance: Mapping[str, Any], options: Mapping[str, Any], job_type: str, mode: str
) -> wandb.Run:
    limits = {"init_timeout": options["init_timeout"], "finish_timeout": options["finish_timeout"]}
    limits["finish_timeout_raises"] = True
    known = {name: value for name, value in limits.items() if name in wandb.Settings.model_fields}
    return wandb.init(
        dir=str(directory),
        project=options["project"],
        entity=options["entity"],
        mode=mode,  # pyright: ignore[reportArgumentType]
        group=options["group"],
        tags=list(options["tags"]),
        name=f"{provenance['model']}-{provenance['scorer']}-{_digest(provenance['config'])[:8]}",
        id=run_id(directory, provenance["config"], job_type),
        resume="allow",
        job_type=job_type,
        config=dict(provenance),
        settings=wandb.Settings(silent=True, reinit="finish_previous", **known),
    )


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
