"""What makes two configurations the same search."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from neuron_path.config import Config
from neuron_path.pipeline.build import model_name
from neuron_path.pipeline.work import Work
from neuron_path.store.identity import digest


def identity_of(config: Config, work: Work, weights: str) -> dict[str, Any]:
    """Everything that a path depends on, and nothing that only says how it is computed or where things lie.

    Args:
        config: the configuration.
        work: model, data and methods, made of it.
        weights: the hash of the model's weights.
    """
    study, finder = work.study, work.finder
    dataset = study.data.dataset
    data: dict[str, Any] = {
        "name": config.data.name,
        "images": len(dataset),
        "sample_ids": digest(dataset.sample_ids),
        "labels": digest(dataset.labels),
        "content": getattr(dataset, "content", dict)(),
    }
    if split := getattr(config.data, "split", None):
        data["split"] = split
    return {
        "model": {"name": model_name(config, study.session.model), "kwargs": config.model.kwargs, "weights": weights},
        "head": None if study.head is None else study.head.record["hash"],
        "data": data,
        # Runs of before have no word on the orientation: pictures were taken as they are stored.
        "preprocessing": {
            name: value for name, value in dataset.preprocessing.items() if (name, value) != ("orientation", "stored")
        },
        "token_scope": study.session.adapter.scope.name,
        **({} if config.units == "ffn" else {"units": config.units}),  # runs of before had no such word
        "scorer": asdict(config.scorer),
        "search": asdict(config.search),
        "baselines": [baseline.scorer.name for baseline in finder.baselines],
        "quadrature": asdict(config.quadrature),
        "measure": finder.method.search.maximises,
        "target": config.target,
        **({} if config.contrast_class is None else {"contrast_class": config.contrast_class}),
        "target_class": config.target_class,
        "top_k": config.top_k,
        **({} if config.per_block else {"per_block": False}),
        "precision": config.precision,
        "seed": config.seed,
    }
