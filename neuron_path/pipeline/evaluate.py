"""The evaluation stage: from stored paths to `effects.parquet` and `scores.parquet`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from neuron_path.config import EvaluationConfig
from neuron_path.errors import NeuronPathError
from neuron_path.evaluation.quantity import quantity_of
from neuron_path.evaluation.summary import summarise_effects
from neuron_path.interventions.donors import donors_of
from neuron_path.interventions.evaluate import Evaluator, Intervention
from neuron_path.interventions.operations import MeanAblation
from neuron_path.lightning.evaluation import Evaluation, StoredPaths
from neuron_path.pipeline.gather import gather, is_made
from neuron_path.pipeline.launch.workers import Crew
from neuron_path.pipeline.lending import reader
from neuron_path.pipeline.work import Work
from neuron_path.store.checksums import sha256
from neuron_path.store.evaluation import split_measures
from neuron_path.store.layout import EFFECTS_FILE, EVALUATION, PATHS_FILE, SCORES_FILE
from neuron_path.store.merge import remove_parts
from neuron_path.store.provenance import collect_provenance
from neuron_path.store.reader import load_effects, load_paths
from neuron_path.store.schema import KEY_COLUMNS
from neuron_path.store.writer import write_effects, write_scores

CURVES = ("remove", "keep_only")  # the operations of the necessity and the sufficiency curve


def check_evaluation(config: EvaluationConfig, *, is_measured: bool = True) -> None:
    """Raise a NeuronPathError for an operation that does not exist, for settings out of range, and, where anything is
    to be measured, for no operation."""
    if is_measured and not config.operations:
        raise NeuronPathError(
            "There are no operations to check the paths by: name some, as in evaluation.operations=[remove,enhance], "
            "or use neuron-path search."
        )
    for operation in config.operations:
        Intervention(operation, tokens=config.tokens)
    if not 1 < config.factor < float("inf"):
        raise NeuronPathError(
            f"evaluation.factor is {config.factor}; to enhance, expected a finite number above 1, such as 2."
        )
    if any(size < 0 for size in config.sizes):
        raise NeuronPathError(
            f"evaluation.sizes is {config.sizes}; expected numbers of neurons, 0 or more, such as [0,1]."
        )


def evaluation_of(work: Work, run_dir: Path, given: Mapping[str, Any]) -> Evaluation:
    """The evaluation as a stage: of the paths stored in `run_dir`, joined to the images by sample id.

    Args:
        work: model, data and what is measured.
        run_dir: with `paths.parquet`.
        given: to all processes; a mean-ablation's `means` as lists.
    """
    return _evaluation(work, load_paths(run_dir), given)


@dataclass(frozen=True)
class Evaluated:
    """What the evaluation hands on, beside the files.

    Attributes:
        summary: a row per method and operation.
        speed: images per second, start-up excluded; None where all was measured before.
        quantity: what the effects are changes of.
    """

    summary: pd.DataFrame
    speed: float | None
    quantity: str

    @property
    def metrics(self) -> dict[str, Any]:
        """For `metrics.json`."""
        return {"evaluated_images_per_second": self.speed, "effects": self.summary.to_dict(orient="records")}


def evaluation_stage(work: Work, run_dir: Path, crew: Crew, *, anew: bool = False) -> Evaluated:
    """Measure the paths stored in `run_dir`.

    Images without a path, which could not be read, are passed over. What was measured of the same paths, in the same
    way, before an evaluation was stopped is not measured again.

    Args:
        work: model, data and what is measured.
        run_dir: where the paths are kept.
        crew: who does it.
        anew: whether a finished evaluation is made again.

    Raises:
        NeuronPathError: a stored path whose image the data lacks, or whatever an intervention needs and lacks.
        Terminated: the program was asked to end, and every finished batch is stored.
    """
    paths, names = load_paths(run_dir), work.study.data.dataset.sample_ids
    if paths.empty or paths.duplicated(list(KEY_COLUMNS)).any():
        raise NeuronPathError(f"The paths in '{run_dir}' are none, or some are there twice: search again.")
    if lacking := sorted(set(paths["sample_id"]) - set(names)):
        raise NeuronPathError(
            f"{len(lacking)} stored path(s) are of images that the data lacks, such as '{lacking[0]}': bring back the "
            "run's data."
        )
    means, reference = None, None
    if "mean_ablation" in work.evaluation.operations:
        work.study.session.model.to(crew.device)
        ablation, reference = work.lender.described_means
        means = [[part.tolist() for part in block] for block in ablation.means]
    identity = {
        "paths": sha256(run_dir / PATHS_FILE),
        "evaluation": asdict(work.evaluation),
        "seed": work.seed,
        "reference": reference,
    }
    stage = _evaluation(work, paths, {"provenance": {"identity": identity}, "means": means})
    is_done = not anew and all(is_made(run_dir / name, "evaluated", identity) for name in (SCORES_FILE, EFFECTS_FILE))
    keys = list(paths[list(KEY_COLUMNS)].itertuples(index=False, name=None))
    rows, speed = gather(stage, keys, names, run_dir, crew, is_done=is_done)
    if rows is not None:
        scores, effects = split_measures(rows)
        provenance = evaluated(paths.attrs["provenance"], work, reference, identity)
        write_scores(run_dir, scores, provenance)
        write_effects(run_dir, effects, provenance)
        remove_parts(run_dir, EVALUATION)
    labels = dict(zip(paths["sample_id"], paths["label"], strict=True))
    effects = load_effects(run_dir)
    quantity = quantity_of(paths.attrs["provenance"], effects)
    return Evaluated(summarise_effects(effects, labels, seed=work.seed), speed, quantity)


def evaluated(
    provenance: Mapping[str, Any],
    work: Work,
    reference: Mapping[str, Any] | None = None,
    identity: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What made the measured numbers: what made the paths, the options of the evaluation, and the code of this moment.

    Args:
        provenance: that of the paths.
        work: with the options.
        reference: the images of a mean-ablation.
        identity: all that the numbers depend on.
    """
    now = collect_provenance({"seed": work.seed}, data_root=work.root, reference=reference, identity=identity)
    return {**provenance, "evaluation": asdict(work.evaluation), "evaluated": now}


def _evaluation(work: Work, paths: pd.DataFrame, given: Mapping[str, Any]) -> Evaluation:
    session, options = work.study.session, work.evaluation
    stored = [_stored(rows) for _, rows in paths.groupby(["scorer", "search", "top_k"], sort=False)]
    targets = dict(zip(paths["sample_id"], paths["target"].tolist(), strict=True))
    means = None
    if given["means"] is not None:
        blocks = [[torch.tensor(part, dtype=torch.float64) for part in block] for block in given["means"]]
        means = MeanAblation([(in_scope, other) for in_scope, other in blocks])
    settings = work.finder.settings
    # A curve takes a path's first neurons of each block: of neurons of any blocks there is none.
    longest = max(method.top_k for method in stored) if settings.per_block else 1
    evaluator = Evaluator(interventions(options, longest), means, settings.quadrature, settings.target)
    dataset, donors = work.study.data.dataset, None
    if "resample_ablation" in options.operations:
        donors = donors_of(list(targets), work.seed, getattr(dataset, "pictures", None))
    measured = paths.dropna(subset=["rounding"])
    rounding = dict(zip(measured["sample_id"], measured["rounding"].tolist(), strict=True))
    known = rounding if rounding.keys() >= targets.keys() else None
    images_of = reader(dataset)
    return Evaluation(session, stored, targets, evaluator, known, donors, images_of, given)


def interventions(options: EvaluationConfig, top_k: int) -> list[Intervention]:
    """What is done to every path: each operation to all its neurons, and the curves' to the first ones only."""
    chosen = []
    for operation in dict.fromkeys(options.operations):
        factor = options.factor if operation == "enhance" else None
        whole = Intervention(operation, factor, options.tokens)
        sizes: list[int] = []
        if top_k > 1 and operation in CURVES and options.sizes:
            sizes = sorted({0, *(size for size in options.sizes if size < top_k)})  # a curve begins at 0
        chosen += [*(replace(whole, size=size) for size in sizes), whole]
    return chosen


def _stored(rows: pd.DataFrame) -> StoredPaths:
    paths = torch.from_numpy(np.stack(rows["path"].tolist()))
    complete = np.stack([rows[name].to_numpy(float) for name in ("complete", "convergence_delta")], 1)
    return StoredPaths(
        scorer=str(rows["scorer"].iloc[0]),
        search=str(rows["search"].iloc[0]),
        top_k=int(rows["top_k"].iloc[0]),
        rows={name: row for row, name in enumerate(rows["sample_id"])},
        paths=paths.reshape(*paths.shape[:2], -1),
        scores=torch.tensor(rows["score"].to_numpy()),
        complete=None if np.isnan(complete[:, 0]).any() else torch.from_numpy(complete),
    )
