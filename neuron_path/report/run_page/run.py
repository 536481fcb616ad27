"""What a finished run holds, read once for its report."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pandas as pd

from neuron_path.classes.analysis import ClassAnalysis, analyze_classes
from neuron_path.classes.class_paths import ClassPaths
from neuron_path.classes.grouping import group_paths
from neuron_path.errors import NeuronPathError
from neuron_path.evaluation.comparison import Comparison, compare
from neuron_path.evaluation.quantity import quantity_of
from neuron_path.evaluation.summary import summarise_effects
from neuron_path.store.evidence import EVIDENCE_FILE, load_evidence
from neuron_path.store.layout import EFFECTS_FILE, METRICS_FILE, SCORES_FILE
from neuron_path.store.reader import load_effects, load_paths, read_json

CHANGE: Final = tuple(f"probability_deviation{end}" for end in ("", "_low", "_high"))
"""The columns of an effect with its interval."""


@dataclass(frozen=True, eq=False)
class Run:
    """A run as its report tells it.

    Attributes:
        run_dir: where it lies.
        paths: one row per image and method.
        provenance: what made the paths.
        metrics: speed and mean scores.
        effects: of each image, method and operation; None where none was measured.
        summary: their table, a row per method and operation.
        comparison: the run's methods tested against its own; None where there is only one, no effect, or a single
            output.
        classes: the paths of the run's own method, in classes.
        analysis: the statistics of these classes; None where they cannot be compared.
        no_analysis: why.
        evidence: what neurons answer to; None where the run was not asked for it.
    """

    run_dir: Path
    paths: pd.DataFrame = field(repr=False)
    provenance: dict[str, Any] = field(repr=False)
    metrics: dict[str, Any]
    effects: pd.DataFrame | None = field(repr=False)
    summary: pd.DataFrame
    comparison: Comparison | None
    classes: ClassPaths
    analysis: ClassAnalysis | None
    no_analysis: str
    evidence: pd.DataFrame | None = field(repr=False)

    @property
    def seed(self) -> int:
        """The run's seed."""
        return _seed(self.provenance)

    @property
    def units(self) -> str:
        """What the paths consist of."""
        return self.provenance.get("units", "ffn")

    @property
    def quantity(self) -> str:
        """What the effects are changes of."""
        return quantity_of(self.provenance, self.effects)

    @property
    def class_names(self) -> list[str]:
        """Names of classes by index; empty where there are none."""
        return [str(name) for name in self.provenance.get("classes") or ()]


def read_run(run_dir: str | os.PathLike[str]) -> Run:
    """Read a run directory and compute the statistics that its report shows.

    Raises:
        NeuronPathError: no finished run, or one of its files is torn or foreign.
    """
    folder = Path(run_dir)
    paths = load_paths(folder)
    provenance = paths.attrs["provenance"]
    metrics = read_json(folder / METRICS_FILE)
    scorer = _own_scorer(paths, provenance)
    classes = group_paths(paths, scorer=scorer, n_neurons=provenance.get("n_neurons"))
    analysis, no_analysis = None, ""
    try:
        analysis = analyze_classes(classes, seed=_seed(provenance))
    except NeuronPathError as error:  # one class, or one image of each: the rest of the report has its use
        no_analysis = str(error)
    effects = load_effects(folder) if (folder / EFFECTS_FILE).exists() else None
    return Run(
        run_dir=folder,
        paths=paths,
        provenance=provenance,
        metrics={name: value for name, value in metrics.items() if name != "effects"},
        effects=effects,
        summary=_summary(effects, paths, metrics, _seed(provenance)),
        comparison=_comparison(folder, paths, scorer, effects),
        classes=classes,
        analysis=analysis,
        no_analysis=no_analysis,
        evidence=load_evidence(folder) if (folder / EVIDENCE_FILE).exists() else None,
    )


def _summary(effects: pd.DataFrame | None, paths: pd.DataFrame, metrics: dict[str, Any], seed: int) -> pd.DataFrame:
    """The table that the evaluation made, or the same again where it was not kept."""
    if effects is None:
        return pd.DataFrame(columns=["scorer", "search", "operation", "n", *CHANGE])
    if metrics.get("effects"):
        return pd.DataFrame(metrics["effects"])
    return summarise_effects(effects, dict(zip(paths["sample_id"], paths["label"], strict=True)), seed=seed)


def _comparison(folder: Path, paths: pd.DataFrame, scorer: str, effects: pd.DataFrame | None) -> Comparison | None:
    several = len(paths[["scorer", "search"]].drop_duplicates()) > 1
    if not several or effects is None or not (folder / SCORES_FILE).exists():
        return None
    # The softmax of a single output is always 1: nothing is to be compared.
    is_constant = bool((effects[["clean_probability", "edited_probability"]] == 1).to_numpy().all())
    return None if is_constant else compare([folder], scorer)


def _own_scorer(paths: pd.DataFrame, provenance: dict[str, Any]) -> str:
    """The scorer that the run was made for; the first one where it is not among the paths."""
    held = paths["scorer"].tolist()
    named = provenance.get("scorer")
    return str(named) if named in held else str(held[0])


def _seed(provenance: dict[str, Any]) -> int:
    seed = provenance.get("seed")
    return seed if isinstance(seed, int) else 0
