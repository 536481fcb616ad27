"""A finished search, taken up again: its configuration, its model and its data."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from neuron_path.config import Config, FileHeadConfig, FittedHeadConfig, stored_config
from neuron_path.errors import NeuronPathError
from neuron_path.pipeline.build import build_work
from neuron_path.pipeline.head import HEAD_FILE
from neuron_path.pipeline.search import weights_of
from neuron_path.pipeline.work import Work
from neuron_path.store.reader import read_provenance

_OWN = ("run_dir", "micro_batch", "evaluation", "trainer", "logger")
_OF_DATA = ("batch_size", "num_workers", "root")


@dataclass(frozen=True)
class StoredStudy:
    """What a run directory's paths were found on.

    Attributes:
        run_dir: where they lie.
        config: the search's configuration, with the settings of the evaluation given now.
        work: model, data and methods, the same as then.
        provenance: what made the paths.
    """

    run_dir: Path
    config: Config
    work: Work
    provenance: dict[str, Any]


def open_study(given: Config, overridden: Collection[str]) -> StoredStudy:
    """Load the model and the data of the run in `given.run_dir`.

    Args:
        given: the configuration composed now, of which only what an evaluation may choose is taken.
        overridden: the settings that the command line names.

    Raises:
        NeuronPathError: no such run, a setting that the search has fixed, or a model whose weights are others now.
    """
    if given.run_dir is None:
        raise NeuronPathError("Whose paths to measure must be said: neuron-path evaluate run_dir=DIR.")
    for key in overridden:
        group, _, name = key.partition(".")
        if group not in _OWN and not (group == "data" and name in ("", *_OF_DATA)):
            raise NeuronPathError(
                f"The setting '{key}' belongs to the search and is kept from it: neuron-path evaluate takes run_dir, "
                f"evaluation, trainer, logger, micro_batch, and of the data {', '.join(_OF_DATA)}."
            )
    run_dir = Path(given.run_dir)
    provenance = read_provenance(run_dir)
    stored = stored_config(provenance.get("config"))
    if "data" in overridden and given.data.name != stored.data.name:
        raise NeuronPathError(f"The paths are of data={stored.data.name}, not of data={given.data.name}.")
    moved = {name: getattr(given.data, name) for name in _OF_DATA if f"data.{name}" in overridden}
    head = stored.head
    if isinstance(head, FittedHeadConfig):  # fitted then, not again
        head = FileHeadConfig(path=str(run_dir / HEAD_FILE))
    chosen = {name: getattr(given, name) for name in _OWN}
    config = replace(stored, **chosen, head=head, data=replace(stored.data, **moved))
    work = build_work(config, provenance.get("baselines", ()))
    if weights_of(work.study) != provenance.get("weight_hash"):
        raise NeuronPathError(
            f"The model's weights are not those that the paths in '{run_dir}' were found with: search again, or bring "
            "back the checkpoint."
        )
    return StoredStudy(run_dir, config, work, provenance)
