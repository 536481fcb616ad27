"""Sums within classes whose images are shuffled many times over: what a permutation test compares."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

_BATCH: Final = 2**22
"""Numbers that a batch of shuffles handles at once."""
_FEW: Final = 8
"""Classes up to which products with all images are faster than picking the pairs within classes."""


def squared_counts(
    incidence: sparse.csr_array, starts: NDArray[np.int64], orders: NDArray[np.int32]
) -> NDArray[np.float64]:
    """Σ count² over classes and features, where a count is how many images of a class have a feature.

    Args:
        incidence: (n, F) 1 where an image has a feature.
        starts: (C,) where each class begins in an order.
        orders: (R, n) orders of the images, which are dealt to the classes in turn.

    Returns:
        (R,) sums, exact.
    """
    sums = [_squares(incidence, starts, batch) for batch in _batches(orders, incidence.nnz)]
    return np.concatenate(sums).astype(np.float64)


def _squares(incidence: sparse.csr_array, starts: NDArray[np.int64], orders: NDArray[np.int32]) -> NDArray[np.int64]:
    """The same for orders that fit into memory at once, by one product."""
    (n_orders, n_images), n_classes = orders.shape, len(starts)
    begins = starts + n_images * np.arange(n_orders)[:, None]
    pointers = np.append(begins.ravel(), orders.size)
    ones = np.ones(orders.size, dtype=np.int64)
    one_hot = sparse.csr_array((ones, orders.ravel(), pointers), shape=(n_orders * n_classes, n_images))
    counts = sparse.csr_array(one_hot @ incidence)
    sums = np.concatenate([[0], np.cumsum(counts.data**2)])
    return np.diff(sums[counts.indptr[::n_classes]])


def sums_within(overlaps: NDArray[np.float64], labels: NDArray[np.int32], n_classes: int) -> NDArray[np.float64]:
    """The sum over the pairs of images that are of the same class, for each way to deal the classes.

    Args:
        overlaps: (m, w) of the first m images with all w.
        labels: (R, w) the images' classes, dealt in R ways.
        n_classes: C.

    Returns:
        (R,) sums.
    """
    return (_by_products if n_classes <= _FEW else _by_picking)(overlaps, labels, n_classes)


def _by_products(overlaps: NDArray[np.float64], labels: NDArray[np.int32], n_classes: int) -> NDArray[np.float64]:
    """The sums by matrix products, whose cost grows with the classes."""
    n_rows, width = overlaps.shape
    sums = []
    for batch in _batches(labels, n_classes * width):
        one_hot = (batch[:, None] == np.arange(n_classes)[:, None]).astype(np.float64)
        products = (overlaps @ one_hot.reshape(-1, width).T).reshape(n_rows, len(batch), n_classes)
        own = np.take_along_axis(products, batch[:, :n_rows].T[:, :, None], axis=2)
        sums.append(own.sum(axis=(0, 2)))
    return np.concatenate(sums)


def _by_picking(overlaps: NDArray[np.float64], labels: NDArray[np.int32], n_classes: int) -> NDArray[np.float64]:
    """The same sums by picking the pairs within each class, whose cost falls as the classes become more."""
    n_rows, width = overlaps.shape
    flat = overlaps.ravel()
    sums = np.zeros(len(labels))
    for index, row in enumerate(labels):
        ordered = np.argsort(row, kind="stable")
        ends = np.cumsum(np.bincount(row, minlength=n_classes))
        for members in np.split(ordered, ends[:-1]):
            own = members[: np.searchsorted(members, n_rows)]
            sums[index] += flat.take(own[:, None] * width + members).sum()
    return sums


def _batches(rows: NDArray[np.int32], n_values: int) -> Iterator[NDArray[np.int32]]:
    """Rows, as many at once as ``n_values`` for each allow."""
    size = max(1, _BATCH // max(n_values, 1))
    for begin in range(0, len(rows), size):
        yield rows[begin : begin + size]
