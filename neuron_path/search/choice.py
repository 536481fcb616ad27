"""One block's choice by the ratings of its candidates, and what a search makes of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from neuron_path.attribution.convergence import integral, integration_error
from neuron_path.attribution.exactness import TIE, largest, ranked
from neuron_path.attribution.scorer import Scoring
from neuron_path.search.search import Found


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
    resolution = infinite
    if terms is not scores:
        resolution = _excess(terms.gather(-1, order.expand_as(terms)), top_k, n_steps) / scale
    return Choice(order[:, :top_k], margin, clearance, torch.where(scale > 0, resolution, torch.inf))


def _excess(ranked: Float[Tensor, "4 B F"], top_k: int, n_steps: int) -> Float[Tensor, "B"]:
    """The least lead of a chosen candidate over the next, and of the last over all left out, beyond its error."""
    between = ranked[..., : top_k - 1] - ranked[..., 1:top_k]
    over_rest = ranked[..., top_k - 1 : top_k] - ranked[..., top_k:]
    leads = torch.cat((between, over_rest), -1)
    if not leads.shape[-1]:
        return torch.full_like(ranked[0, :, 0], torch.inf)
    return (leads[0] - integration_error(leads, n_steps)).amin(1)


def found(scoring: Scoring, choices: Sequence[Choice], candidates: list[Float[Tensor, "B F"]] | None) -> Found:
    """What a search returns, from the choices of all blocks, the last of which has just been made.

    Args:
        scoring: the scorer at work; it scores the path.
        choices: one for each block.
        candidates: the scores of each block's candidates, if they are kept.
    """
    path, margins, clearance, resolution = _by_block(choices)
    return Found(path, scoring.path_scores(path), margins, clearance, resolution, candidates)


def revised(
    draft: Found,
    scoring: Scoring,
    choices: Sequence[Choice],
    candidates: list[Float[Tensor, "B F"]] | None,
    rescored: Bool[Tensor, "B"],
) -> Found:
    """The draft with other choices; see `found`.

    Args:
        draft: what was found before.
        scoring, choices, candidates: as for `found`; unless an image is to be scored again, `scoring` need
            not have seen the choices that are the draft's.
        rescored: images whose path's score is to be told again; the others keep the draft's.
    """
    if not rescored.any():
        path, margins, clearance, resolution = _by_block(choices)
        return Found(path, draft.scored, margins, clearance, resolution, candidates)
    new = found(scoring, choices, candidates)
    return replace(new, scored=new.scored.where(rescored, draft.scored))


def spread(choice: Choice, widths: Sequence[int]) -> list[Choice]:
    """A choice among the neurons of all blocks, side by side, as one of each block."""
    return [choice._replace(neurons=neurons) for neurons in in_blocks(choice.neurons, widths).unbind(1)]


def in_blocks(neurons: Int[Tensor, "n k"], widths: Sequence[int]) -> Int[Tensor, "n L k"]:
    """Neurons of all blocks, counted from the first block's first, as each block's own, in their order, then −1.

    >>> in_blocks(torch.tensor([[9, 0, 4]]), [4, 6]).tolist()
    [[[0, -1, -1], [5, 0, -1]]]
    """
    found, first = [], 0
    for width in widths:
        own = neurons - first
        is_own = (own >= 0) & (own < width)
        first += width
        order = (~is_own).to(torch.uint8).sort(dim=1, stable=True).indices
        found.append(torch.where(is_own, own, -1).gather(1, order))
    return torch.stack(found, 1)


def choices_of(result: Found) -> list[Choice]:
    """The choice of each block that led to a result."""
    by_block = (result.paths, result.margins, result.clearance, result.resolution)
    return [Choice(*values) for values in zip(*(values.unbind(1) for values in by_block), strict=True)]


def _by_block(choices: Sequence[Choice]) -> Choice:
    return Choice(*(torch.stack(values, dim=1) for values in zip(*choices, strict=True)))
