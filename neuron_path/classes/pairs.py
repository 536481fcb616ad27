"""The path overlap of every two images, a few rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from neuron_path.classes.class_paths import ClassPaths

BATCH_VALUES: Final = 2**24
"""Pairs held at once: 128 MiB of float64, and as much again while they are made."""

_POPULAR: Final = 0.08
"""Above this share of the images a neuron is counted faster by a dense product than by a sparse one."""


def pair_overlaps(paths: ClassPaths) -> Iterator[tuple[int, int, NDArray[np.float64]]]:
    """Yield the path overlap of some images with all images, until every image was among the first.

    The overlap of two images is the mean over blocks of the Jaccard index of their path neurons there: with i neurons
    in common, i / (2 k − i). For one neuron a block it is the share of blocks in which they chose the same.

    The neurons in common are counted by products of the images' incidence with itself: of the few neurons that many
    images have as a dense matrix, of all others as a sparse one.

    Yields:
        ``begin``, ``end`` and the overlaps (end − begin, n), in [0, 1], of the images ``begin`` to ``end``; 1 of each
        image with itself.

    >>> from neuron_path.classes.class_paths import make_class_paths
    >>> [overlaps.tolist() for _, _, overlaps in pair_overlaps(make_class_paths([[0, 3], [1, 3]], [0, 1]))]
    [[[1.0, 0.5], [0.5, 1.0]]]
    """
    n, top_k = paths.n_images, paths.top_k
    blocks = [_split(paths, block) for block in range(paths.n_blocks)]
    indices = np.arange(top_k + 1) / (2 * top_k - np.arange(top_k + 1))
    count = np.min_scalar_type(top_k)
    size = max(1, BATCH_VALUES // n)
    for begin in range(0, n, size):
        end = min(begin + size, n)
        total, jaccard = np.zeros((end - begin, n)), np.empty((end - begin, n))
        for popular, rare, rare_transposed in blocks:
            dense = popular.toarray()
            common = dense[begin:end] @ dense.T
            found = (rare[begin:end] @ rare_transposed).tocoo()
            common[found.coords] += found.data
            # Looked up, not computed: i is one of k + 1 whole numbers, and memory for the result is there already.
            total += np.take(indices, common.astype(count), out=jaccard, mode="clip")
        total /= paths.n_blocks
        # A neuron that no other image has is not counted, but each image has all neurons in common with itself.
        total[np.arange(end - begin), np.arange(begin, end)] = 1
        yield begin, end, total


def _split(paths: ClassPaths, block: int) -> tuple[sparse.csr_array, sparse.csr_array, sparse.csr_array]:
    """Which images have which neurons of a block, (n, neurons) float32: popular ones, others, the others transposed.

    Whole numbers, so that no sum of them is rounded. Neurons that only one image has are left out.
    """
    n = paths.n_images
    chosen = paths.paths[:, block].ravel()
    used, columns, times = np.unique(chosen, return_inverse=True, return_counts=True)
    pointers = np.arange(n + 1) * paths.top_k
    ones = np.ones(len(chosen), dtype=np.float32)
    incidence = sparse.csr_array((ones, columns.ravel(), pointers), shape=(n, len(used)))
    popular = times > _POPULAR * n
    rare = sparse.csr_array(incidence[:, ~popular & (times > 1)])
    return sparse.csr_array(incidence[:, popular]), rare, sparse.csr_array(rare.T)
