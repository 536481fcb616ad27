"""The paper's layer-progressive greedy search."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from neuron_path.attribution.convergence import integral
from neuron_path.attribution.problem import Problem
from neuron_path.attribution.scorer import Scorer
from neuron_path.search.choice import Choice, found, pick
from neuron_path.search.search import Found, Search, searches


@searches.register("greedy")
@dataclass(frozen=True)
class Greedy(Search):
    """From input to output, take each block's best candidates given the choices before (Wang et al., ICLR 2025)."""

    def run(self, problem: Problem, scorer: Scorer, *, top_k: int = 1, keep_candidates: bool = False) -> Found:
        """One pass over the blocks; never revisits a choice."""
        return _walk(problem, scorer, top_k, keep_candidates)

    def revise(
        self,
        problem: Problem,
        scorer: Scorer,
        draft: Found,
        doubtful: Bool[Tensor, "B L"],
        *,
        top_k: int = 1,
        keep_candidates: bool = False,
    ) -> Found:
        """Rate again only the blocks in doubt, and all that follow a choice which turns out otherwise."""
        return _walk(problem, scorer, top_k, keep_candidates, draft, doubtful)


def _walk(
    problem: Problem,
    scorer: Scorer,
    top_k: int,
    keep_candidates: bool,
    draft: Found | None = None,
    doubtful: Bool[Tensor, "B L"] | None = None,
) -> Found:
    scoring, n_steps = scorer.start(problem), problem.quadrature.n_steps
    choices, candidates = [], []
    moved = torch.zeros_like(problem.targets, dtype=torch.bool)  # images on another path than the draft's by now
    for index in range(len(problem.adapter.blocks)):
        if draft is None or doubtful is None:
            scores = scoring.candidates(index)
            choice = pick(scores, top_k, n_steps)
            scores = integral(scores, 2)
        else:
            choice = Choice(
                *(values[:, index] for values in (draft.paths, draft.margins, draft.clearance, draft.resolution))
            )
            scores = draft.candidates[index] if draft.candidates is not None else None
            rows = (doubtful[:, index] | moved).nonzero().squeeze(1)
            if len(rows):
                again = scoring.candidates(index, rows)
                rated = pick(again, top_k, n_steps)
                moved[rows] |= (rated.neurons != choice.neurons[rows]).any(1)
                choice = Choice(*(old.index_copy(0, rows, new.to(old)) for old, new in zip(choice, rated, strict=True)))
                scores = None if scores is None else scores.index_copy(0, rows, integral(again, 2))
        scoring.choose(index, choice.neurons)
        choices.append(choice)
        candidates.append(scores)
    return found(scoring, choices, n_steps, candidates if keep_candidates else None)
