"""The search stage: from images to `paths.parquet`, `run.json` and `metrics.json`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from neuron_path.config import Config
from neuron_path.errors import NeuronPathError
from neuron_path.lightning.search import PathSearch
from neuron_path.lightning.stage import too_many_skipped
from neuron_path.pipeline.build import model_name
from neuron_path.pipeline.head import HEAD_FILE
from neuron_path.pipeline.launch.runner import Share
from neuron_path.pipeline.launch.workers import Crew
from neuron_path.pipeline.records.identity import identity_of
from neuron_path.pipeline.work import Study, Work
from neuron_path.store.atomic import write_json
from neuron_path.store.layout import METRICS_FILE, PARTS_DIRECTORY, PATHS_FILE, RUN_FILE, list_parts
from neuron_path.store.merge import merge_parts
from neuron_path.store.provenance import collect_provenance, weight_hash
from neuron_path.store.reader import load_paths, read_json
from neuron_path.store.recovery import Opened
from neuron_path.store.skipped import forget_skipped, read_skipped


@dataclass(frozen=True)
class Searched:
    """What the search stage hands on, beside the files.

    Attributes:
        run_dir: where the results are.
        metrics: images, speed and mean scores.
        problems: (name, reason) of skipped images.
        n_before: how many images were done by earlier searches in this directory.
    """

    run_dir: Path
    metrics: dict[str, Any]
    problems: list[tuple[str, str]]
    n_before: int = 0


def provenance_of(config: Config, work: Work, command: str) -> dict[str, Any]:
    """Everything the numbers depend on."""
    study, finder, settings = work.study, work.finder, work.finder.settings
    method, weights = finder.method, weights_of(study)
    return collect_provenance(
        asdict(config),
        command=command,
        identity=identity_of(config, work, weights),
        model=model_name(config, study.session.model),
        head=None if study.head is None else study.head.record,
        weight_hash=weights,
        data=config.data.name,
        folder=getattr(config.data, "root", None),
        n_images=len(study.data.dataset),
        preprocessing=study.data.dataset.preprocessing,
        classes=list(study.data.dataset.classes),
        scorer=method.scorer.name,
        baselines=[baseline.scorer.name for baseline in finder.baselines],
        search=method.search.name,
        measure=method.search.maximises,
        target=settings.target.name,
        quadrature=settings.quadrature.rule,
        n_steps=settings.quadrature.n_steps,
        token_scope=study.session.adapter.scope.name,
        **({} if config.units == "ffn" else {"units": config.units}),
        top_k=settings.top_k,
        n_neurons=[block.n_neurons for block in study.session.adapter.blocks],
    )


def weights_of(study: Study) -> str:
    """The hash of the model's weights."""
    state = study.session.model.state_dict()
    return weight_hash((name, tensor.cpu().numpy()) for name, tensor in state.items())


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
                forget_skipped(run_dir)
                (run_dir / PARTS_DIRECTORY).rmdir()
        raise


def search_of(work: Work, provenance: Mapping[str, Any]) -> PathSearch:
    """The search as a stage; the provenance is kept with its rows."""
    return PathSearch(work.finder, work.study.targets, provenance, work.on_error, work.max_skipped)


def search_stage(work: Work, run_dir: Path, crew: Crew, opened: Opened) -> Searched:
    """Find the paths of all images that are left with all methods, storing them as batches finish.

    Args:
        work: model, data and methods.
        run_dir: where the search is kept.
        crew: who does it.
        opened: what is done there already.

    Raises:
        NeuronPathError: an image that cannot be read (unless skipped), or results that do not cover every image.
        Terminated: the program was asked to end, and every finished batch is stored.
    """
    names, stage = work.study.data.dataset.sample_ids, search_of(work, opened.provenance)
    left = [place for place, name in enumerate(names) if name not in opened.done]
    shares = crew.run(stage, left)
    problems = read_skipped(run_dir)
    skipped = {name for name, _ in problems}
    done = [name for name in names if name not in skipped]
    limit = work.max_skipped
    if limit is not None and len(problems) > limit:  # each process has counted its own
        raise too_many_skipped(len(problems), limit, *problems[-1])
    if not done:
        name, reason = problems[0]
        raise NeuronPathError(f"None of the {len(skipped)} images can be read; the first is '{name}' ({reason}).")
    forced = bool(opened.provenance.get("forced"))
    if shares or forced or not (run_dir / PATHS_FILE).exists():
        keys = [(name, method.scorer.name) for method in work.finder.methods for name in done]
        merge_parts(run_dir, stage.schema, opened.provenance, keys, keep_others=forced)
    counts = {"images": len(done), "skipped_images": len(skipped), "images_done_before": len(names) - len(left)}
    metrics = counts | _speed(run_dir, len(left) - len(skipped), crew.count, shares) | _means(run_dir)
    write_json(run_dir / METRICS_FILE, metrics)
    return Searched(run_dir, metrics, problems, len(names) - len(left))


def _speed(run_dir: Path, n_images: int, n_processes: int, shares: Sequence[Share]) -> dict[str, Any]:
    """How fast a search was, start-up excluded; where nothing new was found, how fast it was then."""
    kept = {} if n_images else read_json(run_dir / METRICS_FILE)
    if kept or not shares:
        return {name: kept.get(name) for name in _SPEED}
    seconds = max(share.seconds for share in shares)
    speed = n_images / seconds if seconds else None
    first = shares[0]
    return dict(zip(_SPEED, (seconds, speed, first.device, n_processes, first.threads, first.precision), strict=True))


def _means(run_dir: Path) -> dict[str, Any]:
    by_scorer = list(load_paths(run_dir).groupby("scorer", sort=False))
    return {
        "mean_n_steps": {scorer: own["n_steps"].to_numpy().mean().item() for scorer, own in by_scorer},
        "mean_score": {scorer: own["score"].to_numpy().mean().item() for scorer, own in by_scorer},
    }


_SPEED = ("wall_seconds", "images_per_second", "device", "processes", "threads", "precision")
