"""Whether images of a class have more of their paths in common than images of different classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from neuron_path.classes.class_paths import ClassPaths, check_classes
from neuron_path.classes.pairs import pair_overlaps
from neuron_path.classes.usage import count_usage
from neuron_path.errors import NeuronPathError
from neuron_path.stats.intervals import Interval, jackknife_interval
from neuron_path.stats.permutation import squared_counts, sums_within

_ROUNDING: Final = 1e-11
"""Sums that differ by less, relative to themselves, differ by rounding only."""


@dataclass(frozen=True, eq=False)
class OverlapTest:
    """Mean path overlap of images of the same class and of different classes.

    Attributes:
        within: mean overlap over all pairs of images of the same class, in [0, 1].
        between: mean overlap over all pairs of images of different classes, in [0, 1].
        difference: within − between, with its interval.
        p: one-sided p-value of the permutation test, in (0, 1].
        n_permutations: shuffles behind it.
        within_pairs: pairs of images of the same class.
        between_pairs: pairs of images of different classes.
        class_overlap: (C, C) mean overlap of an image of one class with one of another; on the diagonal of two of the
            same class, NaN for a class of one image.
        own: (n,) each image's mean overlap with the others of its class, NaN where it is the only one.
        others: (n,) each image's mean overlap with the images of other classes.
        nearest: (n,) position of the class with whose images, itself left out, each image shares most on average; ties:
            the first.
    """

    within: float
    between: float
    difference: Interval
    p: float
    n_permutations: int
    within_pairs: int
    between_pairs: int
    class_overlap: NDArray[np.float64]
    own: NDArray[np.float64]
    others: NDArray[np.float64]
    nearest: NDArray[np.int64]

    def to_dict(self) -> dict[str, Any]:
        """Return the headline numbers by name."""
        return {
            "within": self.within,
            "between": self.between,
            "difference": self.difference.to_dict(),
            "p": self.p,
            "n_permutations": self.n_permutations,
            "within_pairs": self.within_pairs,
            "between_pairs": self.between_pairs,
        }


def overlap_test(
    paths: ClassPaths, *, n_permutations: int = 999, confidence: float = 0.95, seed: int = 0
) -> OverlapTest:
    """Compare the path overlap within classes with that between classes.

    The overlap of two images is the mean over blocks of the Jaccard index of their path neurons. If paths did not
    depend on the class, shuffling the classes over the images would change nothing: p = (1 + #{shuffles whose within −
    between is at least the observed one}) / (1 + n_permutations) (Phipson and Smyth 2010). The sum over all pairs is
    the same for each shuffle, so it is enough to sum the pairs within classes.

    For one neuron a block these sums follow from counts, Σ over classes, blocks and neurons of count · (count − 1) / 2,
    and no pair is ever formed. For more, all n² overlaps are made once, in chunks.

    Args:
        paths: grouped paths.
        n_permutations: shuffles, at least 1.
        confidence: of the difference's interval, in (0, 1): the normal interval with the jackknife's standard error
            over images (Arvesen 1969), because pairs that share an image are not independent.
        seed: of the shuffles.

    Raises:
        NeuronPathError: for one class only, one image in each class, or arguments out of range.

    >>> from neuron_path.classes.class_paths import make_class_paths
    >>> test = overlap_test(make_class_paths([[0, 3], [0, 3], [1, 2], [1, 3]], [0, 0, 1, 1]))
    >>> test.within, test.between
    (0.75, 0.25)
    """
    check_classes(paths, "The overlap test", pairs=True)
    if n_permutations < 1:
        raise NeuronPathError(f"n_permutations is {n_permutations}; expected 1 or more, such as 999.")
    if not 0 < confidence < 1:
        raise NeuronPathError(f"confidence is {confidence}; expected a number between 0 and 1, such as 0.95.")
    rng = np.random.default_rng(seed)
    orders = np.stack(
        [np.arange(paths.n_images), *(rng.permutation(paths.n_images) for _ in range(n_permutations))], dtype=np.int32
    )
    to_class, shuffled = (_by_counts if paths.top_k == 1 else _by_pairs)(paths, orders)
    reached = int((shuffled[1:] >= shuffled[0] - _ROUNDING * abs(shuffled[0])).sum())
    return _summarise(paths, to_class, (1 + reached) / (1 + n_permutations), n_permutations, confidence)


def _by_counts(paths: ClassPaths, orders: NDArray[np.int32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sums for one neuron a block, see :func:`_by_pairs`.

    A neuron that c images of a class have is shared by c² of their ordered pairs, themselves included.
    """
    incidence = paths.incidence()
    to_class = (incidence @ count_usage(paths).counts.T).toarray() / paths.n_blocks
    # What only one image has adds the same to each shuffle.
    shared = sparse.csr_array(incidence[:, np.bincount(incidence.indices, minlength=int(paths.n_neurons.sum())) > 1])
    return to_class, squared_counts(shared, paths.starts, orders)


def _by_pairs(paths: ClassPaths, orders: NDArray[np.int32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum overlaps for any number of neurons a block.

    Args:
        paths: grouped paths.
        orders: (R, n) orders of the images; in each, the first ``counts[0]`` images form the first class, and so on.

    Returns:
        (n, C) the sum of each image's overlaps with the images of each class, itself included; (R,) the sum of the
        overlaps of all ordered pairs within classes, themselves included.
    """
    to_class = np.empty((paths.n_images, paths.n_classes))
    within = np.zeros(len(orders))
    labels = np.empty_like(orders)
    np.put_along_axis(labels, orders, paths.members[None].astype(np.int32), axis=1)
    for begin, end, overlaps in pair_overlaps(paths):
        to_class[begin:end] = np.add.reduceat(overlaps, paths.starts, axis=1)
        # Each pair of images is summed once: in the row of the earlier one, and twice over.
        overlaps[:, end:] *= 2
        within += sums_within(overlaps[:, begin:], labels[:, begin:], paths.n_classes)
    return to_class, within


def _summarise(
    paths: ClassPaths, to_class: NDArray[np.float64], p: float, n_permutations: int, confidence: float
) -> OverlapTest:
    n, members, counts = paths.n_images, paths.members, paths.counts
    same = to_class[np.arange(n), members] - 1
    other = to_class.sum(axis=1) - 1 - same
    n_same = counts[members] - 1
    n_other = n - counts[members]
    within, between = same.sum() / n_same.sum(), other.sum() / n_other.sum()
    sums = np.add.reduceat(to_class, paths.starts, axis=0) - np.diag(counts)
    pairs = np.outer(counts, counts) - np.diag(counts)
    with np.errstate(invalid="ignore", divide="ignore"):
        own, class_overlap = same / n_same, sums / pairs
        # An image is in twice as many ordered pairs as it has partners.
        without = (same.sum() - 2 * same) / (n_same.sum() - 2 * n_same)
        without -= (other.sum() - 2 * other) / (n_other.sum() - 2 * n_other)
    return OverlapTest(
        within=float(within),
        between=float(between),
        difference=jackknife_interval(float(within - between), without, confidence),
        p=p,
        n_permutations=n_permutations,
        within_pairs=int(n_same.sum()) // 2,
        between_pairs=int(n_other.sum()) // 2,
        class_overlap=class_overlap,
        own=own,
        others=other / n_other,
        nearest=_nearest(to_class, members, counts),
    )


def _nearest(to_class: NDArray[np.float64], members: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Each image's class of the largest mean overlap; it has none with its own where it is the only one there."""
    rows = np.arange(len(members))
    means = to_class / counts
    alone = counts[members] == 1
    means[rows, members] = np.where(alone, -1, (to_class[rows, members] - 1) / np.maximum(counts[members] - 1, 1))
    # Rounded, so that the order of summation decides no tie.
    return means.round(11).argmax(axis=1)
