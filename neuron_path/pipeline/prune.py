"""The command `prune`: from a finished run's paths to a smaller model, and how it compares with other ways to prune."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from rich.console import Console
from torch import Tensor, nn

from neuron_path.errors import NeuronPathError
from neuron_path.evaluation.pruning import ORIGINAL, RECORD_COLUMNS, summarise_pruning
from neuron_path.lightning.fine_tuning import fine_tune
from neuron_path.pipeline.prune_config import PruneConfig, recipe_of
from neuron_path.pipeline.prune_study import Images, PruneStudy, architecture, open_run
from neuron_path.pipeline.search import METRICS_FILE, weights_of
from neuron_path.pipeline.threads import use_threads
from neuron_path.progress import progress_bar
from neuron_path.pruning.activations import mean_activations
from neuron_path.pruning.cost import count_flops, count_parameters, measure_latency
from neuron_path.pruning.description import DESCRIPTION_FILE
from neuron_path.pruning.methods import Selection, rank
from neuron_path.pruning.onnx import export_onnx
from neuron_path.pruning.predictions import class_probabilities, prune_model
from neuron_path.pruning.ranking import Ranking, hidden_widths
from neuron_path.pruning.saved import WEIGHTS_FILE, save_pruned
from neuron_path.report.figures.pruning_curve import pruning_curve_figure
from neuron_path.report.markdown import markdown_table
from neuron_path.report.pruning import cost_table, curve_table, pruning_page, verdict_table
from neuron_path.report.style import save_figure
from neuron_path.store.atomic import write_json, write_text
from neuron_path.store.parquet import write_parquet
from neuron_path.store.provenance import collect_provenance
from neuron_path.tracking import check_options, make_tracker

RECORDS_FILE = "pruning.parquet"
TABLE_FILE = "pruning.csv"
PAGE_FILE = "pruning.md"
ONNX_FILE = "model.onnx"

ALL, CHOSEN, OTHERS = "all", "chosen", "others"
"""Groups of images: all of them, or those of the classes to specialise in and of the other ones."""


@dataclass(frozen=True)
class _Trial:
    """One seed's images, and the rankings made of those that select."""

    seed: int
    selection: Images
    evaluation: Images
    rankings: dict[str, tuple[Ranking, Ranking]]
    means: Sequence[Tensor] | None


def prune(config: PruneConfig, out: Path) -> None:
    """`neuron-path prune`: save the pruned model into `out` with its costs, its accuracy and the curve of all methods.

    Raises:
        NeuronPathError: a directory that holds a pruned model already, or whatever is wrong with the run or settings.
    """
    options = asdict(config.logger)
    check_options(options)
    if (out / DESCRIPTION_FILE).exists() or (out / RECORDS_FILE).exists():
        raise NeuronPathError(f"'{out}' already holds a pruned model: choose another one with hydra.run.dir=DIR.")
    assert config.run_dir is not None
    names = ("trainer", "logger", "evaluate_on", "classes")
    given = {name: getattr(config, name) for name in names}
    given |= {name: getattr(config, f"path_{name}") for name in ("scorer", "search", "top_k")}
    study = open_run(config.run_dir, **given)
    threads = use_threads(config.trainer.threads, study.study.session, study.study.data.dataset)
    made = _made_from(config, study)
    tracker = make_tracker(out, collect_provenance(asdict(config), **made), options, "prune")
    try:
        trials = [_trial(config, study, seed) for seed in config.seeds]
        records, chosen, kept = _measure(config, study, trials)
        made |= {"kept_neurons": [len(neurons) for neurons in kept], "images": _counts(trials)}
        _save(config, study, chosen, out, made)
        selection = {str(trial.seed): trial.selection.names for trial in trials}
        _write_records(records, out, collect_provenance(asdict(config), **made, selection=selection))
        summary = summarise_pruning(records, config.method)
        metrics = _costs(config, study.model, chosen) | {"threads": threads, "images": _counts(trials)}
        metrics["pruning"] = summary.to_dict(orient="records")
        write_json(out / METRICS_FILE, metrics)
        files = _report(config, study, summary, metrics, out)
        tracker.finish(metrics, files, {"pruning": summary})
    except BaseException:
        tracker.fail()
        raise
    _say(config, summary, metrics, out)


def _trial(config: PruneConfig, study: PruneStudy, seed: int) -> _Trial:
    selection, evaluation = study.split(config.selection_share, seed)
    seen = Selection(
        study.model,
        selection.images,
        torch.tensor([int(target) for target in study.paths.loc[selection.names, "target"]]),
        study.paths.loc[selection.names],
        seed,
        study.token_scope,
    )
    names = dict.fromkeys([config.method, *config.methods])
    rankings = {}
    with progress_bar() as bar:
        for name in bar.track(names, description=f"Ranking, seed {seed}"):
            rankings[name] = rank(name, seen)
    means = mean_activations(study.model, selection.images, token_scope=study.token_scope) if config.fold else None
    return _Trial(seed, selection, evaluation, rankings, means)


def _measure(
    config: PruneConfig, study: PruneStudy, trials: Sequence[_Trial]
) -> tuple[pd.DataFrame, nn.Module, list[Tensor]]:
    """What every method's models say of the images that evaluate; and the model to save with the neurons it has."""
    first = (config.method, config.keep)
    names = dict.fromkeys([config.method, *config.methods]) if config.methods else ()
    plan = [first, *((name, share) for name in names for share in sorted({*config.shares, config.keep}))]
    plan = list(dict.fromkeys(plan))
    parts, chosen = [], None
    with progress_bar() as bar:
        task = bar.add_task("Pruned models", total=len(plan) * len(trials))
        for trial in trials:
            parts.append(_record(config, study, trial, ORIGINAL, 1.0, study.model))
            for name, share in plan:
                model, kept = _pruned(config, study, trial, name, share)
                chosen = chosen or (model, kept)
                parts.append(_record(config, study, trial, name, share, model))
                bar.advance(task)
    assert chosen is not None
    return pd.concat(parts, ignore_index=True), *chosen


def _pruned(
    config: PruneConfig, study: PruneStudy, trial: _Trial, method: str, share: float
) -> tuple[nn.Module, list[Tensor]]:
    ranking, then = trial.rankings[method]
    model, kept = prune_model(
        study.model,
        ranking,
        share,
        config.allocation,  # pyright: ignore[reportArgumentType]
        then=then,
        mean_activations=trial.means,
        token_scope=study.token_scope,
    )
    selection = trial.selection
    labels = torch.tensor(selection.classes)
    recipe, accelerator = recipe_of(config), config.trainer.accelerator
    return fine_tune(model, selection.images, labels, recipe, seed=trial.seed, accelerator=accelerator), kept


def _record(
    config: PruneConfig, study: PruneStudy, trial: _Trial, method: str, share: float, model: nn.Module
) -> pd.DataFrame:
    images = trial.evaluation
    probabilities = class_probabilities(model, images.images, config.batch_size).numpy()
    labels = np.asarray(images.classes)
    groups: Any = ALL
    if study.chosen is not None:
        groups = np.where(np.isin(labels, sorted(study.chosen)), CHOSEN, OTHERS)
    columns = {
        "seed": trial.seed,
        "method": method,
        "keep": float(share),
        "sample_id": images.names,
        "group": groups,
        "label": labels,
        "prediction": probabilities.argmax(1),
        "probability": probabilities[np.arange(len(labels)), labels],
    }
    return pd.DataFrame(columns)[list(RECORD_COLUMNS)]


def _costs(config: PruneConfig, original: nn.Module, pruned: nn.Module) -> dict[str, Any]:
    """What both models cost; the widths are those of the FFNs."""
    pair = {"original": original, "pruned": pruned}
    counted: dict[str, Any] = {
        "parameters": {name: count_parameters(model) for name, model in pair.items()},
        "flops": {name: count_flops(model) for name, model in pair.items()},
        "neurons": {name: sum(hidden_widths(model)) for name, model in pair.items()},
        "latency": [],
    }
    if config.latency.rounds:
        options = config.latency
        measured = measure_latency(original, pruned, options.batch_sizes, options.rounds, options.seconds)
        counted["latency"] = [asdict(one) | {"speedup": one.speedup} for one in measured]
    return counted


def _save(config: PruneConfig, study: PruneStudy, model: nn.Module, out: Path, made: dict[str, Any]) -> None:
    name, kwargs = architecture(study.config.model)
    save_pruned(model, out, name=name, kwargs=kwargs, classes=study.class_names, provenance=made)
    if config.onnx:
        export_onnx(model, out / ONNX_FILE)


def _write_records(records: pd.DataFrame, out: Path, provenance: dict[str, Any]) -> None:
    write_parquet(out / RECORDS_FILE, pa.Table.from_pandas(records, preserve_index=False), provenance)


def _report(
    config: PruneConfig, study: PruneStudy, summary: pd.DataFrame, metrics: dict[str, Any], out: Path
) -> list[Path]:
    """The table, the figure and the page."""
    write_text(out / TABLE_FILE, summary.to_csv(index=False, float_format="%.12g", lineterminator="\n"))
    figures: list[Path] = []
    if config.methods:
        names = [study.class_names[index] for index in sorted(study.chosen or ())]
        figure = pruning_curve_figure(summary, chosen=names)
        figures = list(save_figure(figure, out / "figures" / "pruning"))
    page = pruning_page(summary, metrics, config.method, config.keep, str(config.run_dir), has_figure=bool(figures))
    write_text(out / PAGE_FILE, page)
    names = (DESCRIPTION_FILE, WEIGHTS_FILE, RECORDS_FILE, TABLE_FILE, PAGE_FILE, METRICS_FILE, ONNX_FILE)
    return [*(out / name for name in names if (out / name).exists()), *figures]


def _made_from(config: PruneConfig, study: PruneStudy) -> dict[str, Any]:
    """What made the model, beside the settings."""
    known = ("model", "weight_hash", "scorer", "search", "top_k", "data", "preprocessing")
    run = {name: study.provenance.get(name) for name in known} | {"run_dir": config.run_dir}
    return {"run": run, "pruning": asdict(config), "original_weight_hash": weights_of(study.study)}


def _counts(trials: Sequence[_Trial]) -> dict[str, list[int]]:
    """How many images selected and how many evaluated, for each seed."""
    return {
        "selection": [len(trial.selection) for trial in trials],
        "evaluation": [len(trial.evaluation) for trial in trials],
    }


def _say(config: PruneConfig, summary: pd.DataFrame, metrics: dict[str, Any], out: Path) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for text in _tables(config, summary, metrics):
        console.print(text, markup=False)
        console.print()
    console.print(f"Model:  {out}")
    console.print(f"Report: {out / PAGE_FILE}")


def _tables(config: PruneConfig, summary: pd.DataFrame, metrics: dict[str, Any]) -> Iterator[str]:
    yield markdown_table(cost_table(summary, metrics, config.method, config.keep))
    if config.methods:
        for group in summary["group"].unique():
            yield markdown_table(curve_table(summary, group))
            yield markdown_table(verdict_table(summary, group, config.method))
