"""Coordinate ascent: from the greedy path, swap neurons until no swap helps."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from neuron_path.attribution.draws import uniform
from neuron_path.attribution.objective import Objective, Rated
from neuron_path.attribution.scorer import Scorer
from neuron_path.errors import NeuronPathError
from neuron_path.search.climb import climb
from neuron_path.search.improving import Improved, Improving
from neuron_path.search.prices import Prices
from neuron_path.search.search import searches


@searches.register("exchange")
@dataclass(frozen=True)
class Exchange(Improving):
    """Make the swaps that the current path's gradients promise most of, until none gains anything.

    Args:
        candidates: swaps of each block that are scored one by one before the search ends.
        restarts: climbs from random paths beside that from the greedy one: what these find more tells how far it is
            from the best.
        seed: of the random paths.
        measure, budget: see `Improving`.
    """

    candidates: int = 2
    restarts: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.candidates < 1:
            raise NeuronPathError(f"search.candidates is {self.candidates}; expected at least 1 swap of each block.")
        if self.restarts < 0:
            raise NeuronPathError(f"search.restarts is {self.restarts}; expected 0 or more.")

    def improve(self, objective: Objective, scorer: Scorer, start: Rated, allowance: Tensor) -> Improved:
        """Climb from the greedy path, then from random ones."""
        best = climb(objective, start, self.candidates, allowance)
        first = Prices.of(objective.problem).path
        for restart in range(self.restarts):
            rows = (allowance - best.cost >= first).nonzero().squeeze(1)
            if not len(rows):
                break
            paths = self._random_paths(objective, restart, start.paths.shape[2])[rows]
            left = (allowance - best.cost)[rows] - first
            other = climb(objective, objective.rate(rows, paths), self.candidates, left)
            best = best.or_better(other._replace(cost=other.cost + first))
        return best

    def _random_paths(self, objective: Objective, restart: int, top_k: int) -> Int[Tensor, "B L k"]:
        draws = uniform(objective.problem, f"{self.seed} restart {restart}")
        return torch.stack([numbers.topk(top_k, 1).indices for numbers in draws], 1)
