"""The evaluation stage: from stored paths to `effects.parquet` and `scores.parquet`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from neuron_path.config import Config, EvaluationConfig
from neuron_path.errors import NeuronPathError
from neuron_path.evaluation.summary import summarise_effects
from neuron_path.interventions.donors import donors_of
from neuron_path.interventions.evaluate import Evaluator, Intervention
from neuron_path.lightning.callbacks import EvaluationCollector, ImageProgress, StreamMetrics, complete_scores_of
from neuron_path.lightning.datamodule import ImageDataModule, Part
from neuron_path.lightning.evaluation import EvaluationModule, StoredPaths
from neuron_path.pipeline.build import Study, build_quadrature, build_trainer, predict, target_of
from neuron_path.pipeline.lending import reader, reference_means
from neuron_path.store.provenance import collect_provenance
from neuron_path.store.reader import load_effects, load_paths
from neuron_path.store.schema import build_table, effect_schema, score_schema
from neuron_path.store.writer import write_effects, write_scores
from neuron_path.tracking import Tracker

CURVES = ("remove", "keep_only")  # the operations of the necessity and the sufficiency curve


def check_evaluation(config: EvaluationConfig, *, is_measured: bool = True) -> None:
    """Raise a NeuronPathError for an operation that does not exist, for settings out of range, and, where anything is
    to be measured, for no operation."""
    if is_measured and not config.operations:
        raise NeuronPathError("There are no operations to check the paths by: name some, or use neuron-path search.")
    for operation in config.operations:
        Intervention(operation, tokens=config.tokens)
    if not 1 < config.factor < float("inf"):
        raise NeuronPathError(f"evaluation.factor is {config.factor}; expected a finite number above 1: to enhance.")
    if any(size < 0 for size in config.sizes):
        raise NeuronPathError(f"evaluation.sizes is {config.sizes}; expected numbers of neurons, 0 or more.")


def evaluation_stage(config: Config, study: Study, run_dir: Path, tracker: Tracker) -> pd.DataFrame:
    """Measure the paths stored in `run_dir`; the summary has a row per method and operation.

    The paths are those on disk, joined to the images by sample id. Images without a path, which could not be read, are
    passed over.

    Raises:
        NeuronPathError: a stored path whose image the data lacks, or whatever an intervention needs and lacks.
    """
    options = config.evaluation
    paths = load_paths(run_dir)
    if paths.empty or paths.duplicated(["sample_id", "scorer", "search", "top_k"]).any():
        raise NeuronPathError(f"The paths in '{run_dir}' are none, or some are there twice: search again.")
    stored = [_stored(rows) for _, rows in paths.groupby(["scorer", "search", "top_k"], sort=False)]
    targets = dict(zip(paths["sample_id"], paths["target"].tolist(), strict=True))
    data = _with_paths(study.data, targets)
    study.session.model.to(build_trainer(config, []).strategy.root_device)
    means, reference = reference_means(config, study) if "mean_ablation" in options.operations else (None, None)
    evaluator = Evaluator(
        interventions(options, max(method.top_k for method in stored) if config.per_block else 1),
        means,
        build_quadrature(config),
        target_of(config),
    )
    donors = donors_of(list(targets), config.seed) if "resample_ablation" in options.operations else None
    measured = paths.dropna(subset=["rounding"])
    rounding = dict(zip(measured["sample_id"], measured["rounding"].tolist(), strict=True))
    known = rounding if rounding.keys() >= targets.keys() else None
    module = EvaluationModule(study.session, stored, targets, evaluator, known, donors, reader(data.dataset))
    collector = EvaluationCollector()
    progress = ImageProgress("Evaluation", len(data.dataset))
    stream = StreamMetrics(tracker.log, complete_scores_of, "evaluation/")
    predict(build_trainer(config, [collector, progress, stream]), module, data)
    provenance = evaluated(paths.attrs["provenance"], config, reference)
    batches = collector.batches
    scores = _joined([part.scores for part in batch] for batch in batches)
    effects = _joined([table for part in batch for table in part.effects] for batch in batches)
    write_scores(run_dir, build_table(score_schema(), scores), provenance)
    write_effects(run_dir, build_table(effect_schema(), effects), provenance)
    labels = dict(zip(paths["sample_id"], paths["label"], strict=True))
    return summarise_effects(load_effects(run_dir), labels, seed=config.seed)


def evaluated(
    provenance: Mapping[str, Any], config: Config, reference: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What made the measured numbers: what made the paths, the options of the evaluation, and the code of this moment.

    Args:
        provenance: that of the paths.
        config: with the options.
        reference: the images of a mean-ablation.
    """
    now = collect_provenance({"seed": config.seed}, data_root=getattr(config.data, "root", None), reference=reference)
    return {**provenance, "evaluation": asdict(config.evaluation), "evaluated": now}


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


def _with_paths(data: ImageDataModule, targets: dict[str, int]) -> ImageDataModule:
    """The data without the images that have no path."""
    known = data.dataset.sample_ids
    if lacking := sorted(targets.keys() - set(known)):
        raise NeuronPathError(
            f"{len(lacking)} stored path(s) are of images that the data lacks, such as '{lacking[0]}': bring back the "
            "run's data."
        )
    places = [place for place, name in enumerate(known) if name in targets]
    return ImageDataModule(Part(data.dataset, places), batch_size=data.batch_size, num_workers=data.num_workers)


def _stored(rows: pd.DataFrame) -> StoredPaths:
    names = rows["sample_id"].tolist()
    paths = [torch.tensor(path.reshape(len(path), -1)) for path in rows["path"]]
    complete = zip(rows["complete"].tolist(), rows["convergence_delta"].tolist(), strict=True)
    return StoredPaths(
        scorer=str(rows["scorer"].iloc[0]),
        search=str(rows["search"].iloc[0]),
        top_k=int(rows["top_k"].iloc[0]),
        paths=dict(zip(names, paths, strict=True)),
        scores=dict(zip(names, rows["score"].tolist(), strict=True)),
        complete=dict(zip(names, complete, strict=True)) if not rows["complete"].isna().to_numpy().any() else None,
    )


def _joined(batches: Iterable[Sequence[dict[str, list[object]]]]) -> dict[str, list[object]]:
    """The tables of all batches as one: first the first table of each batch, then the second ones, and so on."""
    columns: dict[str, list[object]] = {}
    for tables in zip(*batches, strict=True):
        for table in tables:
            for name, values in table.items():
                columns.setdefault(name, []).extend(values)
    return columns
