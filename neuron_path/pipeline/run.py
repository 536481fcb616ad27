"""The commands `search` and `run`: stages one after another in one run directory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from neuron_path.config import Config
from neuron_path.pipeline.build import Study, build_study
from neuron_path.pipeline.effects import check_operations, effects_stage
from neuron_path.pipeline.report import report_stage
from neuron_path.pipeline.search import METRICS_FILE, Searched, search_stage, start
from neuron_path.search.finder import PathFinder
from neuron_path.store.atomic import write_json
from neuron_path.store.layout import PATHS_FILE
from neuron_path.tracking import Tracker, make_tracker


def search(config: Config, plain: Mapping[str, Any], run_dir: Path) -> None:
    """`neuron-path search`: find and store the paths of the configured method."""
    study, finders, provenance, tracker = _begin(config, plain, run_dir, baselines=())
    try:
        searched = search_stage(config, study, finders, provenance, run_dir, tracker)
        tracker.finish(searched.metrics, [run_dir / PATHS_FILE])
    except BaseException:
        tracker.fail()
        raise
    _say(searched)


def run(config: Config, plain: Mapping[str, Any], run_dir: Path) -> None:
    """`neuron-path run`: search with baselines, check by interventions, draw and report."""
    check_operations(config.operations)
    study, finders, provenance, tracker = _begin(config, plain, run_dir, config.baselines)
    try:
        searched = search_stage(config, study, finders, provenance, run_dir, tracker)
        summary = effects_stage(config, study, run_dir)
        metrics = searched.metrics | {"effects": summary.to_dict(orient="records")}
        write_json(run_dir / METRICS_FILE, metrics)
        page = report_stage(run_dir, summary, searched.metrics, searched.problems, study.data.dataset, finders[0])
        tracker.finish(metrics, [run_dir / PATHS_FILE, page, *sorted((run_dir / "figures").glob("*.png"))])
    except BaseException:
        tracker.fail()
        raise
    _say(searched, page)


def _begin(
    config: Config, plain: Mapping[str, Any], run_dir: Path, baselines: Sequence[str]
) -> tuple[Study, list[PathFinder], dict[str, Any], Tracker]:
    study = build_study(config)
    finders, provenance = start(config, plain, study, baselines, run_dir)
    return study, finders, provenance, make_tracker(run_dir, provenance, asdict(config.logger))


def _say(searched: Searched, page: Path | None = None) -> None:
    console = Console(highlight=False, soft_wrap=True)
    metrics = searched.metrics
    skipped = f", {metrics['skipped_images']} skipped" if metrics["skipped_images"] else ""
    console.print(f"{metrics['images']} images{skipped}, {metrics['images_per_second']:.1f} images/s")
    console.print(f"Paths:  {searched.run_dir / PATHS_FILE}")
    if page is not None:
        console.print(f"Report: {page}")
