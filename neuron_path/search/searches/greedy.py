"""The paper's layer-progressive greedy search."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from neuron_path.attribution.convergence import integral, integration_error
from neuron_path.attribution.problem import Problem
from neuron_path.attribution.scorer import Scorer
from neuron_path.attribution.ties import TIE, largest, ranked
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
                found = pick(again, top_k, n_steps)
                moved[rows] |= (found.neurons != choice.neurons[rows]).any(1)
                choice = Choice(*(old.index_copy(0, rows, new.to(old)) for old, new in zip(choice, found, strict=True)))
                scores = None if scores is None else scores.index_copy(0, rows, integral(again, 2))
        scoring.choose(index, choice.neurons)
        choices.append(choice)
        candidates.append(scores)
    path, margins, clearance, resolution = (torch.stack(values, dim=1) for values in zip(*choices, strict=True))
    terms = scoring.path_scores(path)
    return Found(
        paths=path,
        scores=integral(terms, 1),
        errors=None if terms.ndim == 1 else integration_error(terms, n_steps),
        margins=margins,
        clearance=clearance,
        resolution=resolution,
        candidates=candidates if keep_candidates else None,
    )


class Choice(NamedTuple):
    """The neurons chosen in one block, and how clearly; see `Found`."""

    neurons: Int[Tensor, "B k"]
    margin: Float[Tensor, "B"]
    clearance: Float[Tensor, "B"]
    resolution: Float[Tensor, "B"]


def pick(terms: Float[Tensor, "*terms B F"], top_k: int, n_steps: int = 0) -> Choice:
    """The k best candidates (ties: the lowest index), the margin to the best left out, and the closest calls.

    Scores that differ by less than float64 can tell, as those of two equal neurons may, are ties.

    Args:
        terms: the scores; with the `adaptive` rule of `n_steps` nodes also what tells their error.
        top_k: how many to choose.
        n_steps: see `terms`.

    >>> choice = pick(torch.tensor([[1.0, 4.0, 4.0, 3.0]]), top_k=2)
    >>> choice.neurons.tolist(), choice.margin.tolist()
    ([[1, 2]], [0.25])
    """
    scores = integral(terms, 2)
    scale = largest(scores)
    infinite = torch.full_like(scale, torch.inf)
    values, order = ranked(scores)
    gaps = (values[:, :-1] - values[:, 1:])[:, :top_k].clamp(min=0)
    if scores.shape[1] > top_k:
        last = gaps[:, -1]
        margin = torch.where(last <= TIE * scale, 0.0, last / values[:, top_k - 1].abs())
    else:
        margin = infinite
    closest = gaps.amin(1) if gaps.shape[1] else infinite
    clearance = torch.where(scale > 0, closest / scale, torch.inf)
    resolution = (
        infinite if terms is scores else _excess(terms.gather(-1, order.expand_as(terms)), top_k, n_steps) / scale
    )
    return Choice(order[:, :top_k], margin, clearance, torch.where(scale > 0, resolution, torch.inf))


def _excess(ranked: Float[Tensor, "4 B F"], top_k: int, n_steps: int) -> Float[Tensor, "B"]:
    """The least lead of a chosen candidate over the next, and of the last over all left out, beyond its error."""
    leads = torch.cat(
        (ranked[..., : top_k - 1] - ranked[..., 1:top_k], ranked[..., top_k - 1 : top_k] - ranked[..., top_k:]), -1
    )
    return (
        (leads[0] - integration_error(leads, n_steps)).amin(1)
        if leads.shape[-1]
        else ranked.new_full(ranked.shape[1:2], torch.inf)
    )
