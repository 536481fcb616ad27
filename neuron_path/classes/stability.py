"""How much of the class statistics would come out again with other images: random halves of them compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from neuron_path.classes.class_paths import ClassPaths, check_classes
from neuron_path.classes.similarity import unit_rows
from neuron_path.errors import NeuronPathError


@dataclass(frozen=True, slots=True)
class Spread:
    """The median over random splits, and the range that holds the share ``confidence`` of them.

    It says how much the choice of the halves matters; it is no confidence interval for other images.
    """

    median: float
    low: float
    high: float
    confidence: float = 0.95


@dataclass(frozen=True, slots=True)
class Stability:
    """Agreement of two random halves of each class's images.

    Attributes:
        usage: mean over classes of the cosine similarity of a class's usage in the two halves; in [0, 1].
        similarity: correlation of the class similarities, over pairs of classes, of one half with those of the other;
            NaN for fewer than three classes, or where all similarities are equal.
        recognised: share of classes whose half is more similar to their own other half than to that of any other class.
        n_splits: the random splits.
        n_classes: the classes with two images or more, which alone are looked at.
        n_images: their images; each half has half of them.
    """

    usage: Spread
    similarity: Spread
    recognised: Spread
    n_splits: int
    n_classes: int
    n_images: int


def split_half_stability(
    paths: ClassPaths, *, n_splits: int = 100, confidence: float = 0.95, seed: int = 0
) -> Stability:
    """Split the images of each class in random halves, again and again, and compare what the halves say.

    Halves have half of the images, so the statistics of all of them are steadier than these numbers: for a correlation
    r, about 2 r / (1 + r) (Spearman 1910, Brown 1910).

    Args:
        paths: grouped paths; classes of one image are left out.
        n_splits: random splits, at least 1.
        confidence: share of the splits that the ranges hold, in (0, 1).
        seed: of the splits.

    Raises:
        NeuronPathError: for fewer than two classes of two images, or arguments out of range.

    >>> from neuron_path.classes.class_paths import make_class_paths
    >>> paths = make_class_paths([[0, 3], [0, 3], [1, 3], [1, 3], [2, 2], [2, 2]], [0, 0, 1, 1, 2, 2])
    >>> split_half_stability(paths, n_splits=3).recognised.median
    1.0
    """
    check_classes(paths, "Stability", pairs=True)
    if n_splits < 1:
        raise NeuronPathError(f"n_splits is {n_splits}; expected 1 or more, such as 100.")
    if not 0 < confidence < 1:
        raise NeuronPathError(f"confidence is {confidence}; expected a number between 0 and 1, such as 0.95.")
    part = paths.take(np.flatnonzero(paths.counts[paths.members] > 1))
    check_classes(part, "Stability")
    numbers = np.array([_compare(one, other) for one, other in _halves(part, n_splits, seed)])
    spreads = [_spread(column, confidence) for column in numbers.T]
    return Stability(*spreads, n_splits=n_splits, n_classes=part.n_classes, n_images=part.n_images)


def _halves(paths: ClassPaths, n_splits: int, seed: int) -> Iterator[tuple[sparse.csr_array, sparse.csr_array]]:
    """Unit usage vectors of the classes, (C, neurons in use), in the two halves of each split."""
    rng = np.random.default_rng(seed)
    incidence = paths.incidence()
    incidence = sparse.csr_array(incidence[:, np.unique(incidence.indices)])
    # The position of an image in its class tells its half; of an odd number the second half has one more.
    place = np.arange(paths.n_images) - paths.starts[paths.members]
    first = place < (paths.counts // 2)[paths.members]
    for _ in range(n_splits):
        shuffled = np.lexsort((rng.random(paths.n_images), paths.members))
        halves = (sparse.csr_array(_one_hot(paths, shuffled, chosen) @ incidence) for chosen in (first, ~first))
        one, other = (unit_rows(half) for half in halves)
        yield one, other


def _one_hot(paths: ClassPaths, order: NDArray[np.int64], chosen: NDArray[np.bool_]) -> sparse.csr_array:
    """(C, n), 1 for the images of the class that are chosen; ``order`` lists the images class by class."""
    counts = np.add.reduceat(chosen.astype(np.int64), paths.starts)
    pointers = np.concatenate([[0], np.cumsum(counts)])
    images = order[chosen]
    ones = np.ones(len(images), dtype=np.int64)
    return sparse.csr_array((ones, images, pointers), shape=(paths.n_classes, paths.n_images))


def _compare(one: sparse.csr_array, other: sparse.csr_array) -> tuple[float, float, float]:
    across = (one @ other.T).toarray()
    own = across.diagonal().copy()
    np.fill_diagonal(across, -np.inf)
    pairs = np.triu_indices(len(own), k=1)
    inside = [(half @ half.T).toarray()[pairs] for half in (one, other)]
    varied = len(own) > 2 and all(np.ptp(values) > 1e-12 for values in inside)
    correlation = float(np.corrcoef(*inside)[0, 1]) if varied else float("nan")
    return float(own.mean()), correlation, float((own > across.max(axis=1) + 1e-12).mean())


def _spread(values: NDArray[np.float64], confidence: float) -> Spread:
    low, median, high = np.quantile(values, [(1 - confidence) / 2, 0.5, (1 + confidence) / 2])
    return Spread(float(median), float(low), float(high), confidence)
