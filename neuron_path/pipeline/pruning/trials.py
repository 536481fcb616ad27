"""The trials of `neuron-path prune`: for each seed its own images, and every method's models measured on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from neuron_path.evaluation.pruning import ORIGINAL, RECORD_COLUMNS
from neuron_path.lightning.fine_tuning import fine_tune
from neuron_path.pipeline.pruning.settings import PruneConfig, recipe_of
from neuron_path.pipeline.pruning.study import Images, PruneStudy
from neuron_path.progress import progress_bar
from neuron_path.pruning.activations import mean_activations
from neuron_path.pruning.cost import UnitCosts
from neuron_path.pruning.methods import Selection, rank, units_of
from neuron_path.pruning.predictions import class_probabilities, prune_model
from neuron_path.pruning.ranking import Ranking

ALL, CHOSEN, OTHERS = "all", "chosen", "others"
"""Groups of images: all of them, or those of the classes to specialise in and of the other ones."""


@dataclass(frozen=True)
class Trial:
    """One seed's images, and what is made of those that select.

    Attributes:
        seed: of the split and of all that is drawn.
        selection: the images that rank.
        evaluation: the images that test.
        rankings: of each method, with the one that decides its ties.
        means: for each kind of units the activations to fold in; None: nothing.
    """

    seed: int
    selection: Images
    evaluation: Images
    rankings: dict[str, tuple[Ranking, Ranking]]
    means: dict[str, list[Tensor]] | None


def make_trial(config: PruneConfig, study: PruneStudy, seed: int) -> Trial:
    """Split the images by a seed, and rank the neurons or heads by every method that is asked for."""
    selection, evaluation = study.split(config.selection_share, seed)
    seen = Selection(
        study.model,
        selection.images,
        torch.tensor([int(target) for target in study.paths.loc[selection.names, "target"]]),
        study.paths.loc[selection.names],
        seed,
        study.token_scope,
        units=str(config.units),
        path_units=study.units,
    )
    names = dict.fromkeys([config.method, *config.methods])
    rankings = {}
    with progress_bar() as bar:
        task = bar.add_task(f"Ranking, seed {seed}", total=len(names), unit="methods")
        for name in names:
            rankings[name] = rank(name, seen)
            bar.advance(task)
    means = None
    if config.fold:
        means = {
            units: mean_activations(study.model, selection.images, token_scope=study.token_scope, units=units)
            for units in every_unit(config)
        }
    return Trial(seed, selection, evaluation, rankings, means)


def every_unit(config: PruneConfig) -> list[str]:
    """The kinds of units that the methods prune."""
    return list(dict.fromkeys(units_of(name, str(config.units))[0] for name in (config.method, *config.methods)))


def measure_trials(
    config: PruneConfig, study: PruneStudy, trials: Sequence[Trial], costs: Mapping[str, UnitCosts]
) -> pd.DataFrame:
    """What the original and every method's models say of the images that evaluate, for each seed.

    Shares of operations that pruning a method's units does not get down to are left out.
    """
    names = dict.fromkeys([config.method, *config.methods]) if config.methods else ()
    least = {units: cost.least for units, cost in costs.items()}
    plan = [
        (name, share)
        for name in names
        for share in sorted({*config.shares, config.keep})
        if share >= least.get(units_of(name, str(config.units))[0], 0)
    ]
    plan = list(dict.fromkeys([(config.method, config.keep), *plan]))
    parts = []
    with progress_bar() as bar:
        task = bar.add_task("Pruned models", total=len(plan) * len(trials), unit="models")
        for trial in trials:
            parts.append(_record(config, study, trial, ORIGINAL, 1.0, study.model))
            for name, share in plan:
                model, _ = pruned_model(config, study, trial, costs, name, share)
                parts.append(_record(config, study, trial, name, share, model))
                bar.advance(task)
    return pd.concat(parts, ignore_index=True)


def pruned_model(
    config: PruneConfig, study: PruneStudy, trial: Trial, costs: Mapping[str, UnitCosts], method: str, share: float
) -> tuple[nn.Module, list[Tensor]]:
    """The model that a method leaves of the original, fine-tuned where that is asked for, and its neurons or heads.

    `costs` of the method's units are there where shares are of the operations.
    """
    ranking, then = trial.rankings[method]
    units, _ = units_of(method, str(config.units))
    model, kept = prune_model(
        study.model,
        ranking,
        share,
        config.allocation,  # pyright: ignore[reportArgumentType]
        then=then,
        mean_activations=None if trial.means is None else trial.means[units],
        token_scope=study.token_scope,
        units=units,
        costs=costs.get(units),
    )
    selection = trial.selection
    labels = torch.tensor(selection.classes)
    recipe, accelerator = recipe_of(config), config.trainer.accelerator
    return fine_tune(model, selection.images, labels, recipe, seed=trial.seed, accelerator=accelerator), kept


def _record(
    config: PruneConfig, study: PruneStudy, trial: Trial, method: str, share: float, model: nn.Module
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
    return pd.DataFrame(columns, columns=list(RECORD_COLUMNS))
