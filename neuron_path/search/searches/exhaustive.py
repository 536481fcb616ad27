"""Every path, one after another: the truth, for tiny models."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations, islice, product

import torch
from torch import Tensor

from neuron_path.attribution.exactness import TIE, ranked
from neuron_path.attribution.objective import Objective, Rated
from neuron_path.attribution.scorer import Scorer
from neuron_path.errors import NeuronPathError
from neuron_path.search.improving import Improved, Improving
from neuron_path.search.prices import Prices
from neuron_path.search.search import searches

_MOST_PATHS = 1_000_000
_TOGETHER = 256  # paths of each image


@searches.register("exhaustive")
@dataclass(frozen=True)
class Exhaustive(Improving):
    """Score every path there is and take the best; ties go to the first in lexicographic order.

    Args:
        measure, budget: see `Improving`.

    Raises:
        NeuronPathError: a model with more than a million paths.
    """

    def n_rated(self, n_blocks: int) -> int:
        """Those that are scored together, and those that they are compared with."""
        return _TOGETHER + 6

    def improve(self, objective: Objective, scorer: Scorer, start: Rated, allowance: Tensor) -> Improved:
        """All paths in lexicographic order, as far as the allowance goes."""
        top_k, widths = start.paths.shape[2], [block.n_neurons for block in objective.problem.adapter.blocks]
        n_paths = math.prod(math.comb(width, top_k) for width in widths)
        if n_paths > _MOST_PATHS:
            raise NeuronPathError(
                f"search=exhaustive would score {n_paths:.1e} paths of each image; it is for models with at most "
                f"{_MOST_PATHS:,}: use search=beam_exchange."
            )
        price = Prices.of(objective.problem).path
        affordable = float(allowance[0]) / price + 1e-6
        paths = product(*(combinations(range(width), top_k) for width in widths))
        paths = islice(paths, None if math.isinf(affordable) else max(0, int(affordable)))
        every, cost = start.rows, 0.0
        best: Rated | None = None
        second = torch.full_like(start.scores, -torch.inf)
        while some := list(islice(paths, _TOGETHER)):
            listed = torch.tensor(some, device=every.device)
            rated = objective.rate(every.repeat_interleave(len(some)), listed.repeat(len(every), 1, 1))
            values, order = ranked(rated.scores.view(len(every), -1))
            found = rated.take(every * len(some) + order[:, 0])
            behind = values[:, 1] if len(some) > 1 else torch.full_like(second, -torch.inf)
            if best is None:
                best, second = found, behind
            else:
                leads = found.scores - best.scores
                better = (leads > TIE * best.scores.abs()).nonzero().squeeze(1)
                second = torch.maximum(second, torch.maximum(behind, torch.minimum(found.scores, best.scores)))
                best = best.put(better, found.take(better))
            cost += len(some) * price
        unknown = torch.full_like(start.scores, torch.inf)
        if best is None:
            return Improved(start, torch.zeros_like(allowance), unknown, unknown)
        return Improved(best, torch.full_like(allowance, cost), (best.scores - second) / best.scores.abs(), unknown)
