"""The search stage: from images to `paths.parquet`, `run.json` and `metrics.json`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neuron_path.config import Config
from neuron_path.lightning.callbacks import ImageProgress, ResultWriter, StreamMetrics
from neuron_path.lightning.module import PathSearchModule
from neuron_path.pipeline.build import Study, build_finders, build_trainer, device_name, quiet
from neuron_path.pipeline.threads import use_threads
from neuron_path.search.finder import PathFinder
from neuron_path.store.atomic import write_json
from neuron_path.store.layout import open_run_dir
from neuron_path.store.provenance import collect_provenance, weight_hash
from neuron_path.store.reader import load_paths
from neuron_path.store.schema import path_schema
from neuron_path.store.writer import PathWriter
from neuron_path.tracking import Tracker

RUN_FILE = "run.json"
METRICS_FILE = "metrics.json"


@dataclass(frozen=True)
class Searched:
    """What the search stage hands on, beside the files.

    Attributes:
        run_dir: where the results are.
        metrics: images, speed and mean scores.
        problems: (name, reason) of skipped images.
    """

    run_dir: Path
    metrics: dict[str, Any]
    problems: list[tuple[str, str]]


def provenance_of(
    config: Config, plain: Mapping[str, Any], study: Study, finders: Sequence[PathFinder]
) -> dict[str, Any]:
    """Everything the numbers depend on."""
    arrays = ((name, tensor.cpu().numpy()) for name, tensor in study.session.model.state_dict().items())
    first = finders[0]
    return collect_provenance(
        plain,
        model=config.model.name,
        weight_hash=weight_hash(arrays),
        data=config.data.name,
        n_images=len(study.data.dataset),
        preprocessing=study.data.dataset.preprocessing,
        classes=list(study.data.dataset.classes),
        scorer=first.scorer.name,
        baselines=[finder.scorer.name for finder in finders[1:]],
        search=first.search.name,
        measure="joint",
        quadrature=first.quadrature.rule,
        n_steps=first.quadrature.n_steps,
        token_scope=first.scope.name,
        top_k=first.top_k,
        n_neurons=[block.n_neurons for block in study.session.adapter.blocks],
    )


def start(
    config: Config, plain: Mapping[str, Any], study: Study, baselines: Sequence[str], run_dir: Path
) -> tuple[list[PathFinder], dict[str, Any]]:
    """Check the methods, open the run directory and write `run.json`: from here on there are files."""
    finders = build_finders(config, study.session, baselines)
    provenance = provenance_of(config, plain, study, finders)
    open_run_dir(run_dir)
    write_json(run_dir / RUN_FILE, provenance)
    return finders, provenance


def search_stage(
    config: Config,
    study: Study,
    finders: Sequence[PathFinder],
    provenance: Mapping[str, Any],
    run_dir: Path,
    tracker: Tracker,
) -> Searched:
    """Find the paths of all images with all methods, storing them as batches finish.

    Raises:
        NeuronPathError: an image that cannot be read (unless skipped), or results that do not cover every image.
    """
    dataset = study.data.dataset
    writer = ResultWriter(PathWriter(run_dir, path_schema(config.top_k), provenance))
    callbacks = [writer, ImageProgress("Neuron paths", len(dataset)), StreamMetrics(tracker.log)]
    threads = use_threads(config.trainer.threads, study.session, dataset)
    begin = time.perf_counter()
    with quiet():
        trainer = build_trainer(config, callbacks)
        module = PathSearchModule(finders, study.targets, config.data.on_error)
        trainer.predict(module, datamodule=study.data, return_predictions=False)
    seconds = time.perf_counter() - begin
    skipped = {name for name, _ in writer.problems}
    done = [name for name in dataset.sample_ids if name not in skipped]
    writer.writer.merge([(name, finder.scorer.name) for finder in finders for name in done])
    metrics = {
        "images": len(done),
        "skipped_images": len(skipped),
        "wall_seconds": seconds,
        "images_per_second": len(done) / seconds,
        "device": device_name(study.session),
        "threads": threads,
        "mean_score": {
            scorer: rows["score"].to_numpy().mean().item()
            for scorer, rows in load_paths(run_dir).groupby("scorer", sort=False)
        },
    }
    write_json(run_dir / METRICS_FILE, metrics)
    return Searched(run_dir, metrics, writer.problems)
