"""Which neurons stay: a share of every block, or of all blocks together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from neuron_path.errors import NeuronPathError, unknown_name
from neuron_path.pruning.cost import UnitCosts

Allocation = Literal["uniform", "global"]
Scores = Sequence[Float[Tensor, "_F"]]
_FINEST = 1e-7  # of shares of neurons, of which no model has ten million


def keep_neurons(
    ranking: Scores, keep: float, allocation: Allocation = "uniform", *, then: Scores | None = None
) -> list[Int[Tensor, "_n"]]:
    """The neurons that stay when a share of them is kept.

    `uniform` keeps the best ``max(1, round(keep · F))`` neurons of each block. `global` divides each block's scores by
    the mean of their absolute values (a block of zeros stays one), keeps the best neuron of each block, and then the
    best of all others until ``max(L, round(keep · ΣF))`` are kept. Halves are rounded up. Equal scores are decided by
    `then`, if there is one, then by the lower block, then by the lower index.

    Args:
        ranking: for each block (F,) scores; the higher, the more it matters.
        keep: the kept share of neurons, above 0, up to 1. It counts neurons, not the weights or operations that they
            take, which differ where blocks have other widths of the stream.
        allocation: "uniform" or "global".
        then: a second ranking, of the same shapes, that decides among equal scores; as neurons that lie on no path.

    Returns:
        For each block the kept neurons in ascending order, int64 on the CPU; at least one.

    Raises:
        NeuronPathError: a share out of range, an unknown allocation, scores that are not finite, rankings of unequal
            shapes.

    >>> ranking = [torch.tensor([0.1, 0.9, 0.9, 0.0]), torch.tensor([5.0, 1.0])]
    >>> [kept.tolist() for kept in keep_neurons(ranking, 0.5)]
    [[1, 2], [0]]
    """
    if allocation not in get_args(Allocation):
        raise unknown_name("allocation", str(allocation), get_args(Allocation))
    if not 0 < keep <= 1:  # also NaN
        raise NeuronPathError(f"The kept share is {keep}; expected a number above 0, up to 1.")
    first = _checked(ranking, "ranking")
    second = [np.zeros_like(scores) for scores in first] if then is None else _checked(then, "second ranking")
    widths = [len(scores) for scores in first]
    if [len(scores) for scores in second] != widths:
        raise NeuronPathError(
            f"The two rankings rate {widths} and {[len(scores) for scores in second]} neurons: take both from one "
            "model."
        )
    if allocation == "uniform":
        kept = [_best(a, b)[: _count(keep, len(a))] for a, b in zip(first, second, strict=True)]
    else:
        kept = _over_all(first, second, keep)
    return [torch.from_numpy(np.sort(neurons)) for neurons in kept]


def keep_operations(
    ranking: Scores, keep: float, costs: UnitCosts, allocation: Allocation = "uniform", *, then: Scores | None = None
) -> list[Int[Tensor, "_n"]]:
    """The most neurons of `keep_neurons` with which the model takes at most a share of its operations.

    Args:
        ranking, allocation, then: as for `keep_neurons`.
        keep: the kept share of the model's floating-point operations, up to 1.
        costs: of `unit_costs`, of the same units.

    Raises:
        NeuronPathError: as `keep_neurons`, or a share that no pruned model gets down to.
    """
    if not costs.least <= keep <= 1:
        raise NeuronPathError(
            f"The kept share of operations is {keep}, but with one unit left in each block the model takes "
            f"{costs.least:.4f} of them: give a number from {math.ceil(100 * costs.least) / 100} to 1, or prune other "
            "units too."
        )
    kept = keep_neurons(ranking, 1.0, allocation, then=then)
    low, high = 0.0, 1.0  # shares of neurons that fit, and that may not; what a larger one keeps holds a smaller one's
    while keep < 1 and high - low > _FINEST:
        middle = (low + high) / 2
        tried = keep_neurons(ranking, middle, allocation, then=then)
        if costs.share([len(neurons) for neurons in tried]) <= keep:
            low, kept = middle, tried
        else:
            high = middle
    return kept


def _over_all(first: list[np.ndarray], second: list[np.ndarray], keep: float) -> list[np.ndarray]:
    orders = [_best(a, b) for a, b in zip(first, second, strict=True)]
    blocks = np.repeat(np.arange(len(first)), [len(scores) for scores in first])
    neurons = np.concatenate([np.arange(len(scores)) for scores in first])
    is_best = np.concatenate([np.arange(len(scores)) == order[0] for scores, order in zip(first, orders, strict=True)])
    a, b = (np.concatenate([_scaled(scores) for scores in every]) for every in (first, second))
    # lexsort takes its last key first: each block's best, then by score, then by the second one, then in order.
    chosen = np.lexsort((neurons, blocks, -b, -a, ~is_best))[: max(len(first), _count(keep, len(neurons)))]
    return [neurons[chosen[blocks[chosen] == index]] for index in range(len(first))]


def _best(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Neurons from the best to the worst; lexsort is stable, so ties keep their order."""
    return np.lexsort((-b, -a))


def _scaled(scores: np.ndarray) -> np.ndarray:
    """A block's scores in units of their mean size, so that blocks of other scales compare."""
    # By the largest first: the mean of the smallest and of the largest floats would vanish, or overflow.
    largest = float(np.abs(scores).max())
    if largest == 0:
        return scores
    scores = scores / largest
    return scores / np.abs(scores).mean()


def _count(keep: float, n: int) -> int:
    return max(1, math.floor(keep * n + 0.5))


def _checked(ranking: Scores, what: str) -> list[np.ndarray]:
    found = [torch.as_tensor(scores).detach().to("cpu", torch.float64).numpy() for scores in ranking]
    if not found:
        raise NeuronPathError(f"The {what} rates no block: expected scores (F,) for each block.")
    for index, scores in enumerate(found):
        if scores.ndim != 1 or not len(scores):
            raise NeuronPathError(
                f"The {what} of block {index} has shape {scores.shape}; expected (F,), a score for each neuron."
            )
        if not np.isfinite(scores).all():
            raise NeuronPathError(f"The {what} of block {index} holds NaN or infinity: rank its neurons again.")
    return found
