"""Which images float32 is not to be trusted with, and how their numbers are computed again in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from neuron_path.attribution.problem import Problem
from neuron_path.attribution.rounding import ILL_CONDITIONED, rounding
from neuron_path.attribution.target import target_margin
from neuron_path.models.session import Session

# A decision whose winner leads by less than this share of the largest score compared is settled in float64. Rounding
# in float32 moves scores by at most some 5e-6 of it, or else the whole image is searched in float64
# (docs/decisions/0003-close-calls.md), so no batch turns a choice.
CLOSE_CALL = 5e-5
# Past these log-odds p or 1 − p, and with it every gradient, nears float32's smallest numbers (e⁻⁸⁷) or is 0.
_EXTREME_LOG_ODDS = 60


def lead(logits: Float[Tensor, "B C"]) -> Float[Tensor, "B"]:
    """How clear the predicted class is: its lead over the next, relative to the largest logit."""
    best = logits.topk(2, dim=1).values
    return (best[:, 0] - best[:, 1]) / logits.abs().amax(1)


def needs_double(problem: Problem) -> Bool[Tensor, "B"]:
    """Images on which float32 is not to be trusted: where the network amplifies its rounding, where the predicted class
    is in doubt, or where the odds of the target leave its range. In another type it is none."""
    logits = problem.clean.logits
    if logits.dtype != torch.float32:
        return torch.zeros_like(problem.targets, dtype=torch.bool)
    lost = (lead(logits) < CLOSE_CALL) | (rounding(problem) > ILL_CONDITIONED)
    if problem.target == "probability":
        lost |= target_margin(logits, problem.targets).abs() > _EXTREME_LOG_ODDS
    return lost


def settled(
    session: Session,
    values: Sequence[Tensor],
    doubtful: Bool[Tensor, "B"],
    again: Callable[[Session, Int[Tensor, "b"]], Sequence[Tensor]],
) -> list[Tensor]:
    """The same values with the doubtful images' rows computed again in float64, where the model is in float32.

    Args:
        session: the model.
        values: each (B, …), by float32.
        doubtful: which images.
        again: from the session in float64, active, and the rows to the same values of these.
    """
    rows = doubtful.nonzero().squeeze(1)
    if session.dtype != torch.float32 or not len(rows):
        return list(values)
    double = session.double()
    with double.active():
        others = again(double, rows)
    return [one.index_copy(0, rows, other.to(one)) for one, other in zip(values, others, strict=True)]
