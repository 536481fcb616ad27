"""Beam search: from input to output, keep the best few partial paths, scored exactly."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neuron_path.attribution.objective import Objective, Rated
from neuron_path.attribution.quadrature import is_whole
from neuron_path.attribution.scorer import Scorer
from neuron_path.errors import NeuronPathError
from neuron_path.search.beams import Beams
from neuron_path.search.improving import Improved, Improving
from neuron_path.search.prices import Prices
from neuron_path.search.search import searches


@searches.register("beam")
@dataclass(frozen=True)
class Beam(Improving):
    """In each block score the scorer's best candidates exactly behind each of the partial paths that are kept.

    A partial path is scored with its own blocks visited and those behind them live.

    Args:
        width: partial paths that are kept.
        candidates: neurons that are scored behind each of them; None: all.
        measure, budget: see `Improving`. What does not fit the budget goes on as a greedy search.
    """

    width: int = 2
    candidates: int | None = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        check_beam(self.width, self.candidates)

    @property
    def n_prefixes(self) -> int:
        """Of each partial path its own, one that branches off, and one that is kept."""
        return 3 * self.width + 1

    def improve(self, objective: Objective, scorer: Scorer, start: Rated, allowance: Tensor) -> Improved:
        """The best partial path behind the last block."""
        return improve_by_beams(objective, scorer, start, allowance, self.width, self.candidates)


def improve_by_beams(
    objective: Objective, scorer: Scorer, start: Rated, allowance: Tensor, width: int, candidates: int | None
) -> Improved:
    """What beams of a width find; see `Beam`."""
    beams = grown(objective, scorer, start, allowance, width, candidates)
    unknown = torch.full_like(start.scores, torch.inf)
    if beams is None:
        return Improved(start, torch.zeros_like(allowance), unknown, unknown)
    rated = objective.rate(start.rows, beams.paths[:: beams.width])
    cost = torch.full_like(allowance, beams.cost + beams.prices.path)
    return Improved(rated, cost, beams.clearance, unknown)


def grown(
    objective: Objective, scorer: Scorer, start: Rated, allowance: Tensor, width: int, candidates: int | None
) -> Beams | None:
    """Beams through all blocks; None where there is no allowance for any.

    Args:
        objective: what is maximised.
        scorer: proposes candidates.
        start: a path for each image, as wide as those that are sought.
        allowance: what each image may cost, the same for all, since all go the same way.
        width: partial paths that are kept.
        candidates: neurons that are scored behind each; None: all.
    """
    top_k, left = start.paths.shape[2], float(allowance[0]) + 1e-6
    prices, blocks = Prices.of(objective.problem), objective.problem.adapter.blocks
    if sum(map(prices.candidate, range(len(blocks)))) + prices.path > left:
        return None
    beams = Beams(objective, scorer, top_k)
    for index, block in enumerate(blocks):
        length = min(block.n_neurons, max(top_k, candidates or block.n_neurons))
        rest = sum(map(prices.candidate, range(index + 1, len(blocks)))) + prices.path
        if (width > 1 or length > top_k) and beams.cost + beams.price(length, width) + rest <= left:
            beams.grow(length, width)
        else:
            beams.grow_greedily()
    return beams


def check_beam(width: int, candidates: int | None) -> None:
    """Raise a NeuronPathError unless these options of a beam are in range."""
    if not is_whole(width) or width < 1:
        raise NeuronPathError(f"search.width is {width}; expected at least 1 partial path.")
    if candidates is not None and (not is_whole(candidates) or candidates < 1):
        raise NeuronPathError(f"search.candidates is {candidates}; expected at least 1 neuron, or null for all.")
