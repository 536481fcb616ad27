"""Does the time of a search depend on the weights? One architecture with several, interleaved in one run.

A search rates a choice or a final score again in float64 where float32 leaves it in doubt. How often it does depends on
the weights, and so does the number of nodes that the adaptive rule takes; all else costs the same for any weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import neuron_path
from benchmarks.harness import Table, interleaved, ratios, spread
from benchmarks.references import RULES
from neuron_path.attribution.problem import Problem
from neuron_path.attribution.quadrature import Quadrature
from neuron_path.attribution.scorer import Scorer
from neuron_path.search.search import Doubt, Found
from neuron_path.search.searches.greedy import Greedy
from neuron_path.types import PathResult

HARSH, HARSH_HEAD = 0.04, 0.3
"""Standard deviations of harsh weights; timm's initial ones have 0.02."""
PRETRAINED, RANDOM = "pretrained", "random weights"


class Again(NamedTuple):
    """The shares that were rated again in float64: of the (image, block) choices, and of the final scores."""

    choices: float
    scores: float

    def text(self) -> str:
        """As tables have it.

        >>> Again(0.125, 0.5).text()
        '12.5%, 50%'
        """
        return f"{self.choices:.1%}, {self.scores:.0%}"


class Searched(NamedTuple):
    """A result, and what was rated again for it."""

    result: PathResult
    again: Again


@dataclass(frozen=True)
class CountingGreedy(Greedy):
    """The greedy search that keeps what it was asked to rate again in float64: choices, as (image, block), and scores.

    Once in float64, choices that the adaptive rule rates with more nodes are among them.
    """

    choices: set[tuple[str, int]] = field(default_factory=set, hash=False)
    scores: set[str] = field(default_factory=set, hash=False)

    def revise(self, problem: Problem, scorer: Scorer, draft: Found, doubt: Doubt, **options: Any) -> Found:
        """As the greedy search does."""
        if problem.clean.embedded.dtype == torch.float64:
            names = problem.sample_ids
            self.choices.update((names[int(image)], block) for image, block in doubt.blocks.nonzero().tolist())
            self.scores.update(names[int(image)] for [image] in doubt.scores.nonzero().tolist())
        return super().revise(problem, scorer, draft, doubt, **options)


def search(model: nn.Module, images: Tensor, targets: Tensor, quadrature: Quadrature) -> Searched:
    """The greedy search by one rule."""
    counting = CountingGreedy()
    result = neuron_path.find_paths(model, images, targets, search=counting, quadrature=quadrature)
    n_images, n_choices = len(result.scores), result.paths.numel()
    return Searched(result, Again(len(counting.choices) / n_choices, len(counting.scores) / n_images))


def harsh(model: nn.Module) -> nn.Module:
    """The same model with larger weights, always the same: its rounding is what float32 has most trouble with."""
    generator = torch.Generator().manual_seed(2)
    head = model.get_submodule("head")
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                layer.weight.normal_(0, HARSH_HEAD if layer is head else HARSH, generator=generator)
    return model


def compare(
    models: Mapping[str, nn.Module],
    images: Tensor,
    targets: Tensor,
    rounds: int,
    others: Mapping[str, Callable[[], Any]] | None = None,
    slow: Mapping[str, int] | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Seconds of every rule on each of the models, interleaved, and what share was rated again; and all outputs.

    Args:
        models: of one architecture, by name.
        images, targets: what is searched.
        rounds: how many.
        others: calls that are timed in the same rounds, by name.
        slow: calls that take part in so many rounds only.
    """
    searches = {
        call_of(rule, name): partial(search, model, images, targets, quadrature)
        for rule, quadrature in RULES.items()
        for name, model in models.items()
    }
    seconds, outputs = interleaved({**searches, **(others or {})}, rounds, slow)
    values = {
        "n_images": len(images),
        "seconds": seconds,
        "again": {call: outputs[call].again for call in searches},
        "mean_nodes": {call: mean_nodes(outputs[call].result) for call in searches},
    }
    return values, outputs


def call_of(rule: str, name: str) -> str:
    """The name of a rule's search of the model `name`."""
    return f"{rule}: {name}"


def nodes_text(rule: str, mean: float) -> str:
    """A rule with its nodes.

    >>> nodes_text("adaptive", 6.4)
    'adaptive (6)'
    """
    return f"{rule} ({mean:.0f})" if rule == "adaptive" else rule


def mean_nodes(result: PathResult) -> float:
    """Nodes of an image."""
    return float(result.n_steps.double().mean())


def as_table(measured: Mapping[str, Any], name: str, other: str, note: str) -> Table:
    """A row for each rule: the model `name` against `other`."""
    rows = []
    for rule in RULES:
        mine, its = (call_of(rule, model) for model in (name, other))
        seconds, again = measured["seconds"], measured["again"]
        rows.append(
            [
                nodes_text(rule, measured["mean_nodes"][mine]),
                *(spread(x / measured["n_images"] for x in seconds[call]).text(2, " s") for call in (mine, its)),
                ratios(seconds[mine], seconds[its]).text(2),
                *(again[call].text() for call in (mine, its)),
            ]
        )
    columns = (
        "rule, nodes",
        f"{name}, per image",
        f"{other}, per image",
        f"time, {name} / {other}",
        f"{name}, again in float64: choices, scores",
        f"{other}: the same",
    )
    return Table(columns, rows, note)
