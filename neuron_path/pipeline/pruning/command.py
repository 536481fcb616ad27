"""The command `prune`: from a finished run's paths to a smaller model, and how it compares with other ways to prune."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from rich.console import Console
from torch import nn

from neuron_path.errors import NeuronPathError
from neuron_path.evaluation.pruning import summarise_pruning
from neuron_path.pipeline.images import preprocessing_of
from neuron_path.pipeline.launch.threads import use_threads
from neuron_path.pipeline.pruning.settings import PruneConfig
from neuron_path.pipeline.pruning.study import PruneStudy, architecture, open_run
from neuron_path.pipeline.pruning.trials import Trial, every_unit, make_trial, measure_trials, pruned_model
from neuron_path.pipeline.search import METRICS_FILE, weights_of
from neuron_path.pruning.cost import count_flops, count_parameters, measure_latency, unit_costs
from neuron_path.pruning.description import DESCRIPTION_FILE
from neuron_path.pruning.onnx import export_onnx
from neuron_path.pruning.ranking import hidden_widths
from neuron_path.pruning.saved import WEIGHTS_FILE, save_pruned
from neuron_path.report.figures import pruning_curve_figure
from neuron_path.report.markdown import markdown_table
from neuron_path.report.pruning import UNITS, cost_table, curve_table, pruning_page, verdict_table
from neuron_path.report.style import save_figure
from neuron_path.store.atomic import write_json, write_text
from neuron_path.store.parquet import write_parquet
from neuron_path.store.provenance import collect_provenance
from neuron_path.tracking import check_options, make_tracker

RECORDS_FILE = "pruning.parquet"
TABLE_FILE = "pruning.csv"
PAGE_FILE = "pruning.md"
ONNX_FILE = "model.onnx"


def prune(config: PruneConfig, out: Path) -> None:
    """`neuron-path prune`: save the pruned model into `out` with its costs, its accuracy and the curve of all methods.

    Raises:
        NeuronPathError: a directory that holds a pruned model already, or whatever is wrong with the run or settings.
    """
    options = asdict(config.logger)
    check_options(options)
    if (out / DESCRIPTION_FILE).exists() or (out / RECORDS_FILE).exists():
        raise NeuronPathError(
            f"'{out}' already holds a pruned model: choose another one with hydra.run.dir=DIR, or remove it if it is "
            "what a failed run left."
        )
    assert config.run_dir is not None
    names = ("trainer", "logger", "evaluate_on", "classes")
    given = {name: getattr(config, name) for name in names}
    given |= {name: getattr(config, f"path_{name}") for name in ("scorer", "search", "top_k")}
    study = open_run(config.run_dir, **given)
    config = replace(config, units=config.units or study.units)
    threads = use_threads(config.trainer.threads)
    made = _made_from(config, study)
    tracker = make_tracker(out, collect_provenance(asdict(config), **made), options, "prune")
    try:
        trials = [make_trial(config, study, seed) for seed in config.seeds]
        costs = {}
        if config.budget == "flops":
            costs = {units: unit_costs(study.model, study.token_scope, units) for units in every_unit(config)}
        chosen, kept = pruned_model(config, study, trials[0], costs, config.method, config.keep)
        made |= {"kept_neurons": [len(neurons) for neurons in kept], "images": _counts(trials)}
        _save(config, study, chosen, out, made)
        records = measure_trials(config, study, trials, costs)
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


def _costs(config: PruneConfig, original: nn.Module, pruned: nn.Module) -> dict[str, Any]:
    """What both models cost, and how many FFN neurons they have; heads where these are pruned."""
    pair = {"original": original, "pruned": pruned}
    counted: dict[str, Any] = {
        "parameters": {name: count_parameters(model) for name, model in pair.items()},
        "flops": {name: count_flops(model) for name, model in pair.items()},
        "neurons": {name: sum(hidden_widths(model)) for name, model in pair.items()},
        "latency": [],
    }
    if any("heads" in units for units in every_unit(config)):
        counted["heads"] = {name: sum(hidden_widths(model, units="heads")) for name, model in pair.items()}
    if config.latency.rounds:
        options = config.latency
        measured = measure_latency(original, pruned, options.batch_sizes, options.rounds, options.seconds)
        counted["latency"] = [asdict(one) | {"speedup": one.speedup} for one in measured]
    return counted


def _save(config: PruneConfig, study: PruneStudy, model: nn.Module, out: Path, made: dict[str, Any]) -> None:
    name, kwargs = architecture(study.config.model, study.model)
    save_pruned(
        model,
        out,
        name=name,
        kwargs=kwargs,
        classes=study.class_names,
        preprocessing=preprocessing_of(study.config),
        provenance=made,
    )
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
    counted = _counted(config)
    if config.methods:
        names = [study.class_names[index] for index in sorted(study.chosen or ())]
        figure = pruning_curve_figure(summary, chosen=names, counted=counted)
        figures = list(save_figure(figure, out / "figures" / "pruning"))
    run, drawn = str(config.run_dir), bool(figures)
    page = pruning_page(summary, metrics, config.method, config.keep, run, has_figure=drawn, counted=counted)
    write_text(out / PAGE_FILE, page)
    names = (DESCRIPTION_FILE, WEIGHTS_FILE, RECORDS_FILE, TABLE_FILE, PAGE_FILE, METRICS_FILE, ONNX_FILE)
    return [*(out / name for name in names if (out / name).exists()), *figures]


def _counted(config: PruneConfig) -> str:
    """What kept shares are of."""
    if config.budget == "flops":
        return "operations"
    kinds = every_unit(config)
    return UNITS[kinds[0]] if len(kinds) == 1 else "units"


def _made_from(config: PruneConfig, study: PruneStudy) -> dict[str, Any]:
    """What made the model, beside the settings."""
    known = ("model", "weight_hash", "scorer", "search", "top_k", "data", "preprocessing")
    run = {name: study.provenance.get(name) for name in known} | {"run_dir": config.run_dir}
    return {"run": run, "pruning": asdict(config), "original_weight_hash": weights_of(study.study)}


def _counts(trials: Sequence[Trial]) -> dict[str, list[int]]:
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
