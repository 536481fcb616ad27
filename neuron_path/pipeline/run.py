"""The commands `search` and `run`: stages one after another in one run directory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from neuron_path.config import Config, LinearProbeConfig
from neuron_path.pipeline.build import Study, build_study
from neuron_path.pipeline.effects import check_operations, effects_stage
from neuron_path.pipeline.head import HEAD_FILE, ChosenHead, describe, store_head
from neuron_path.pipeline.report import report_stage
from neuron_path.pipeline.search import METRICS_FILE, RUN_FILE, Searched, search_stage, start, whole_or_absent
from neuron_path.search.finder import PathFinder
from neuron_path.store.atomic import write_json
from neuron_path.store.layout import PATHS_FILE, open_run_dir
from neuron_path.tracking import Tracker, check_options, make_tracker


def search(config: Config, run_dir: Path) -> None:
    """`neuron-path search`: find and store the paths of the configured method."""
    with _begun(config, run_dir, baselines=()) as (study, finders, provenance, tracker):
        searched = search_stage(config, study, finders, provenance, run_dir, tracker)
        tracker.finish(searched.metrics, [run_dir / PATHS_FILE])
    _say(searched, study.head)


def run(config: Config, run_dir: Path) -> None:
    """`neuron-path run`: search with baselines, check by interventions, draw and report."""
    check_operations(config.operations)
    with _begun(config, run_dir, config.baselines) as (study, finders, provenance, tracker):
        searched = search_stage(config, study, finders, provenance, run_dir, tracker)
        summary = effects_stage(config, study, run_dir)
        metrics = searched.metrics | {"effects": summary.to_dict(orient="records")}
        write_json(run_dir / METRICS_FILE, metrics)
        page = report_stage(run_dir, summary, searched.metrics, searched.problems, study.data.dataset, finders[0])
        tracker.finish(metrics, [run_dir / PATHS_FILE, page, *sorted((run_dir / "figures").glob("*.png"))])
    _say(searched, study.head, page)


@contextmanager
def _begun(
    config: Config, run_dir: Path, baselines: Sequence[str]
) -> Iterator[tuple[Study, list[PathFinder], dict[str, Any], Tracker]]:
    """Build everything, write `run.json`, and see a failure through."""
    options = asdict(config.logger)
    check_options(options)
    if isinstance(config.head, LinearProbeConfig):
        open_run_dir(run_dir)  # fitting may take long: refuse a directory with results before it
    study = build_study(config)
    finders, provenance = start(config, study, baselines, run_dir)
    with whole_or_absent(run_dir):
        tracker = make_tracker(run_dir, provenance, options)
        try:
            write_json(run_dir / RUN_FILE, provenance)
            if study.head is not None:
                store_head(study.head, run_dir)
            yield study, finders, provenance, tracker
        except BaseException:
            tracker.fail()
            raise


def _say(searched: Searched, head: ChosenHead | None, page: Path | None = None) -> None:
    console = Console(highlight=False, soft_wrap=True)
    metrics = searched.metrics
    skipped = f", {metrics['skipped_images']} skipped" if metrics["skipped_images"] else ""
    images = f"{metrics['images']} image{'s' if metrics['images'] > 1 else ''}"
    console.print(f"{images}{skipped}, {metrics['images_per_second']:.1f} images/s")
    if head is not None and head.is_new:
        console.print(f"Head:   {searched.run_dir / HEAD_FILE}, {describe(head.record)}")
    console.print(f"Paths:  {searched.run_dir / PATHS_FILE}")
    if page is not None:
        console.print(f"Report: {page}")
