"""The paper's layer-progressive greedy search."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from neuron_path.attribution.problem import Problem
from neuron_path.attribution.scorer import Scorer
from neuron_path.search.search import Found, searches


@searches.register("greedy")
@dataclass(frozen=True)
class Greedy:
    """From input to output, take each block's best candidates given the choices before (Wang et al., ICLR 2025)."""

    def run(self, problem: Problem, scorer: Scorer, *, top_k: int = 1, keep_candidates: bool = False) -> Found:
        """One pass over the blocks; never revisits a choice."""
        scoring = scorer.start(problem)
        paths, margins, clearances, candidates = [], [], [], []
        for index in range(len(problem.adapter.blocks)):
            scores = scoring.candidates(index)
            neurons, margin, clearance = pick(scores, top_k)
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
            clearance=torch.stack(clearances, dim=1).amin(1),
            candidates=candidates if keep_candidates else None,
        )


def pick(
    scores: Float[Tensor, "B F"], top_k: int
) -> tuple[Int[Tensor, "B k"], Float[Tensor, "B"], Float[Tensor, "B"]]:
    """The k best candidates (ties: the lowest index), the margin to the best left out, and the closest call.

    >>> neurons, margin, _ = pick(torch.tensor([[1.0, 4.0, 4.0, 3.0]]), top_k=2)
    >>> neurons.tolist(), margin.tolist()
    ([[1, 2]], [0.25])
    """
    values, order = scores.sort(dim=1, descending=True, stable=True)
    gaps = values[:, :top_k] - values[:, 1 : top_k + 1] if scores.shape[1] > top_k else -values[:, :top_k].diff(dim=1)
    if scores.shape[1] > top_k:
        margin = gaps[:, -1] / values[:, top_k - 1].abs()
        margin = torch.where(gaps[:, -1] == 0, 0.0, margin)
    else:
        margin = torch.full_like(values[:, 0], torch.inf)
    scale = scores.abs().amax(1)
    closest = gaps.amin(1) if gaps.shape[1] else torch.full_like(scale, torch.inf)
    return order[:, :top_k], margin, torch.where(scale > 0, closest / scale, torch.inf)
