"""Run again what a run directory's record says, and compare the paths."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from neuron_path.config import stored_config
from neuron_path.errors import NeuronPathError
from neuron_path.pipeline import run
from neuron_path.pipeline.records.sameness import Sameness, compare_paths
from neuron_path.pipeline.records.verify import moved
from neuron_path.store.layout import PATHS_FILE, RUN_FILE
from neuron_path.store.reader import load_paths, read_json


def rerun(
    before: Path,
    out: Path,
    *,
    accelerator: str | None = None,
    root: str | None = None,
    checkpoint: str | None = None,
) -> Sameness | None:
    """Run again into another directory, or go on with a rerun that was stopped there.

    Args:
        before: a run directory, finished or not.
        out: where the new run goes.
        accelerator: another device than the run's; None for the same.
        root, checkpoint: as of :func:`neuron_path.pipeline.records.verify.moved`.

    Returns:
        How the paths of both agree; None where the run itself has not finished.

    Raises:
        NeuronPathError: a run that cannot be made again.
    """
    if out.resolve() == before.resolve():
        raise NeuronPathError(f"--out is the run itself, '{before}': give another directory, or leave it out.")
    if not (before / RUN_FILE).exists():
        raise NeuronPathError(f"There is no {RUN_FILE} in '{before}': give the directory of a run.")
    made = read_json(before / RUN_FILE)
    command = made.get("command")
    if not (isinstance(made.get("identity"), dict) and isinstance(command, str) and command in run.COMMANDS):
        raise NeuronPathError(
            f"{RUN_FILE} in '{before}' is of an older version, or of something else than a run: search again."
        )
    paths = load_paths(before) if (before / PATHS_FILE).exists() else None
    config = moved(stored_config(made.get("config")), root, checkpoint)
    trainer = replace(config.trainer, accelerator=accelerator or config.trainer.accelerator)
    config = replace(config, trainer=trainer, resume=None, resume_mode="same")
    run.COMMANDS[command](config, out, made["identity"])
    return None if paths is None else compare_paths(paths, load_paths(out))
