"""Beam search, and coordinate ascent from each path that is left of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neuron_path.attribution.objective import Objective, Rated
from neuron_path.attribution.scorer import Scorer
from neuron_path.search.climb import Reach, climb, climb_from_random
from neuron_path.search.improving import Improved, Improving
from neuron_path.search.search import searches
from neuron_path.search.searches.beam import check_beam, grown
from neuron_path.search.searches.exchange import Exchange, check_climb


@searches.register("beam_exchange")
@dataclass(frozen=True)
class BeamExchange(Improving):
    """Exchange, from the greedy path, then with a wider reach from each path of a beam and from the best so far.

    Args:
        width, candidates: of the beam; see `Beam`.
        swaps, slack, restarts, seed: of the climbs; see `Exchange`.
        measure, budget: see `Improving`. Exchange comes first, with its own defaults, so that no path is below its;
            then the beam, of images that have half of the budget left, and climbs from random paths last.
    """

    width: int = 2
    candidates: int | None = 4
    swaps: int = 4
    slack: float = 0.3
    restarts: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_beam(self.width, self.candidates)
        check_climb(self.swaps, self.slack, self.restarts)

    @property
    def n_prefixes(self) -> int:
        """Of each partial path its own, one that branches off, and one that is kept."""
        return 3 * self.width + 1

    def improve(self, objective: Objective, scorer: Scorer, start: Rated, allowance: Tensor) -> Improved:
        """Climb from greedy's path, then from the beam's, then from the best of these and from random ones."""
        exchange, reach = Exchange(), Reach(self.swaps, self.slack)
        best = climb(objective, start, Reach(exchange.swaps, exchange.slack), allowance)
        # Half of it all: what one image's climb leaves over must not decide how far the beam of others goes.
        takes_part = allowance - best.cost >= allowance / 2
        beams = None
        if takes_part.any():
            beams = grown(objective, scorer, start, allowance / 2, self.width, self.candidates)
        if beams is not None:
            best = best._replace(
                cost=best.cost + beams.cost * takes_part.to(best.cost),
                clearance=torch.where(takes_part, torch.minimum(best.clearance, beams.clearance), best.clearance),
            )
            for nth in range(beams.width):
                left = allowance - best.cost - beams.prices.path
                rows = (takes_part & (left > -1e-6)).nonzero().squeeze(1)
                if len(rows):
                    rated = objective.rate(rows, beams.paths[nth :: beams.width][rows])
                    way = climb(objective, rated, reach, left[rows])
                    best = best.or_better(way._replace(cost=way.cost + beams.prices.path))
        best = best.or_better(climb(objective, best.paths, reach, allowance - best.cost))
        return climb_from_random(objective, best, reach, allowance, self.restarts, self.seed)
