"""Stability of paths on the digits: `stability.yaml` says the command, the cost and what to expect."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pandas as pd
import torch
from hydra.core.config_store import ConfigStore
from numpy.typing import NDArray
from omegaconf import OmegaConf
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn.functional import interpolate

import neuron_path
from neuron_path.classes.class_paths import make_class_paths
from neuron_path.classes.similarity import class_similarity
from neuron_path.classes.usage import count_usage
from neuron_path.errors import NeuronPathError
from neuron_path.evaluation.measures import probability_deviation
from neuron_path.report.cells import mean_cell, to_records
from neuron_path.report.markdown import markdown_table
from neuron_path.stats.intervals import Interval, bootstrap_mean
from neuron_path.stats.mantel import mantel
from neuron_path.store.atomic import write_json, write_text
from neuron_path.store.provenance import collect_provenance
from path_stability import correlations, match_neurons, path_overlap, translate
from train_digits import TrainDigits, train

RECIPE = Path(__file__).with_name("train_digits.yaml")
QUADRATURES = {"4 nodes": 4, "16 nodes": 16, "left Riemann, 20": "riemann_left"}


@dataclass
class Stability:
    """Settings; their values and meaning are in `stability.yaml`."""

    searches: list[str]
    seeds: list[int]
    noise: list[float]
    limit: int | None
    seed: int
    epochs: int
    threads: int
    out: str


@dataclass
class Digits:
    """The test images of one model, with all that is compared of its paths."""

    model: nn.Module
    images: Tensor
    labels: Tensor
    paths: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    scores: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    def find(self, search: str, images: Tensor | None = None, **options: Any) -> NDArray[np.int64]:
        """Paths of the labels' classes."""
        found = neuron_path.find_paths(
            self.model, self.images if images is None else images, self.labels, search=search, **options
        )
        if images is None and not options:
            self.paths[search], self.scores[search] = found.paths.numpy(), found.scores.double().numpy()
        return found.paths.numpy()

    def effects(self, search: str) -> NDArray[np.float64]:
        """(n,) change of the target's probability when the path is removed, as a fraction."""
        edited = neuron_path.intervene(self.model, self.images, torch.from_numpy(self.paths[search]), "remove")
        with torch.no_grad():
            logits = self.model(self.images)
        clean, changed = (
            values.softmax(1).gather(1, self.labels[:, None]).squeeze(1).double().numpy() for values in (logits, edited)
        )
        return probability_deviation(clean, changed)

    def similarity(self, search: str) -> NDArray[np.float64]:
        """(C, C) of the classes, by the neurons that their paths use."""
        return class_similarity(count_usage(make_class_paths(self.paths[search], self.labels.numpy())))


def perturbed(images: Tensor, settings: Stability) -> Iterator[tuple[str, Tensor]]:
    """Names and changed copies of the images: crops of a corner, enlarged again, and noise."""
    side = images.shape[-1]
    for name, top, left in (("crop, lower right", 1, 1), ("crop, upper left", 0, 0)):
        part = images[..., top : top + side - 1, left : left + side - 1]
        yield name, interpolate(part, size=(side, side), mode="bilinear", align_corners=False)
    generator = torch.Generator().manual_seed(settings.seed)
    for share in settings.noise:
        yield f"noise, {share:g}", images + share * images.std() * torch.randn(images.shape, generator=generator)


def stability_of(search: str, digits: Digits, settings: Stability) -> list[dict[str, Any]]:
    """A row for each change: the overlap with the path of the unchanged image."""
    base = digits.find(search)
    rows = []
    for name, images in perturbed(digits.images, settings):
        rows.append(_row(search, name, path_overlap(base, digits.find(search, images)), settings))
    for name, rule in QUADRATURES.items():
        option: dict[str, Any] = {"quadrature": rule} if isinstance(rule, str) else {"n_steps": rule}
        rows.append(_row(search, f"quadrature: {name}", path_overlap(base, digits.find(search, **option)), settings))
    labels = digits.labels.numpy()
    rng = np.random.default_rng(settings.seed)
    for name, same in (("another image of the class", True), ("an image of another class", False)):
        partners = {place: _partners(labels, place, same=same) for place in range(len(labels))}
        pairs = np.array([(place, rng.choice(others)) for place, others in partners.items() if len(others)])
        if len(pairs):
            rows.append(_row(search, name, path_overlap(*base[pairs.T]), settings))
    return rows


def _partners(labels: NDArray[np.int64], place: int, *, same: bool) -> NDArray[np.int64]:
    found = np.flatnonzero((labels == labels[place]) == same)
    return found[found != place]


def _row(search: str, name: str, values: NDArray[np.float64], settings: Stability) -> dict[str, Any]:
    interval = bootstrap_mean(values, seed=settings.seed)
    return {"search": search, "what": name, **_bounds("overlap", interval), "n": interval.n}


def between_seeds(search: str, models: dict[int, Digits], settings: Stability) -> list[dict[str, Any]]:
    """A row for each two models: what of the paths they share."""
    train_images, _ = neuron_path.load_digits("train")
    activations = {seed: _activations(digits.model, train_images) for seed, digits in models.items()}
    rows = []
    for one, other in combinations(models, 2):
        first, second = models[one], models[other]
        matching = np.stack([match_neurons(*pair) for pair in zip(activations[one], activations[other], strict=True)])
        alike = [
            correlations(*pair)[np.arange(len(matched)), matched].mean()
            for *pair, matched in zip(activations[one], activations[other], matching, strict=True)
        ]
        rng = np.random.default_rng(settings.seed)
        shuffled = np.stack([rng.permutation(matched) for matched in matching])
        ours, theirs = first.paths[search], second.paths[search]
        effects = first.effects(search), second.effects(search)
        similar = mantel(first.similarity(search), second.similarity(search), seed=settings.seed)
        row = {"search": search, "seeds": f"{one}, {other}", "n": len(ours)}
        row |= _bounds("raw", bootstrap_mean(path_overlap(ours, theirs), seed=settings.seed))
        row |= _bounds("matched", bootstrap_mean(path_overlap(translate(ours, matching), theirs), seed=settings.seed))
        row |= _bounds("shuffled", bootstrap_mean(path_overlap(translate(ours, shuffled), theirs), seed=settings.seed))
        row["correlation_of_matched"] = float(np.mean(alike))
        row["scores"] = _rank_correlation(first.scores[search], second.scores[search])
        row["effects"] = _rank_correlation(*effects)
        row |= {"class_similarity": similar.r, "class_similarity_p": similar.p}
        rows.append(row)
    return rows


def each_seed(search: str, models: dict[int, Digits], settings: Stability) -> list[dict[str, Any]]:
    """A row for each model: its mean score and effect."""
    rows = []
    for seed, digits in models.items():
        with torch.no_grad():
            right = digits.model(digits.images).argmax(1) == digits.labels
        row = {"search": search, "training seed": seed, "accuracy": float(right.double().mean())}
        row |= _bounds("score", bootstrap_mean(digits.scores[search], seed=settings.seed))
        row |= _bounds("remove", bootstrap_mean(100 * digits.effects(search), seed=settings.seed))
        rows.append(row | {"n": len(right)})
    return rows


def _rank_correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    found: Any = spearmanr(one, other)
    return float(found.statistic)


def _activations(model: nn.Module, images: Tensor) -> NDArray[np.float64]:
    """(L, n, F) of the class token."""
    found = neuron_path.find_paths(model, images, scorer="activation", keep_candidates=True).candidate_scores
    assert found is not None
    return found.transpose(0, 1).double().numpy()


def _bounds(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}


def trained(seed: int, settings: Stability) -> nn.Module:
    """A model of the recipe with another seed: from its file where it was trained before."""
    file = Path(settings.out) / f"digits_seed_{seed}_{settings.epochs}.safetensors"
    if not file.exists():
        recipe: Any = OmegaConf.to_container(OmegaConf.load(RECIPE))
        names = TrainDigits.__dataclass_fields__
        options = {name: value for name, value in recipe.items() if name in names}
        options |= {"seed": seed, "epochs": settings.epochs, "threads": settings.threads, "out": str(file)}
        train(TrainDigits(**options))
    return neuron_path.load_model("digits_vit", checkpoint=file)


def as_text(table: pd.DataFrame, cells: dict[str, tuple[float, int]]) -> str:
    """A Markdown table; each column in `cells` is a mean with its interval, times a factor, in so many decimals."""
    rows = []
    for row in to_records(table):
        shown: dict[str, str] = {}
        for name in map(str, table.columns):
            if name in cells:
                factor, decimals = cells[name]
                numbers = [factor * row[key] for key in (name, f"{name}_low", f"{name}_high")]
                shown[name] = mean_cell(*numbers, sign=False, decimals=decimals)
            elif not name.endswith(("_low", "_high")):
                value = row[name]
                shown[name] = f"{value:.3f}".replace("-", "−") if isinstance(value, float) else str(value)
        rows.append(shown)
    return markdown_table(pd.DataFrame(rows))


def measure(settings: Stability) -> dict[str, pd.DataFrame]:
    """All tables."""
    torch.set_num_threads(settings.threads)
    images, labels = (values[: settings.limit] for values in neuron_path.load_digits("test"))
    models = {0: Digits(neuron_path.load_model("digits_vit"), images, labels)}
    models |= {seed: Digits(trained(seed, settings), images, labels) for seed in settings.seeds}
    perturbations, seeds, own = [], [], []
    for search in settings.searches:
        perturbations += stability_of(search, models[0], settings)
        if settings.seeds:
            for digits in list(models.values())[1:]:
                digits.find(search)
            seeds += between_seeds(search, models, settings)
            own += each_seed(search, models, settings)
    tables = {"perturbations": pd.DataFrame(perturbations)}
    return tables | ({"seeds": pd.DataFrame(seeds), "models": pd.DataFrame(own)} if settings.seeds else {})


ConfigStore.instance().store(name="stability_schema", node=Stability)


@hydra.main(config_path=".", config_name="stability", version_base="1.3")
def main(config: Any) -> None:
    """Measure, and write a CSV file for each table, table.md and stability.json."""
    settings = OmegaConf.to_object(config)
    assert isinstance(settings, Stability)
    try:
        tables = measure(settings)
    except NeuronPathError as error:
        sys.exit(f"stability: error: {error}")
    cells = {"overlap": (100.0, 1), "raw": (100.0, 1), "matched": (100.0, 1), "shuffled": (100.0, 1)}
    cells |= {"score": (1.0, 3), "remove": (1.0, 2)}
    text = "\n\n".join(f"## {name}\n\n{as_text(table, cells)}" for name, table in tables.items())
    out = Path(settings.out)
    for name, table in tables.items():
        write_text(out / f"{name}.csv", table.to_csv(index=False, float_format="%.12g", lineterminator="\n"))
    write_text(out / "table.md", f"{text}\n")
    plain: Any = OmegaConf.to_container(config)
    write_json(out / "stability.json", collect_provenance(plain))
    print(text)
    print(json.dumps({"out": settings.out}))


if __name__ == "__main__":
    main()
