"""The effects stage: from stored paths to `effects.parquet`, by editing the paths' neurons in the live network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch

from neuron_path.config import Config
from neuron_path.errors import NeuronPathError
from neuron_path.evaluation.summary import summarise_effects
from neuron_path.interventions.scaling import factor_of
from neuron_path.lightning.callbacks import EffectCollector, ImageProgress
from neuron_path.lightning.module import Effect, InterventionModule, StoredPaths
from neuron_path.pipeline.build import Study, build_trainer, predict
from neuron_path.store.reader import load_effects, load_paths
from neuron_path.store.schema import build_table, effect_schema
from neuron_path.store.writer import write_effects


def check_operations(operations: Sequence[str]) -> None:
    """Raise a NeuronPathError for an operation that does not exist, or when there are none."""
    if not operations:
        raise NeuronPathError("There are no operations to check the paths by: name some, or use neuron-path search.")
    for operation in operations:
        factor_of(operation)


def effects_stage(config: Config, study: Study, run_dir: Path) -> pd.DataFrame:
    """Remove and enhance the paths stored in `run_dir`; the summary has a row per method and operation.

    The edited paths are those on disk, joined to the images by sample id.
    """
    paths = load_paths(run_dir)
    stored = [_stored(rows) for _, rows in paths.groupby(["scorer", "search"], sort=False)]
    operations = list(dict.fromkeys(config.operations))
    module = InterventionModule(study.session, stored, operations)
    collector = EffectCollector()
    trainer = build_trainer(config, [collector, ImageProgress("Interventions", len(study.data.dataset))])
    predict(trainer, module, study.data)
    columns = _columns(collector.effects, config.top_k, study.session.adapter.scope.name)
    write_effects(run_dir, build_table(effect_schema(), columns), paths.attrs["provenance"])
    labels = dict(zip(paths["sample_id"], paths["label"], strict=True))
    return summarise_effects(load_effects(run_dir), labels, seed=config.seed)


def _stored(rows: pd.DataFrame) -> StoredPaths:
    names = rows["sample_id"].tolist()
    paths = [torch.tensor(path.reshape(len(path), -1)) for path in rows["path"]]
    return StoredPaths(
        scorer=str(rows["scorer"].iloc[0]),
        search=str(rows["search"].iloc[0]),
        paths=dict(zip(names, paths, strict=True)),
        targets=dict(zip(names, rows["target"].tolist(), strict=True)),
    )


def _columns(effects: Sequence[Effect], top_k: int, token_scope: str) -> dict[str, list[object]]:
    columns: dict[str, list[object]] = {name: [] for name in effect_schema().names}
    for effect in effects:
        n = len(effect.sample_ids)
        columns["sample_id"] += effect.sample_ids
        columns["scorer"] += [effect.scorer] * n
        columns["search"] += [effect.search] * n
        columns["top_k"] += [top_k] * n
        columns["operation"] += [effect.operation] * n
        columns["token_scope"] += [token_scope] * n
        columns["target"] += effect.targets.tolist()
        columns["clean_probability"] += effect.clean_probabilities.double().tolist()
        columns["edited_probability"] += effect.edited_probabilities.double().tolist()
        columns["clean_prediction"] += effect.clean_predictions.tolist()
        columns["edited_prediction"] += effect.edited_predictions.tolist()
    return columns
