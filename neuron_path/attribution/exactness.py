"""How exact float32 is on an image, what that leaves in doubt, and how it is computed again in float64.

Three things that rounding does, and what is done about each:

- it moves scores: by how much is a property of the weights and the image, so it is measured on each (`rounding`);
- it can turn a choice between two candidates that score alike: such a choice is made again in float64 (`close_call`);
- it leaves no order among candidates that are equal in truth, as twin neurons are: these go by index (`ranked`).

See docs/how-it-works.md and docs/decisions/0003-close-calls.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from neuron_path.attribution.problem import Problem
from neuron_path.attribution.target import without_target
from neuron_path.models.session import Session

# Relative to the largest score compared: above what rounding moves in float64, also where the network amplifies it
# (up to 7e-12 was seen), far below what a close call that float32 leaves to it can be told apart by.
TIE = 1e-10
# Clearances, relative to the largest score compared, below which a choice is made again in float64: this much on every
# image, and on one that rounds more than most so many times its own rounding.
_CLEAR = 5e-5
_TIMES_ROUNDING = 10
# Scores are right to ten times the image's rounding, and never to less than this, relative to the score. They were
# seen off by up to 3.3 times the rounding, so float32 keeps that promise while five times that is below it.
_LOOSEST = 1e-4
_TIMES_ROUNDING_OF_SCORES = 5
# Past these log-odds p or 1 − p, and with it every gradient, nears float32's smallest numbers (e⁻⁸⁷) or is 0.
_EXTREME_LOG_ODDS = 60


class Exactness(NamedTuple):
    """How far float32 is to be trusted with B images.

    Attributes:
        rounding: (B,) ρ, how much the image's gradients round.
        lost: (B,) whether nothing holds: the predicted class is in doubt, or the odds leave float32's range.
    """

    rounding: Float[Tensor, "B"]
    lost: Bool[Tensor, "B"]

    def take(self, rows: Int[Tensor, "b"]) -> Exactness:
        """That of some images."""
        return Exactness(self.rounding[rows], self.lost[rows])

    @property
    def close_call(self) -> Float[Tensor, "B"]:
        """The clearance below which a choice is in doubt: max(5e-5, 10 ρ)."""
        return (_TIMES_ROUNDING * self.rounding).clamp(min=_CLEAR)

    @property
    def blurs_scores(self) -> Bool[Tensor, "B"]:
        """Whether a score may be off by more than is promised: where five times the rounding is more than 1e-4."""
        return self.lost | (_TIMES_ROUNDING_OF_SCORES * self.rounding > _LOOSEST)


def exactness(problem: Problem, known: Float[Tensor, "B"] | None = None) -> Exactness | None:
    """How far float32 is to be trusted with the images of a problem; None in another type.

    Args:
        problem: the images.
        known: their rounding, where it was measured before; else it is measured now, which needs nudged copies.
    """
    logits = problem.clean.logits
    if logits.dtype != torch.float32:
        return None
    found = Exactness(
        rounding(problem) if known is None else known, torch.zeros_like(problem.targets, dtype=torch.bool)
    )
    lost = lead(logits) < found.close_call
    odds = problem.target.log_odds(logits, problem.targets)
    if odds is not None:
        lost |= odds.abs() > _EXTREME_LOG_ODDS
    if problem.target.name == "contrast" and problem.target.contrast_class is None:  # which class the runner-up is
        lost |= lead(without_target(logits, problem.targets)) < found.close_call
    return found._replace(lost=lost)


def rounding(problem: Problem) -> Float[Tensor, "B"]:
    """ρ: the largest change of a block's gradients, relative to the largest of them, when every block's input and
    output move by up to one unit in the last place.

    The nudged copies run in the clean pass, beside the images: one forward and one backward pass of the live network,
    whatever the number of nodes. The nudges are the same for every image, so no image's number depends on the batch.
    """
    worst = problem.clean.embedded.new_zeros(problem.n_images)
    for plain, moved in zip(problem.clean_gradients, problem.nudged_gradients, strict=True):
        # (B, S, D) summed over the tokens in scope, then the largest of D.
        change = (moved - plain).sum(1).abs().amax(1) / plain.sum(1).abs().amax(1)
        worst = torch.maximum(worst, change.nan_to_num(0, posinf=torch.inf))
    return worst


def lead(logits: Float[Tensor, "B C"]) -> Float[Tensor, "B"]:
    """How clear the predicted class is: its lead over the next, relative to the largest logit; −∞ stands for none."""
    if logits.isfinite().sum(1).amin() < 2:
        return torch.full_like(logits[:, 0], torch.inf)
    best = logits.topk(2, dim=1).values
    return (best[:, 0] - best[:, 1]) / logits.masked_fill(logits == -torch.inf, 0).abs().amax(1)


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


def largest(scores: Float[Tensor, "B F"]) -> Float[Tensor, "B"]:
    """The largest absolute score of those that were rated; −∞ stands for neurons that were not."""
    return torch.where(scores == -torch.inf, 0, scores).abs().amax(1)


def ranked(scores: Float[Tensor, "B F"]) -> tuple[Float[Tensor, "B F"], Int[Tensor, "B F"]]:
    """Scores in descending order with their indices; runs of neighbours within the tolerance go by index.

    >>> ranked(torch.tensor([[1.0, 4.0, 4.0 + 1e-12, 3.0]], dtype=torch.float64))[1].tolist()
    [[1, 2, 3, 0]]
    """
    tolerance = TIE * largest(scores)
    values, order = scores.sort(dim=1, descending=True, stable=True)
    steps = ~(values[:, :-1] - values[:, 1:] <= tolerance.unsqueeze(1))  # NaN keeps its place, the first
    run = torch.nn.functional.pad(steps.cumsum(1), (1, 0))
    by_index = (run * scores.shape[1] + order).argsort(1)
    return values.gather(1, by_index), order.gather(1, by_index)
