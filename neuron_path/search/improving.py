"""What the searches beyond the greedy one have in common: they begin with its path and never return a worse one."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor

from neuron_path.attribution.convergence import integral
from neuron_path.attribution.exactness import TIE
from neuron_path.attribution.objective import Objective, Rated
from neuron_path.attribution.problem import Problem
from neuron_path.attribution.quadrature import is_number
from neuron_path.attribution.score import PathScores, path_scores
from neuron_path.attribution.scorer import Scorer
from neuron_path.errors import NeuronPathError, unknown_name
from neuron_path.search.prices import Prices
from neuron_path.search.search import Found, Search
from neuron_path.search.searches.greedy import Greedy
from neuron_path.types import Measure

MEASURES = ("joint", "complete")


class Improved(NamedTuple):
    """A path for each of B images, and how it was found.

    Attributes:
        paths: the paths, rated.
        cost: (B,) what it has cost, in greedy searches.
        clearance: (B,) the closest call on the way, relative to the scores compared.
        resolution: (B,) by how much, relative to the same, leads exceed their estimated error as integrals.
    """

    paths: Rated
    cost: Float[Tensor, "B"]
    clearance: Float[Tensor, "B"]
    resolution: Float[Tensor, "B"]

    def or_better(self, other: Improved) -> Improved:
        """Of each image the better path, this one where they are equal, at the cost of both.

        Args:
            other: paths of some of the images.
        """
        rows, leads = other.paths.rows, other.paths.terms - self.paths.terms[..., other.paths.rows]
        better = (integral(leads, 1) > TIE * self.paths.scores[rows].abs()).nonzero().squeeze(1)
        return Improved(
            self.paths.put(rows[better], other.paths.take(better)),
            self.cost.index_add(0, rows, other.cost),
            self.clearance.scatter_reduce(0, rows, other.clearance, "amin"),
            self.resolution.scatter_reduce(0, rows, other.resolution, "amin"),
        )


@dataclass(frozen=True)
class Improving(Search):
    """A search for the path with the largest final score; the result is the best of its own path and greedy's.

    Args:
        measure: which final score: "joint" or "complete".
        budget: what an image may cost, in greedy searches; None: no bound. When it is spent, the best path so far is
            the result. The greedy search and scoring its path are always done.

    Raises:
        NeuronPathError: no such measure, or a budget that is not positive.
    """

    measure: str = "joint"
    budget: float | None = None

    def __post_init__(self) -> None:
        if self.measure not in MEASURES:
            raise unknown_name("measure", self.measure, MEASURES)
        if self.budget is not None and (not is_number(self.budget) or not self.budget > 0):
            raise NeuronPathError(f"search.budget is {self.budget}; expected a positive number of greedy searches.")

    @property
    def n_prefixes(self) -> int:
        """That of the path and one that branches off."""
        return 2

    def n_rated(self, n_blocks: int) -> int:
        """Those that a climb tries together, and those that it compares them with."""
        return n_blocks.bit_length() + 6

    @abstractmethod
    def improve(self, objective: Objective, scorer: Scorer, start: Rated, allowance: Tensor) -> Improved:
        """This search's own paths.

        Args:
            objective: what is maximised.
            scorer: proposes neurons.
            start: the greedy search's paths.
            allowance: (B,) what each image may cost beside them; infinite without a budget.
        """

    def run(self, problem: Problem, scorer: Scorer, *, top_k: int = 1, keep_candidates: bool = False) -> Found:
        """Search greedily, then better."""
        objective = Objective(problem, cast("Measure", self.measure))
        greedy = Greedy().run(problem, scorer, top_k=top_k)
        start = Improved(
            objective.rate(problem.every_image, greedy.paths),
            torch.full_like(greedy.scored.joint, 1 + Prices.of(problem).path, dtype=torch.float64),
            greedy.clearance.amin(1).to(greedy.scored.joint),
            greedy.resolution.amin(1).to(greedy.scored.joint),
        )
        allowance = (torch.inf if self.budget is None else self.budget) - start.cost
        own = self.improve(objective, scorer, start.paths, allowance)
        best = start.or_better(own)
        return _found(objective, scorer, start.paths, best, keep_candidates)


def _found(objective: Objective, scorer: Scorer, greedy: Rated, best: Improved, keep_candidates: bool) -> Found:
    problem, paths = objective.problem, objective.in_order(best.paths)
    scored = PathScores.of(paths.terms, problem.quadrature.n_steps)
    if objective.measure != "joint":
        scored = path_scores(problem, paths.paths)
    scores = paths.scores
    others = objective.swaps(paths, 1).scores[:, :, 0]
    n_blocks = others.shape[1]
    return Found(
        paths=paths.paths,
        scored=scored,
        margins=(scores.unsqueeze(1) - others) / scores.abs().unsqueeze(1),
        clearance=best.clearance.unsqueeze(1).expand(-1, n_blocks),
        resolution=best.resolution.unsqueeze(1).expand(-1, n_blocks),
        candidates=_candidates(problem, scorer, paths) if keep_candidates else None,
        costs=best.cost,
        objectives=scores,
        greedy_objectives=greedy.scores,
    )


def _candidates(problem: Problem, scorer: Scorer, paths: Rated) -> list[Any]:
    """What the scorer makes of every neuron, along the path that was found."""
    scoring, candidates = scorer.start(problem), []
    for index in range(paths.paths.shape[1]):
        candidates.append(integral(scoring.candidates(index), 2))
        scoring.choose(index, paths.paths[:, index])
    return candidates
