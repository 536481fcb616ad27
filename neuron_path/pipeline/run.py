"""The commands `search`, `run` and `evaluate`: stages one after another in one run directory."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from neuron_path.config import Config, LinearProbeConfig
from neuron_path.pipeline.build import Study, build_study
from neuron_path.pipeline.evaluate import check_evaluation, evaluated, evaluation_stage
from neuron_path.pipeline.head import HEAD_FILE, ChosenHead, describe, store_head
from neuron_path.pipeline.report import report_stage
from neuron_path.pipeline.search import METRICS_FILE, RUN_FILE, Searched, search_stage, start, whole_or_absent
from neuron_path.pipeline.stored import open_study
from neuron_path.pipeline.threads import use_threads
from neuron_path.report.effects import read_effects
from neuron_path.report.markdown import markdown_table
from neuron_path.report.page import effects_table
from neuron_path.search.finder import PathFinder
from neuron_path.store.atomic import write_json
from neuron_path.store.layout import EFFECTS_FILE, PATHS_FILE, SCORES_FILE, open_run_dir
from neuron_path.store.reader import read_json
from neuron_path.tracking import Tracker, check_options, make_tracker


def search(config: Config, run_dir: Path) -> None:
    """`neuron-path search`: find and store the paths of the configured method."""
    with _begun(config, run_dir, (), "search") as (study, finders, provenance, tracker):
        searched = search_stage(config, study, finders, provenance, run_dir, tracker)
        tracker.finish(searched.metrics, result_files(run_dir))
    _say(searched, study.head)


def run(config: Config, run_dir: Path) -> None:
    """`neuron-path run`: search with baselines, check by interventions, draw and report."""
    check_evaluation(config.evaluation)
    with _begun(config, run_dir, config.baselines, "run") as (study, finders, provenance, tracker):
        searched = search_stage(config, study, finders, provenance, run_dir, tracker)
        summary = evaluation_stage(config, study, run_dir, tracker)
        metrics = searched.metrics | {"effects": summary.to_dict(orient="records")}
        write_json(run_dir / METRICS_FILE, metrics)
        page = None
        if config.report:
            page = report_stage(run_dir, summary, searched.metrics, searched.problems, study.data.dataset, finders[0])
        tracker.finish(metrics, result_files(run_dir), {"effects": summary})
    _say(searched, study.head, page)


def evaluate(config: Config, overridden: Collection[str]) -> None:
    """`neuron-path evaluate`: measure paths that were found earlier; what was measured of them then is replaced."""
    check_evaluation(config.evaluation)
    options = asdict(config.logger)
    check_options(options)
    stored = open_study(config, overridden)
    run_dir, group = stored.run_dir, stored.provenance["config"]["logger"]["group"]
    use_threads(config.trainer.threads, stored.study.session, stored.study.data.dataset)
    provenance = evaluated(stored.provenance, stored.config)
    tracker = make_tracker(run_dir, provenance, options | {"group": options["group"] or group}, "evaluate")
    try:
        summary = evaluation_stage(stored.config, stored.study, run_dir, tracker)
        metrics = read_json(run_dir / METRICS_FILE) | {"effects": summary.to_dict(orient="records")}
        write_json(run_dir / METRICS_FILE, metrics)
        tracker.finish(metrics, result_files(run_dir), {"effects": summary})
    except BaseException:
        tracker.fail()
        raise
    console = Console(highlight=False, soft_wrap=True)
    console.print(markdown_table(effects_table(read_effects(summary))), markup=False)
    console.print(f"Effects: {run_dir / EFFECTS_FILE}")
    console.print(f"Scores:  {run_dir / SCORES_FILE}")


def result_files(run_dir: Path) -> list[Path]:
    """What a run directory holds of the store, the numbers and the report."""
    names = (PATHS_FILE, EFFECTS_FILE, SCORES_FILE, RUN_FILE, METRICS_FILE)
    stored = [run_dir / name for name in names if (run_dir / name).exists()]
    return [*stored, *sorted(run_dir.glob("report.*")), *sorted((run_dir / "figures").glob("*.png"))]


@contextmanager
def _begun(
    config: Config, run_dir: Path, baselines: Sequence[str], job_type: str
) -> Iterator[tuple[Study, list[PathFinder], dict[str, Any], Tracker]]:
    """Build everything, write `run.json`, and see a failure through."""
    options = asdict(config.logger)
    check_options(options)
    if isinstance(config.head, LinearProbeConfig):
        open_run_dir(run_dir)  # fitting may take long: refuse a directory with results before it
    study = build_study(config)
    finders, provenance = start(config, study, baselines, run_dir)
    with whole_or_absent(run_dir):
        tracker = make_tracker(run_dir, provenance, options, job_type)
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
