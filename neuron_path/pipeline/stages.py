"""The stages of a run by name, as each of its processes makes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from neuron_path.lightning.stage import Stage
from neuron_path.pipeline.evaluate import evaluation_of
from neuron_path.pipeline.evidence import evidence_of
from neuron_path.pipeline.search import search_of
from neuron_path.pipeline.work import Work
from neuron_path.store.layout import EVALUATION, EVIDENCE, SEARCH

_STAGES: dict[str, Callable[[Work, Path, Mapping[str, Any]], Stage]] = {
    SEARCH: lambda work, _, given: search_of(work, given["provenance"]),
    EVIDENCE: evidence_of,
    EVALUATION: evaluation_of,
}


def stage_of(name: str, work: Work, run_dir: Path, given: Mapping[str, Any]) -> Stage:
    """A stage in this process.

    Args:
        name: as `neuron_path.store.layout` has it.
        work: model, data and methods.
        run_dir: with what the stages before have left.
        given: by the first process, see `Stage`.
    """
    return _STAGES[name](work, run_dir, given)
