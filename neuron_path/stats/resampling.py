"""The random draws behind intervals and tests, made once for many rows of numbers and in bounded memory.

K rows (methods, or differences of methods) of the same n images share their draws: the rows are then multiplied by a
matrix of draws, which is some hundred times faster than to draw for each row alone, and the answer for a row does not
depend on which others are there.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

BATCH_VALUES = 2**22
"""Values drawn at once: 32 MiB of float64, whatever the number of images."""

ROUNDING = 1e-13
"""Sums that differ by less, relative to the sum of the absolute values that were added, differ by rounding only."""

_NOISE = 1e-11
"""Sums of differences that differ by less, relative to the sum of their absolute values, are ties."""


def alike(keys: Iterable[Hashable]) -> list[list[int]]:
    """Return the indices of equal keys together: what has as many images can share its draws.

    >>> alike([50, 13, 50])
    [[0, 2], [1]]
    """
    found: dict[Hashable, list[int]] = {}
    for index, key in enumerate(keys):
        found.setdefault(key, []).append(index)
    return list(found.values())


def resampled_means(rows: NDArray[np.float64], n_resamples: int, seed: int) -> NDArray[np.float64]:
    """Return the means of ``rows`` over images redrawn with replacement.

    Args:
        rows: (K, n) values, finite.
        n_resamples: number R of redrawn samples.
        seed: of the draws, which are those of ``scipy.stats.bootstrap`` with a generator of the same seed.

    Returns:
        (K, R) means.

    >>> resampled_means(np.array([[1.0, 2.0, 3.0]]), n_resamples=4, seed=0).shape
    (1, 4)
    """
    n = rows.shape[1]
    rng = np.random.default_rng(seed)
    means = np.empty((len(rows), n_resamples))
    for begin, end in _batches(n_resamples, max(1, BATCH_VALUES // n)):
        drawn = rng.integers(n, size=(end - begin, n))
        # How often each image was drawn: the mean of a redrawn sample is a product with these counts.
        drawn += n * np.arange(end - begin)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)
        means[:, begin:end] = rows @ counts.T.astype(np.float64) / n
    return means


def sign_flip_p_values(
    rows: NDArray[np.float64], pairs: NDArray[np.int64], n_resamples: int, seed: int
) -> NDArray[np.float64]:
    """Return for each pair of rows how often their difference is as far from 0 when the signs of its values are random.

    Where there are no more than ``n_resamples`` + 1 ways to choose the signs (up to a common sign, which changes
    nothing), all are tried and the answer is exact; else that many are drawn, and the observed one counts as one more.

    Args:
        rows: (K, n) values, finite.
        pairs: (P, 2) the rows whose difference is summed.
        n_resamples: number of draws.
        seed: of the draws.

    Returns:
        (P,) two-sided p-values in (0, 1]; 1 for a single image and where all differences are 0.

    >>> rows = np.array([[1.0, 2.0, 3.0], [1.0, -1.0, 0.0], [0.0, 0.0, 0.0]])
    >>> sign_flip_p_values(rows, np.array([[0, 2], [1, 2]]), n_resamples=99, seed=0)
    array([0.25, 1.  ])
    """
    first, second = pairs.T
    rounding = ROUNDING * np.abs(rows).sum(axis=1)
    observed = np.empty(len(pairs))
    for index, (i, j) in enumerate(pairs):
        difference = rows[i] - rows[j]
        observed[index] = abs(difference.sum()) - _NOISE * np.abs(difference).sum() - rounding[i] - rounding[j]
    n = rows.shape[1]
    exact = n <= 60 and 2 ** (n - 1) <= n_resamples + 1
    reached = np.zeros(len(pairs), dtype=np.int64)
    size = max(1, BATCH_VALUES // max(n, len(pairs)))
    for signs in _all_signs(n, size) if exact else _random_signs(n, n_resamples, seed, size):
        sums = rows @ signs.T
        reached += (np.abs(sums[first] - sums[second]) >= observed[:, None]).sum(axis=1)
    return reached / 2 ** (n - 1) if exact else (reached + 1) / (n_resamples + 1)


def _random_signs(n: int, n_resamples: int, seed: int, size: int) -> Iterator[NDArray[np.float64]]:
    words = -(-n // 64)
    generator = np.random.default_rng(seed).bit_generator
    for begin, end in _batches(n_resamples, size):
        raw = generator.random_raw((end - begin) * words).reshape(end - begin, words)
        # As little-endian bytes, so that the signs are the same on every machine.
        bits = np.unpackbits(raw.astype("<u8").view(np.uint8), axis=1, count=n)
        yield 1.0 - 2.0 * bits.astype(np.float64)


def _all_signs(n: int, size: int) -> Iterator[NDArray[np.float64]]:
    """Every choice of signs with the last one plus."""
    for begin, end in _batches(2 ** (n - 1), size):
        bits = (np.arange(begin, end)[:, None] >> np.arange(n)) & 1
        yield 1.0 - 2.0 * bits.astype(np.float64)


def _batches(n_resamples: int, size: int) -> Iterator[tuple[int, int]]:
    for begin in range(0, n_resamples, size):
        yield begin, min(begin + size, n_resamples)
