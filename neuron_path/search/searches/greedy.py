"""The paper's layer-progressive greedy search."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neuron_path.attribution.problem import Problem
from neuron_path.attribution.scorer import Scorer
from neuron_path.attribution.ties import TIE, largest, ranked
from neuron_path.attribution.trust import CLOSE_CALL
from neuron_path.search.search import Found, Search, searches


@searches.register("greedy")
@dataclass(frozen=True)
class Greedy(Search):
    """From input to output, take each block's best candidates given the choices before (Wang et al., ICLR 2025)."""

    def run(self, problem: Problem, scorer: Scorer, *, top_k: int = 1, keep_candidates: bool = False) -> Found:
        """One pass over the blocks; never revisits a choice."""
        return _walk(problem, scorer, top_k, keep_candidates, None)

    def settle(
        self, problem: Problem, scorer: Scorer, draft: Found, *, top_k: int = 1, keep_candidates: bool = False
    ) -> Found:
        """Rate again only the blocks in doubt, and all that follow a choice which turns out otherwise."""
        return _walk(problem, scorer, top_k, keep_candidates, draft)


def _walk(problem: Problem, scorer: Scorer, top_k: int, keep_candidates: bool, draft: Found | None) -> Found:
    scoring = scorer.start(problem)
    paths, margins, clearances, candidates = [], [], [], []
    for index in range(len(problem.adapter.blocks)):
        if draft is not None and not (draft.clearance[:, index] < CLOSE_CALL).any():
            neurons, margin, clearance = draft.paths[:, index], draft.margins[:, index], draft.clearance[:, index]
            scores = None if draft.candidates is None else draft.candidates[index]
        else:
            scores = scoring.candidates(index)
            neurons, margin, clearance = pick(scores, top_k)
            if draft is not None and not torch.equal(neurons, draft.paths[:, index]):
                draft = None  # what follows was found on another path
        scoring.choose(index, neurons)
        paths.append(neurons)
        margins.append(margin)
        clearances.append(clearance)
        candidates.append(scores)
    path = torch.stack(paths, dim=1)
    return Found(
        paths=path,
        scores=scoring.path_scores(path),
        margins=torch.stack(margins, dim=1),
        clearance=torch.stack(clearances, dim=1),
        candidates=candidates if keep_candidates else None,
    )


def pick(scores: Float[Tensor, "B F"], top_k: int) -> tuple[Int[Tensor, "B k"], Float[Tensor, "B"], Float[Tensor, "B"]]:
    """The k best candidates (ties: the lowest index), the margin to the best left out, and the closest call.

    Scores that differ by less than float64 can tell, as those of two equal neurons may, are ties.

    >>> neurons, margin, _ = pick(torch.tensor([[1.0, 4.0, 4.0, 3.0]]), top_k=2)
    >>> neurons.tolist(), margin.tolist()
    ([[1, 2]], [0.25])
    """
    scale = largest(scores)
    values, order = ranked(scores)
    gaps = (values[:, :-1] - values[:, 1:])[:, :top_k].clamp(min=0)
    if scores.shape[1] > top_k:
        last = gaps[:, -1]
        margin = torch.where(last <= TIE * scale, 0.0, last / values[:, top_k - 1].abs())
    else:
        margin = torch.full_like(scale, torch.inf)
    closest = gaps.amin(1) if gaps.shape[1] else torch.full_like(scale, torch.inf)
    return order[:, :top_k], margin, torch.where(scale > 0, closest / scale, torch.inf)
