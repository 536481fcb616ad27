"""The search stage: from images to `paths.parquet`, `run.json` and `metrics.json`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from neuron_path.config import Config
from neuron_path.errors import NeuronPathError
from neuron_path.lightning.callbacks import ImageProgress, ResultWriter, StreamMetrics
from neuron_path.lightning.module import PathSearchModule
from neuron_path.pipeline.build import Study, build_finders, build_trainer, device_name, predict
from neuron_path.pipeline.head import HEAD_FILE
from neuron_path.pipeline.threads import use_threads
from neuron_path.search.finder import PathFinder
from neuron_path.store.atomic import write_json
from neuron_path.store.layout import PARTS_DIRECTORY, PATHS_FILE, list_parts, open_run_dir
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


def provenance_of(config: Config, study: Study, finders: Sequence[PathFinder]) -> dict[str, Any]:
    """Everything the numbers depend on."""
    first = finders[0]
    return collect_provenance(
        asdict(config),
        model=config.model.name,
        head=None if study.head is None else study.head.record,
        weight_hash=weights_of(study),
        data=config.data.name,
        folder=getattr(config.data, "root", None),
        n_images=len(study.data.dataset),
        preprocessing=study.data.dataset.preprocessing,
        classes=list(study.data.dataset.classes),
        scorer=first.scorer.name,
        baselines=[finder.scorer.name for finder in finders[1:]],
        search=first.search.name,
        measure="joint",
        target=first.target,
        quadrature=first.quadrature.rule,
        n_steps=first.quadrature.n_steps,
        token_scope=study.session.adapter.scope.name,
        top_k=first.top_k,
        n_neurons=[block.n_neurons for block in study.session.adapter.blocks],
    )


def weights_of(study: Study) -> str:
    """The hash of the model's weights."""
    state = study.session.model.state_dict()
    return weight_hash((name, tensor.cpu().numpy()) for name, tensor in state.items())


def start(
    config: Config, study: Study, baselines: Sequence[str], run_dir: Path
) -> tuple[list[PathFinder], dict[str, Any]]:
    """Check the methods and the device, then open the run directory: from here on there may be files."""
    finders = build_finders(config, study.session, baselines)
    build_trainer(config, [])
    provenance = provenance_of(config, study, finders)
    open_run_dir(run_dir)
    return finders, provenance


@contextmanager
def whole_or_absent(run_dir: Path) -> Iterator[None]:
    """When the run fails before its first batch is stored, leave none of its files; what is stored stays."""
    try:
        yield
    except BaseException:
        if not (run_dir / PATHS_FILE).exists() and not list_parts(run_dir).parts:
            with suppress(OSError):
                (run_dir / RUN_FILE).unlink(missing_ok=True)
                (run_dir / HEAD_FILE).unlink(missing_ok=True)
                (run_dir / PARTS_DIRECTORY).rmdir()
        raise


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
    module = PathSearchModule(finders, study.targets, config.data.on_error)
    device = predict(build_trainer(config, callbacks), module, study.data)
    seconds = time.perf_counter() - begin
    skipped = {name for name, _ in writer.problems}
    done = [name for name in dataset.sample_ids if name not in skipped]
    if not done:
        name, reason = writer.problems[0]
        raise NeuronPathError(f"None of the {len(skipped)} images can be read; the first is '{name}' ({reason}).")
    writer.writer.merge([(name, finder.scorer.name) for finder in finders for name in done])
    by_scorer = list(load_paths(run_dir).groupby("scorer", sort=False))
    metrics = {
        "images": len(done),
        "skipped_images": len(skipped),
        "wall_seconds": seconds,
        "images_per_second": len(done) / seconds,
        "device": device_name(device),
        "threads": threads,
        "precision": finders[0].arithmetic_on(device).precision,
        "mean_n_steps": {scorer: own["n_steps"].to_numpy().mean().item() for scorer, own in by_scorer},
        "mean_score": {scorer: own["score"].to_numpy().mean().item() for scorer, own in by_scorer},
    }
    write_json(run_dir / METRICS_FILE, metrics)
    return Searched(run_dir, metrics, writer.problems)
