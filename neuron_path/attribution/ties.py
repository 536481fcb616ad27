"""Order among scores that differ by less than float64 can tell: as equal neurons have them, by index."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

# Relative to the largest score compared: above what rounding moves in float64, also where the network amplifies it
# (up to 7e-12 was seen), far below what a close call that float32 leaves to it can be told apart by.
TIE = 1e-10


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
