"""The commands `search`, `run` and `evaluate`: stages one after another in one run directory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from neuron_path.config import Config, FileHeadConfig, FittedHeadConfig, located
from neuron_path.errors import NeuronPathError, unknown_name
from neuron_path.pipeline.build import build_work
from neuron_path.pipeline.evaluate import check_evaluation, evaluated, evaluation_stage
from neuron_path.pipeline.evidence import evidence_stage
from neuron_path.pipeline.head import HEAD_FILE, describe, store_head
from neuron_path.pipeline.launch.processes import Processes, find_processes
from neuron_path.pipeline.launch.runner import Runner
from neuron_path.pipeline.launch.workers import Crew
from neuron_path.pipeline.records.stored import open_study
from neuron_path.pipeline.report import report_stage
from neuron_path.pipeline.search import Searched, provenance_of, search_stage, whole_or_absent
from neuron_path.pipeline.stages import stage_of
from neuron_path.pipeline.work import Study, Work
from neuron_path.report.effects import read_effects
from neuron_path.report.markdown import markdown_table
from neuron_path.report.run_page.headline import effects_in_words, effects_table
from neuron_path.store.atomic import write_json
from neuron_path.store.checksums import stored_files, write_checksums
from neuron_path.store.identity import differences
from neuron_path.store.layout import (
    EFFECTS_FILE,
    EVALUATION,
    EVIDENCE,
    METRICS_FILE,
    PATHS_FILE,
    RUN_FILE,
    SCORES_FILE,
    SEARCH,
    SKIPPED_FILE,
    make_run_dir,
    open_run_dir,
)
from neuron_path.store.lock import locked
from neuron_path.store.reader import read_json
from neuron_path.store.recovery import Opened, open_search
from neuron_path.store.schema import path_schema
from neuron_path.tracking import NullTracker, Tracker, check_options, make_tracker

RESUME_MODES = ("same", "force")
_ELSEWHERE = ", or choose another directory with hydra.run.dir=DIR"


@dataclass(frozen=True)
class Job:
    """A run about to begin, or to go on, as its first process sees it.

    Attributes:
        work: what is done.
        crew: who does it.
        opened: what is done of the search already.
        tracker: where numbers are streamed to.
    """

    work: Work
    crew: Crew
    opened: Opened
    tracker: Tracker


def search(config: Config, run_dir: Path, expected: Mapping[str, Any] | None = None) -> None:
    """`neuron-path search`: find and store the paths of the configured method, or go on where it was stopped.

    Args:
        config: the configuration.
        run_dir: where the results go.
        expected: the identity that the search must have; None takes any.
    """
    check_evaluation(config.evaluation, is_measured=False)
    evidence = [EVIDENCE] if config.evidence else []
    with _begun(config, run_dir, (), "search", [SEARCH, *evidence], expected) as job:
        if job is None:
            return
        searched = search_stage(job.work, run_dir, job.crew, job.opened)
        if evidence:
            evidence_stage(job.work, run_dir, job.crew)
        write_checksums(run_dir, stored_files(run_dir))
        job.tracker.finish(searched.metrics, result_files(run_dir))
    _say(searched, job.work.study)


def run(config: Config, run_dir: Path, expected: Mapping[str, Any] | None = None) -> None:
    """`neuron-path run`: search with baselines, check by interventions, draw and report; arguments as of `search`."""
    check_evaluation(config.evaluation)
    if (config.report or config.evidence) and not config.per_block:
        raise NeuronPathError(
            "Report and evidence take paths block by block, and have nothing to show of neurons of any blocks "
            "(per_block=false): add report=false evidence=false."
        )
    evidence = [EVIDENCE] if config.evidence else []
    with _begun(config, run_dir, config.baselines, "run", [SEARCH, *evidence, EVALUATION], expected) as job:
        if job is None:
            return
        searched, study = search_stage(job.work, run_dir, job.crew, job.opened), job.work.study
        if evidence:
            evidence_stage(job.work, run_dir, job.crew)
        found = evaluation_stage(job.work, run_dir, job.crew)
        metrics = searched.metrics | found.metrics
        write_json(run_dir / METRICS_FILE, metrics)
        page = None
        if config.report:
            study.session.model.to(job.crew.device)
            page = report_stage(run_dir, study.data.dataset, job.work.finder)
        write_checksums(run_dir, stored_files(run_dir))
        job.tracker.finish(metrics, result_files(run_dir), {"effects": found.summary})
    _say(searched, study, page, effects_in_words(read_effects(found.summary, found.quantity)))


def evaluate(config: Config, overridden: Collection[str]) -> None:
    """`neuron-path evaluate`: measure paths that were found earlier; what was measured of them then is replaced."""
    check_evaluation(config.evaluation)
    options = asdict(config.logger)
    check_options(options)
    processes = find_processes(config)
    if not processes.is_first:
        stored = open_study(config, overridden)
        _follow(processes, stored.config, stored.work, stored.run_dir, [EVALUATION])
        return
    with _held(config.run_dir) as lock:
        stored = open_study(config, overridden)
        run_dir, group = stored.run_dir, stored.provenance["config"]["logger"]["group"]
        provenance = evaluated(stored.provenance, stored.work)
        tracker = make_tracker(run_dir, provenance, options | {"group": options["group"] or group}, "evaluate")
        try:
            with processes.crew(stored.config, stored.work, run_dir, tracker, lock) as crew:
                found = evaluation_stage(stored.work, run_dir, crew, anew=True)
            metrics = read_json(run_dir / METRICS_FILE) | found.metrics
            write_json(run_dir / METRICS_FILE, metrics)
            write_checksums(run_dir, stored_files(run_dir))
            tracker.finish(metrics, result_files(run_dir), {"effects": found.summary})
        except BaseException:
            tracker.fail()
            raise
    console = Console(highlight=False, soft_wrap=True)
    console.print(markdown_table(effects_table(read_effects(found.summary, found.quantity))), markup=False)
    console.print(f"Effects: {run_dir / EFFECTS_FILE}")
    console.print(f"Scores:  {run_dir / SCORES_FILE}")


def _follow(processes: Processes, config: Config, work: Work, run_dir: Path, stages: Sequence[str]) -> None:
    """Do the shares of a process that is not the first one of those started outside."""
    with processes.crew(config, work, run_dir, NullTracker(), None) as crew:
        assert isinstance(crew, Runner)
        for name in stages:
            crew.follow(partial(stage_of, name, work, run_dir))


def _held(run_dir: str | None) -> AbstractContextManager[int | None]:
    """Keep searches and other evaluations out of a run directory; what is none is refused where it is opened."""
    return locked(Path(run_dir)) if run_dir is not None and Path(run_dir).is_dir() else nullcontext()


def result_files(run_dir: Path) -> list[Path]:
    """What a run directory holds of the store, the numbers and the report."""
    return [*stored_files(run_dir), *sorted(run_dir.glob("report.*")), *sorted((run_dir / "figures").glob("*.png"))]


@contextmanager
def _begun(
    config: Config,
    run_dir: Path,
    baselines: Sequence[str],
    command: str,
    stages: Sequence[str],
    expected: Mapping[str, Any] | None,
) -> Iterator[Job | None]:
    """Build everything, open the run directory, write `run.json`, and see a failure through.

    Gives None in a process that has done its shares of another one's stages.
    """
    if config.resume_mode not in RESUME_MODES:
        raise unknown_name("way to resume (resume_mode)", config.resume_mode, RESUME_MODES)
    config = located(config)
    options = asdict(config.logger)
    check_options(options)
    processes = find_processes(config)
    built = _with_stored_head(config, run_dir)
    if isinstance(built.head, FittedHeadConfig) and config.resume_mode != "force":
        open_run_dir(run_dir)  # fitting may take long, and the head would be another one: refuse before
    work = build_work(built, baselines, processes.device)
    study = work.study
    provenance = provenance_of(config, work, command)
    if expected is not None and (changed := differences(expected, provenance["identity"])):
        raise NeuronPathError(f"This would be another search than that one: {'; '.join(changed)}.")
    if not processes.is_first:
        _follow(processes, config, work, run_dir, stages)
        yield None
        return
    make_run_dir(run_dir)
    with locked(run_dir, otherwise=_ELSEWHERE) as lock, whole_or_absent(run_dir):
        methods = [(method.scorer.name, method.search.name) for method in work.finder.methods]
        schema, force = path_schema(config.top_k), config.resume_mode == "force"
        opened = open_search(run_dir, schema, provenance, methods, force=force)
        tracker = make_tracker(run_dir, opened.provenance, options, command)
        try:
            is_done = opened.done.issuperset(study.data.dataset.sample_ids) and not opened.provenance.get("forced")
            if not is_done or not (run_dir / RUN_FILE).exists():
                write_json(run_dir / RUN_FILE, opened.provenance)
            if study.head is not None:
                store_head(study.head, run_dir)
            with processes.crew(config, work, run_dir, tracker, lock) as crew:
                yield Job(work, crew, opened, tracker)
        except BaseException:
            tracker.fail()
            raise


def _with_stored_head(config: Config, run_dir: Path) -> Config:
    """Of a search that is continued, the head is the one that was fitted then."""
    file = run_dir / HEAD_FILE
    if isinstance(config.head, FittedHeadConfig) and file.exists():
        stored = read_json(run_dir / RUN_FILE).get("config", {}).get("head")
        if stored == asdict(config.head):
            return replace(config, head=FileHeadConfig(path=str(file)))
    return config


def _say(searched: Searched, study: Study, page: Path | None = None, effects: Sequence[str] = ()) -> None:
    console = Console(highlight=False, soft_wrap=True)
    metrics = searched.metrics
    skipped = f", {metrics['skipped_images']} skipped" if metrics["skipped_images"] else ""
    images = f"{metrics['images']} image{'s' if metrics['images'] > 1 else ''}"
    before = searched.n_before
    earlier = f", {'all' if before == metrics['images'] else before} found before" if before else ""
    speed = metrics["images_per_second"]
    shown = f", {speed:.1f} images/s" if speed and before < metrics["images"] else ""
    console.print(f"{images}{skipped}{earlier}{shown}")
    if left_out := _left_out(metrics["skipped_images"], getattr(study.data.dataset, "left_out", {})):
        console.print(f"Left out: {left_out}", markup=False)
    for sentence in effects:
        console.print(sentence, markup=False)
    head = study.head
    if head is not None and head.is_new:
        console.print(f"Head:   {searched.run_dir / HEAD_FILE}, {describe(head.record)}")
    console.print(f"Paths:  {searched.run_dir / PATHS_FILE}")
    if page is not None:
        console.print(f"Report: {page}")


def _left_out(n_broken: int, others: Mapping[str, int]) -> str:
    """What the paths are not of, in words.

    >>> _left_out(2, {"other file": 1, "unlabelled picture": 0})
    '2 broken pictures (skipped.json), 1 other file'
    """
    counts = {"broken picture": n_broken, **others}
    words = {what: f"{n} {what}{'s' if n > 1 else ''}" for what, n in counts.items() if n}
    if n_broken:
        words["broken picture"] += f" ({SKIPPED_FILE})"
    return ", ".join(words.values())


# From a command's name to what it does; `run.json` keeps the name.
COMMANDS: dict[str, Callable[..., None]] = {"search": search, "run": run}
