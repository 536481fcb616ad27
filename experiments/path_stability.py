"""What of the paths stays when images, the quadrature or the training seed change."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment

from neuron_path.errors import NeuronPathError


def path_overlap(one: ArrayLike, other: ArrayLike) -> NDArray[np.float64]:
    """Return for each image how much two paths of it have in common: the mean over blocks of the Jaccard index.

    For one neuron a block that is the share of blocks in which both have the same neuron.

    Args:
        one: (n, L) or (n, L, k) neurons, distinct within a block.
        other: the same shape.

    Returns:
        (n,) in [0, 1].

    Raises:
        NeuronPathError: for other shapes.

    >>> path_overlap([[1, 2, 3, 4]], [[1, 2, 0, 4]]).tolist()
    [0.75]
    >>> path_overlap([[[1, 2], [3, 4]]], [[[2, 1], [3, 5]]]).round(3).tolist()
    [0.667]
    """
    first, second = np.asarray(one), np.asarray(other)
    if first.shape != second.shape or first.ndim not in (2, 3):
        raise NeuronPathError(
            f"The paths to compare have shapes {first.shape} and {second.shape}; expected (n, L) or (n, L, k) twice."
        )
    first, second = (paths.reshape(*paths.shape[:2], -1) for paths in (first, second))
    common = (first[..., :, None] == second[..., None, :]).sum(axis=(2, 3))
    return (common / (2 * first.shape[2] - common)).mean(axis=1)


def match_neurons(one: ArrayLike, other: ArrayLike) -> NDArray[np.int64]:
    """Pair the neurons of a block in two models so that the sum of the correlations of their activations is largest.

    Networks that differ in their training seed alone have their neurons in another order; what they compute is
    compared after this. The assignment is optimal (Hungarian method, Kuhn 1955; as in Li et al., "Convergent learning",
    ICLR 2016). A neuron that never varies correlates with none.

    Args:
        one: (n, F) activations of one model's neurons on n images.
        other: (n, F) those of the other model on the same images.

    Returns:
        (F,) for each neuron of the first model the one of the other.

    Raises:
        NeuronPathError: for other shapes, or fewer than two images.

    >>> activations = np.random.default_rng(0).normal(size=(20, 4))
    >>> match_neurons(activations, activations[:, [2, 0, 3, 1]]).tolist()
    [1, 3, 0, 2]
    """
    return linear_sum_assignment(correlations(one, other), maximize=True)[1].astype(np.int64)


def correlations(one: ArrayLike, other: ArrayLike) -> NDArray[np.float64]:
    """Return Pearson's correlation of every neuron of one model with every one of the other, (F, F); 0 of a neuron that
    never varies. Arguments and errors as of :func:`match_neurons`.
    """
    first, second = (np.asarray(values, dtype=np.float64) for values in (one, other))
    if first.shape != second.shape or first.ndim != 2 or len(first) < 2:
        raise NeuronPathError(
            f"The activations to match have shapes {first.shape} and {second.shape}; expected (n, F) twice, of two or "
            "more images."
        )
    return _standardised(first).T @ _standardised(second)


def translate(paths: ArrayLike, matching: ArrayLike) -> NDArray[np.int64]:
    """Write paths of one model in the neurons of another.

    Args:
        paths: (n, L) or (n, L, k) neurons.
        matching: (L, F) for each block what `match_neurons` gives.

    >>> translate([[0, 1]], [[1, 0], [1, 0]]).tolist()
    [[1, 0]]
    """
    chosen, partners = np.asarray(paths), np.asarray(matching)
    block = np.arange(chosen.shape[1]).reshape(1, -1, *[1] * (chosen.ndim - 2))
    return partners[block, chosen]


def _standardised(values: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = values - values.mean(axis=0)
    lengths = np.linalg.norm(centred, axis=0)
    varies = lengths > 1e-12 * np.abs(values).max(axis=0, initial=0)
    return np.divide(centred, lengths, out=np.zeros_like(centred), where=varies)
