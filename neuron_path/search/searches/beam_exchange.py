"""Beam search, and coordinate ascent from each path that is left of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neuron_path.attribution.objective import Objective, Rated
from neuron_path.attribution.scorer import Scorer
from neuron_path.errors import NeuronPathError
from neuron_path.search.climb import climb
from neuron_path.search.improving import Improved, Improving
from neuron_path.search.search import searches
from neuron_path.search.searches.beam import check_candidates, grown


@searches.register("beam_exchange")
@dataclass(frozen=True)
class BeamExchange(Improving):
    """Exchange from the greedy path and from each path of a beam; the best of all.

    Args:
        width, candidates: of the beam; see `Beam`.
        swaps: of each block that are scored one by one before a climb ends; see `Exchange`.
        measure, budget: see `Improving`. The climb from the greedy path comes first.
    """

    width: int = 2
    candidates: int | None = 4
    swaps: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        check_candidates(self.candidates)
        for name, value in (("width", self.width), ("swaps", self.swaps)):
            if value < 1:
                raise NeuronPathError(f"search.{name} is {value}; expected at least 1.")

    def improve(self, objective: Objective, scorer: Scorer, start: Rated, allowance: Tensor) -> Improved:
        """Climb from greedy's path, then from the beam's."""
        # Half for either: what one image's climb leaves over must not decide how far the beam of all goes.
        best = climb(objective, start, self.swaps, allowance / 2)
        beams = grown(objective, scorer, start, allowance / 2, self.width, self.candidates)
        if beams is None:
            return best
        best = best._replace(cost=best.cost + beams.cost, clearance=torch.minimum(best.clearance, beams.clearance))
        for nth in range(beams.width):
            left = allowance - best.cost - beams.prices.path
            rows = (left > -1e-6).nonzero().squeeze(1)
            if len(rows):
                rated = objective.rate(rows, beams.paths[nth :: beams.width][rows])
                way = climb(objective, rated, self.swaps, left[rows])
                best = best.or_better(way._replace(cost=way.cost + beams.prices.path))
        return best
