"""Methods side by side: whether they find the same paths, and whether classes are alike in the same way."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from neuron_path.classes.class_paths import ClassPaths
from neuron_path.classes.similarity import class_similarity
from neuron_path.classes.usage import count_usage
from neuron_path.errors import NeuronPathError
from neuron_path.stats.mantel import mantel

_BATCH: Final = 2**22
"""Pairs of neurons that are compared at once."""
_LEAST_CLASSES: Final = 4


@dataclass(frozen=True, slots=True)
class PathAgreement:
    """How far two methods find the same paths for the same images.

    Attributes:
        overlap: mean over images and blocks of the Jaccard index of the two paths' neurons, in [0, 1].
        expected: the same when the paths of one are shuffled over the images: what follows from neurons that both like
            to choose, whatever the image.
        p: one-sided p-value of that shuffle, in (0, 1].
        n_permutations: shuffles.
        n_images: images.
    """

    overlap: float
    expected: float
    p: float
    n_permutations: int
    n_images: int


def path_agreement(one: ClassPaths, other: ClassPaths, *, n_permutations: int = 199, seed: int = 0) -> PathAgreement:
    """Compare the paths of two methods of one model, image by image.

    Args:
        one: grouped paths.
        other: of the same images and blocks; the numbers of neurons a block may differ.
        n_permutations: shuffles, at least 1.
        seed: of the shuffles.

    Raises:
        NeuronPathError: for other images or blocks, or arguments out of range.

    >>> from neuron_path.classes.class_paths import make_class_paths
    >>> one, other = (make_class_paths(paths, [0, 1]) for paths in ([[0, 3], [1, 3]], [[0, 3], [1, 2]]))
    >>> path_agreement(one, other).overlap
    0.75
    """
    if not np.array_equal(np.sort(one.images), np.sort(other.images)) or one.n_blocks != other.n_blocks:
        raise NeuronPathError(
            f"Paths of {one.n_images} images and {one.n_blocks} blocks are compared with paths of {other.n_images} "
            f"images and {other.n_blocks} blocks; expected the same images and blocks."
        )
    if n_permutations < 1:
        raise NeuronPathError(f"n_permutations is {n_permutations}; expected 1 or more, such as 199.")
    # By name: shuffles must not know how either method groups the images.
    ours, theirs = one.paths[np.argsort(one.images)], other.paths[np.argsort(other.images)]
    observed = _mean_overlap(ours, theirs)
    rng = np.random.default_rng(seed)
    shuffled = np.array([_mean_overlap(ours, theirs[rng.permutation(len(ours))]) for _ in range(n_permutations)])
    reached = int((shuffled >= observed - 1e-12).sum())
    return PathAgreement(
        observed, float(shuffled.mean()), (1 + reached) / (1 + n_permutations), n_permutations, len(ours)
    )


def _mean_overlap(one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    """Mean Jaccard index of (n, L, k) and (n, L, K)."""
    size = max(1, _BATCH // (one.shape[1] * one.shape[2] * other.shape[2]))
    total = 0.0
    for begin in range(0, len(one), size):
        part, theirs = one[begin : begin + size], other[begin : begin + size]
        common = (part[..., :, None] == theirs[..., None, :]).sum((2, 3))
        total += float((common / (part.shape[2] + theirs.shape[2] - common)).sum())
    return total / (one.shape[0] * one.shape[1])


def compare_methods(
    methods: Sequence[tuple[str, str, ClassPaths]], *, n_permutations: int = 199, seed: int = 0
) -> pd.DataFrame:
    """Compare every two methods on the images that both have.

    Args:
        methods: name, model (name and weights: what makes neurons the same) and grouped paths of each.
        n_permutations: shuffles of the agreement of paths; of the similarities five times as many.
        seed: of all shuffles.

    Returns:
        A row per pair: ``method``, ``other``, ``n_images`` that both have; for methods of one model ``overlap``,
        ``expected`` and ``overlap_p``, see :class:`PathAgreement`, else NaN; ``similarity_r`` and ``similarity_p``, the
        Mantel test of the two class similarities over the classes that both have, NaN for fewer than four classes.

    Raises:
        NeuronPathError: for arguments out of range.
    """
    rows: list[dict[str, Any]] = []
    for (name, model, one), (other_name, other_model, other) in itertools.combinations(methods, 2):
        shared = np.intersect1d(one.images, other.images)
        row: dict[str, Any] = {"method": name, "other": other_name, "n_images": len(shared)}
        row |= dict.fromkeys(("overlap", "expected", "overlap_p", "similarity_r", "similarity_p"), float("nan"))
        if len(shared):
            ours, theirs = (paths.take(np.flatnonzero(np.isin(paths.images, shared))) for paths in (one, other))
            if model == other_model and one.n_blocks == other.n_blocks:
                agreed = path_agreement(ours, theirs, n_permutations=n_permutations, seed=seed)
                row |= {"overlap": agreed.overlap, "expected": agreed.expected, "overlap_p": agreed.p}
            if found := _alike(ours, theirs, 5 * n_permutations, seed):
                row |= {"similarity_r": found[0], "similarity_p": found[1]}
        rows.append(row)
    columns = ("method", "other", "n_images", "overlap", "expected", "overlap_p", "similarity_r", "similarity_p")
    return pd.DataFrame(rows, columns=list(columns))


def _alike(one: ClassPaths, other: ClassPaths, n_permutations: int, seed: int) -> tuple[float, float] | None:
    """Mantel correlation of the class similarities, where there is one."""
    if not np.array_equal(one.classes, other.classes) or one.n_classes < _LEAST_CLASSES:
        return None
    ours, theirs = (class_similarity(count_usage(paths)) for paths in (one, other))
    pairs = np.triu_indices(len(ours), k=1)
    if min(np.ptp(ours[pairs]), np.ptp(theirs[pairs])) < 1e-12:
        return None
    found = mantel(ours, theirs, n_permutations=n_permutations, seed=seed)
    return found.r, found.p
